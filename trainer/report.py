"""The report: one self-contained HTML file with every figure, losses shown like wins."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rerank_server.contract.errors import RerankError
from trainer import report_plots
from trainer.atomic_text import write_text
from trainer.bootstrap import Interval
from trainer.calibration import BeforeAfter
from trainer.evaluation import Evaluation, TaskResult
from trainer.evaluation_tables import (
    bracketed,
    describe_counts,
    figure,
    proper_slices,
    strongest_rival,
)

_LIBRARIES = ("paddlepaddle", "lightgbm", "implicit", "numpy", "onnxruntime", "polars")


class ReportError(RerankError):
    """A training log that cannot be read."""


def write_report(
    path: Path,
    evaluation: Evaluation,
    *,
    title: str,
    command: str,
    environment: Mapping[str, str],
    training: Sequence[Mapping[str, float]] = (),
    calibration: Sequence[BeforeAfter] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the report, all at once or not at all.

    Args:
        path: The HTML file.
        evaluation: The figures.
        title: What was trained on what.
        command: The command that made it.
        environment: Names and values, such as those of `describe_environment`.
        training: The lines of `read_training_log`; no curves without them.
        calibration: From `compare_calibration`; no calibration section without it.
        notes: Sentences under the title, such as the provenance of the data.
    """
    folder = Path(__file__).parent / "templates"
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"figure": figure, "bracketed": bracketed}
    page = templates.get_template("report.html").render(
        title=title,
        command=command,
        environment=environment,
        evaluation=evaluation,
        notes=notes,
        tasks=[_task(name, result, evaluation) for name, result in evaluation.tasks.items()],
        training=Markup(report_plots.plot_training(training)) if training else None,
        calibration=calibration,
        calibration_plots=_calibration_plots(calibration),
    )
    write_text(path, page)


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


def describe_environment() -> dict[str, str]:
    """Return machine, Python and library versions."""
    described = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "system": platform.platform(),
        "Python": platform.python_version(),
    }
    for library in _LIBRARIES:
        try:
            described[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            described[library] = "not installed"
    return described


def _task(name: str, result: TaskResult, evaluation: Evaluation) -> dict[str, Any]:
    """Return what the template shows of one task."""
    network = evaluation.network
    rival = strongest_rival(result, network)
    plots = {"arms": report_plots.plot_arms(result, network)}
    if rival and result.category_pages:
        plots["categories"] = report_plots.plot_categories(result, network, rival)
    if proper_slices(result):
        plots["slices"] = report_plots.plot_slices(result, network, rival)
    if result.mixed:
        plots["shares"] = report_plots.plot_shares(result, network)
    return {
        "name": name,
        "result": result,
        "counts": describe_counts(result),
        "rival": rival,
        "arms": sorted(result.arms.items(), key=lambda item: -item[1].metrics["ndcg_at_10"].mean),
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
        key=lambda item: -result.arms[item[0]].metrics["ndcg_at_10"].mean,
    )
    for arm, difference in strongest_first:
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
            listed.append((arm, kept))
    return listed


def _calibration_plots(calibration: Sequence[BeforeAfter]) -> list[Markup]:
    if not calibration:
        return []
    objectives = dict.fromkeys(row.objective for row in calibration)
    plots = [report_plots.plot_reliability(calibration)]
    plots += [report_plots.plot_calibration_errors(calibration, name) for name in objectives]
    return [Markup(plot) for plot in plots]
