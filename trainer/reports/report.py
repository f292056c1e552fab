"""The report: one self-contained HTML file with every figure, losses shown like wins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rerank_server.contract.errors import RerankError
from trainer.atomic_text import write_text
from trainer.calibration.calibration import BeforeAfter, CalibrationTrial
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.evaluation import Evaluation, TaskResult
from trainer.evaluation.evaluation_tables import (
    bracketed,
    describe_counts,
    figure,
    proper_slices,
    strongest_other,
)
from trainer.guard.report import GuardFigures, describe_guard, describe_promises
from trainer.reports import report_plots
from trainer.reports.sheet import templates
from trainer.reports.trade_off_plots import plot_trade_off
from trainer.training.provenance import describe_environment

TRAINING_LOG = "training.jsonl"


class ReportError(RerankError):
    """A training log that cannot be read."""


def write_report(  # noqa: PLR0913  what a report tells of
    path: Path,
    evaluation: Evaluation,
    *,
    title: str,
    command: str,
    training_log: Path | None = None,
    calibration: Mapping[str, Sequence[BeforeAfter]] | None = None,
    calibration_trials: Sequence[CalibrationTrial] = (),
    guard: GuardFigures | None = None,
    notes: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    objectives: Mapping[str, Any] | None = None,
) -> None:
    """Write the report, all at once or not at all.

    Args:
        path: The HTML file.
        evaluation: The figures.
        title: What was trained on what.
        command: The command that made it.
        training_log: For `read_training_log`; no curves without it.
        calibration: By task, from `compare_calibration`; no calibration section without it.
        calibration_trials: The ways to calibrate that were tried.
        guard: What serves each category and why; no section of the guard without it.
        notes: Sentences under the title, such as the provenance of the data.
        environment: Of the run; this machine's when not given.
        objectives: JSON values: `figures`, by task each head by its own metric, and
            `trade_offs`, curves of two objectives; no section without it.

    Raises:
        ReportError: When the training log cannot be read.
    """
    training = read_training_log(training_log) if training_log is not None else []
    pages = templates()
    pages.filters |= {"figure": figure, "bracketed": bracketed}
    page = pages.get_template("report.html").render(
        title=title,
        command=command,
        environment=describe_environment() if environment is None else environment,
        evaluation=evaluation,
        notes=notes,
        tasks=[_task(name, result, evaluation) for name, result in evaluation.tasks.items()],
        training=Markup(report_plots.plot_training(training)) if training else None,
        calibration=[
            {"task": task, "rows": rows, "plots": _calibration_plots(rows)}
            for task, rows in (calibration or {}).items()
        ],
        objectives=(objectives or {}).get("figures", {}),
        trade_offs=[
            {"curve": curve, "plot": Markup(plot_trade_off(curve))}
            for curve in (objectives or {}).get("trade_offs", [])
        ],
        calibration_trials=calibration_trials,
        guard=guard,
        guard_summary=[]
        if guard is None
        else [describe_guard(guard.choices), *_promise_summary(guard)],
    )
    write_text(path, page)


def _promise_summary(guard: GuardFigures) -> list[str]:
    return [describe_promises(guard.promises)] if guard.promises else []


def read_training_log(path: Path) -> list[dict[str, float]]:
    """Read a training log: JSON lines, each with `step` and other numbers.

    Raises:
        ReportError: When the file is missing or a line is not such an object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ReportError(f"training log: got {error}, want JSON lines") from error
    read: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break  # a run that was killed leaves its last line unfinished
            raise ReportError(f"{path}:{number}: got {error}, want a JSON object") from error
        if not isinstance(value, dict) or "step" not in value:
            raise ReportError(f"{path}:{number}: got {line[:60]!r}, want an object with `step`")
        read.append(
            {key: float(item) for key, item in value.items() if isinstance(item, int | float)}
        )
    return read


def _task(name: str, result: TaskResult, evaluation: Evaluation) -> dict[str, Any]:
    """Return what the template shows of one task."""
    network = evaluation.network
    other = strongest_other(result, network)
    plots = {"rankings": report_plots.plot_rankings(result, network)}
    if other and result.category_pages:
        plots["categories"] = report_plots.plot_categories(result, network, other)
    if proper_slices(result):
        plots["slices"] = report_plots.plot_slices(result, network, other)
    if result.mixed:
        plots["shares"] = report_plots.plot_shares(result, network)
    return {
        "name": name,
        "result": result,
        "counts": describe_counts(result),
        "other": other,
        "rankings": sorted(
            result.rankings.items(), key=lambda item: -item[1].metrics["ndcg_at_10"].mean
        ),
        "slices": proper_slices(result),
        "plots": {key: Markup(plot) for key, plot in plots.items()},
        "wins": _verdicts(result, "win"),
        "losses": _verdicts(result, "loss"),
    }


def _verdicts(
    result: TaskResult, verdict: str
) -> list[tuple[str, list[tuple[str, float, Interval]]]]:
    """Return where the network has this verdict, per other ranking, the strongest first.

    A place is its name, its number of pages and the difference there.
    """
    listed = []
    strongest_first = sorted(
        result.differences.items(),
        key=lambda item: -result.rankings[item[0]].metrics["ndcg_at_10"].mean,
    )
    for ranking, difference in strongest_first:
        places: list[tuple[str, float, Interval]] = [
            ("all pages", result.scored_pages, difference.all)
        ]
        places += [("macro over categories", result.scored_pages, difference.macro)]
        places += [
            (name, result.category_pages[name], value)
            for name, value in sorted(
                difference.by_category.items(), key=lambda item: -abs(item[1].mean)
            )
        ]
        places += [
            (f"slice: {name}", result.slice_pages[name], difference.by_slice[name])
            for name in proper_slices(result)
        ]
        kept = [place for place in places if place[2].verdict == verdict]
        if kept:
            listed.append((ranking, kept))
    return listed


def _calibration_plots(calibration: Sequence[BeforeAfter]) -> list[Markup]:
    objectives = dict.fromkeys(row.objective for row in calibration)
    plots = [report_plots.plot_reliability(calibration)]
    plots += [report_plots.plot_calibration_errors(calibration, name) for name in objectives]
    return [Markup(plot) for plot in plots]
