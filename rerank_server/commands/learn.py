"""`crossrank learn`: from the streams to the next bundle, a day at a time."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from deploy.loop.daily import run_due_rounds
from deploy.loop.learning import Learner, Round, RoundPlan
from deploy.loop.log_tables import LogTables
from deploy.loop.played_days import DAY, Days
from deploy.loop.publishing import BundlePublisher, Canary, Serving
from deploy.loop.streams import open_streams
from es_plugin_config.cluster import Login
from rerank_server.access_log import read_shopper_key
from rerank_server.client.bundle_admin import BundleAdmin
from rerank_server.client.rerank_client import RerankClient
from rerank_server.commands.options import (
    JsonFlag,
    TlsCaOption,
    TlsClientOption,
    TokenFileOption,
    connect,
)
from rerank_server.commands.output import write_json, write_notice, write_table
from rerank_server.commands.stream_options import (
    DEFAULT_STREAMS,
    ApiKeyFileOption,
    CaFileOption,
    StreamsOption,
)
from rerank_server.contract.errors import RerankError

if find_spec("paddle") is None:  # it is imported much later, after the streams were read
    raise ModuleNotFoundError("No module named 'paddle'", name="paddle")


class LearnOptionsError(RerankError):
    """Options that do not go together."""


app = typer.Typer(help="Learn from the streams, day by day, and publish what got better.")


@app.command()
def learn(  # noqa: PLR0913 - one argument an option
    folder: Annotated[Path, typer.Argument(help="Learning folder: tables, runs, bundles.")],
    shop: Annotated[Path, typer.Argument(help="Folder of products.jsonl and interactions.jsonl.")],
    *,
    streams: StreamsOption = DEFAULT_STREAMS,
    api_key_file: ApiKeyFileOption = None,
    ca_file: CaFileOption = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML of the training run; its log must be `log.toml`. A small network, or one"
            " like that of --serving-run."
        ),
    ] = None,
    window_days: Annotated[int, typer.Option(help="Newest days trained on.", min=1)] = 28,
    baseline_days: Annotated[
        int,
        typer.Option(
            help="Days back that drift is measured by; fewer than the streams keep"
            " (`data_retention` of crossrank-searches: 30).",
            min=1,
        ),
    ] = 28,
    correction: Annotated[
        bool, typer.Option(help="Weight clicks by the inverse of their place's propensity.")
    ] = True,
    serving: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `bundle` and `products` that serve before the first round; what"
            " --server serves, if it is none that was published from here."
        ),
    ] = None,
    serving_run: Annotated[
        Path | None, typer.Option(help="Folder of the training run of --serving.")
    ] = None,
    warm_start: Annotated[
        bool,
        typer.Option(help="Start from the weights of what serves, where its run is known."),
    ] = True,
    shopper_key: Annotated[
        Path | None,
        typer.Option(help="Key by which the gateway hashed the shoppers of interactions.jsonl."),
    ] = None,
    day_seconds: Annotated[
        int, typer.Option(help="Length of a day, to play days in minutes.", min=1, max=86_400)
    ] = 86_400,
    days_from: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%S"], help="UTC at which the first such day begins."),
    ] = None,
    server: Annotated[
        str, typer.Option("--server", metavar="HOST:PORT", help="Takes a new bundle as challenger.")
    ] = "",
    canary_percent: Annotated[
        float, typer.Option(help="Share of the shoppers for it.", min=0, max=100)
    ] = 5.0,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Read every finished day that was not read yet; check, train, compare, publish or refuse."""
    if serving is None and serving_run is not None:
        raise LearnOptionsError("--serving-run: got no --serving, want both")
    days = _days(day_seconds, days_from)
    plan = RoundPlan(
        folder,
        config.read_text(encoding="utf-8") if config else "",
        window_days,
        baseline_days,
        correct_position_bias=correction,
        progress=not as_json and sys.stderr.isatty(),
        days=days,
        warm_start=warm_start,
    )
    key = None if shopper_key is None else read_shopper_key(shopper_key)
    first = None if serving is None else Serving(serving, serving_run)
    rounds: list[Round] = []
    with ExitStack() as stack:
        opened = stack.enter_context(open_streams(Login(streams, api_key_file, ca_file)))
        canary = None
        if server:
            connection = connect(server, token_file, tls_ca, tls_client)
            canary = Canary(
                stack.enter_context(BundleAdmin(connection)),
                stack.enter_context(RerankClient(connection)),
                canary_percent,
            )
        learner = Learner(plan, LogTables(folder, shop, key), opened)
        publisher = BundlePublisher(folder, canary, first)
        for each in run_due_rounds(learner, publisher, datetime.now(UTC)):
            write_notice(f"{each.day}: {each.decision} {'; '.join(each.reasons)}".rstrip())
            rounds.append(each)
    if as_json:
        write_json([_plain(each) for each in rounds])
        return
    write_table(
        (
            "day",
            "decision",
            "bundle",
            "compared with",
            "canary",
            "serving",
            "new",
            "low",
            "high",
            "seconds",
        ),
        [
            [
                each.day.isoformat(),
                each.decision,
                each.candidate.bundle_id[:12] if each.candidate else None,
                each.serving_bundle_id[:12] or "retrieval",
                each.canary_bundle_id[:12] or None,
                *_overall(each),
                each.duration_s,
            ]
            for each in rounds
        ],
    )


def _days(seconds: int, begin: datetime | None) -> Days:
    length = timedelta(seconds=seconds)
    if begin is None:
        if length < DAY:
            raise LearnOptionsError("--day-seconds: got no --days-from, want both")
        return Days()
    return Days(begin.replace(tzinfo=UTC), length)


def _overall(each: Round) -> list[float | None]:
    if not each.comparisons:
        return [None] * 4
    overall = each.comparisons[0]
    return [overall.serving, overall.candidate, overall.low, overall.high]


def _plain(each: Round) -> dict[str, object]:
    from dataclasses import asdict

    values = asdict(each)
    values["day"] = each.day.isoformat()
    if each.candidate is not None:
        for name in ("folder", "run", "started_from"):
            path = values["candidate"][name]
            values["candidate"][name] = None if path is None else str(path)
    return values
