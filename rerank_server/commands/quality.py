"""`crossrank quality`: what shoppers made of their pages, experiments, and drift."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from deploy.loop.quality_report import (
    STREAM,
    ExperimentPlan,
    QualityReport,
    experiment_documents,
    quality_report,
)
from deploy.loop.search_log import read_search_log
from deploy.loop.streams import open_streams
from es_plugin_config.cluster import Login
from rerank_server.commands.options import JsonFlag
from rerank_server.commands.output import write_json, write_table, write_text
from rerank_server.commands.stream_options import (
    DEFAULT_STREAMS,
    ApiKeyFileOption,
    CaFileOption,
    DayFormats,
    StreamsOption,
    midnight,
)
from rerank_server.contract.errors import RerankError

app = typer.Typer(help="Report clicks, purchases, experiments and drift.")


class QualityOptionsError(RerankError):
    """A span without searches, or an experiment that is none."""


@app.command()
def quality(
    start: Annotated[datetime, typer.Argument(formats=DayFormats, help="First day.")],
    *,
    streams: StreamsOption = DEFAULT_STREAMS,
    api_key_file: ApiKeyFileOption = None,
    ca_file: CaFileOption = None,
    days: Annotated[int, typer.Option(help="How many days.", min=1)] = 1,
    experiment: Annotated[
        str, typer.Option(help="Variants and the share of the second: current,canary,0.1")
    ] = "",
    record: Annotated[
        bool, typer.Option("--record", help="Write the experiment into crossrank-experiments.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Report on days of searches: rates with 95% intervals, an A/B test, interleaving, drift.

    Drift is to as many days before.
    """
    plan = _experiment(experiment)
    first, span = midnight(start), timedelta(days=days)
    with open_streams(Login(streams, api_key_file, ca_file)) as opened:
        searches = read_search_log(opened, first, first + span).searches
        before = read_search_log(opened, first - span, first).searches
        if not searches:
            raise QualityOptionsError(
                f"searches: got none from {first.date()} for {days} days, want some"
            )
        report = quality_report(searches, before, plan)
        if record and plan is not None:
            documents = experiment_documents(report.experiment, plan, datetime.now(UTC))
            opened.append(STREAM, documents)
    if as_json:
        write_json(report.to_json())
    else:
        _write(report)


def _write(report: QualityReport) -> None:
    write_table(
        ("by", "name", "metric", "value", "low", "high", "searches", "shoppers"),
        [
            [
                row.group, row.name, row.metric, row.rate.value, row.rate.low, row.rate.high,
                row.rate.searches, row.rate.shoppers,
            ]
            for row in report.rows
        ],
    )  # fmt: skip
    if report.experiment:
        write_text("")
        write_table(
            ("metric", "lift", "low", "high", "p", "sample ratio", "its p", "decision"),
            [
                [
                    each.metric, each.verdict.lift, each.verdict.low, each.verdict.high,
                    each.verdict.p_value, each.verdict.ratio.observed,
                    each.verdict.ratio.p_value, each.verdict.decision,
                ]
                for each in report.experiment
            ],
        )  # fmt: skip
    if report.interleaving is not None:
        won = report.interleaving
        write_text(
            f"\ninterleaved pages: {won.first} won by the first, {won.second} by the second,"
            f" {won.ties} ties, p = {won.p_value:.3g}"
        )
    if report.drift:
        write_text("")
        write_table(
            ("drift of", "name", "PSI", "p", "shifted"),
            [
                [each.subject, each.name, each.psi, each.p_value, "yes" if each.shifted else "no"]
                for each in report.drift
            ],
        )


def _experiment(text: str) -> ExperimentPlan | None:
    if not text:
        return None
    parts = text.split(",")
    try:
        baseline, arm, share = parts
        return ExperimentPlan(baseline, arm, float(share))
    except ValueError as error:
        raise QualityOptionsError(
            f"--experiment: got {text!r}, want two variants and a share: current,canary,0.1"
        ) from error
