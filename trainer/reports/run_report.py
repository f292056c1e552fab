"""What `evaluate` leaves in a run's folder, and the report rebuilt from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.atomic_text import write_text
from trainer.calibration.calibration import BeforeAfter, before_after_from_json
from trainer.calibration.choice import trials_from_json, trials_to_json
from trainer.config_text import toml_value
from trainer.evaluation.evaluation import (
    Evaluation,
    EvaluationError,
    evaluation_from_json,
    plain_json,
    to_json,
)
from trainer.evaluation.evaluation_tables import format_tables
from trainer.evaluation.page_figures import write_figures
from trainer.guard.report import figures_from_json, figures_to_json
from trainer.reports.report import read_training_log, write_report
from trainer.reports.run_plots import plot_curves
from trainer.reports.sheet import Section, Sheet, Table, sheet_text, write_sheet
from trainer.training.run_facts import CURVES, RunFacts, RunFolderError, read_run

if TYPE_CHECKING:
    from trainer.evaluation.comparison import Comparison
    from trainer.evaluation.trade_off import TradeOff

EVALUATION = "evaluation.json"
CALIBRATION = "calibration.json"
FIGURES = "page_figures.npz"
OBJECTIVES = "objectives.json"
CHOICES = "choices.json"
REPORT = "report.html"


def write_comparison(
    folder: Path,
    title: str,
    compared: Comparison,
    command: str,
    trade_offs: Sequence[TradeOff] = (),
) -> None:
    """Write figures, calibration and report of a run that was compared with other rankings."""
    write_text(folder / EVALUATION, json.dumps(to_json(compared.evaluation)))
    calibration = {
        task: [plain_json(asdict(row)) for row in rows]
        for task, rows in compared.calibration.items()
    }
    write_text(folder / CALIBRATION, json.dumps(calibration))
    write_figures(folder / FIGURES, compared.figures)
    choices: dict[str, Any] = {
        "calibration": trials_to_json(compared.calibration_trials),
        "guard": None,
    }
    if compared.guard is not None:
        choices["guard"] = figures_to_json(compared.guard)
    write_text(folder / CHOICES, json.dumps(choices))
    objectives: dict[str, Any] = plain_json(
        {
            "figures": {
                task: [asdict(row) for row in rows] for task, rows in compared.objectives.items()
            },
            "trade_offs": [asdict(curve) for curve in trade_offs],
        }
    )
    write_text(folder / OBJECTIVES, json.dumps(objectives))
    write_report(
        folder / REPORT,
        compared.evaluation,
        title=title,
        command=command,
        training_log=folder / CURVES,
        calibration=compared.calibration,
        calibration_trials=compared.calibration_trials,
        guard=compared.guard,
        objectives=objectives,
    )


def rebuild_report(folder: Path) -> str:
    """Write the report of a run anew from what its folder holds; return its tables as text.

    A run that was not evaluated gets its settings, cost and curves.

    Raises:
        RunFolderError: When the folder holds no run, or other files than the run's.
        EvaluationError: When its evaluation cannot be read.
    """
    facts = read_run(folder)
    evaluation = read_evaluation(folder)
    if evaluation is None:
        sheet = _sheet(folder, facts)
        write_sheet(folder / REPORT, sheet)
        return sheet_text(sheet)
    last = facts.calls[-1]
    write_report(
        folder / REPORT,
        evaluation,
        title=facts.name,
        command=last.command,
        training_log=folder / CURVES,
        calibration=_read_calibration(folder),
        **_read_choices(folder),
        objectives=_read_objectives(folder),
        notes=_notes(facts),
        environment=last.environment,
    )
    return "\n".join([facts.name, *_notes(facts), "", format_tables(evaluation)])


def read_evaluation(folder: Path) -> Evaluation | None:
    """Return what `evaluate` found of a run; None when it was not evaluated.

    Raises:
        EvaluationError: When the file is damaged.
    """
    path = folder / EVALUATION
    if not path.exists():
        return None
    try:
        return evaluation_from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise EvaluationError(f"{path}: got {error}, want what `evaluate` writes") from error


def _read_choices(folder: Path) -> dict[str, Any]:
    """Return what `write_report` tells of choices on validation pages; nothing where none is."""
    if not (folder / CHOICES).exists():
        return {}
    value = json.loads((folder / CHOICES).read_text(encoding="utf-8"))
    guard = value["guard"]
    return {
        "calibration_trials": trials_from_json(value["calibration"]),
        "guard": None if guard is None else figures_from_json(guard),
    }


def find_run(name: str, work: Path) -> Path:
    """Return the folder of a run that is given by path, name or the beginning of its name.

    Raises:
        RunFolderError: When there is none, or when the beginning fits several.
    """
    if Path(name).is_dir():
        return Path(name)
    folders = [path for path in sorted((work / "runs").glob("*")) if path.is_dir()]
    exact = [path for path in folders if path.name == name]
    fitting = exact or [path for path in folders if path.name.startswith(name)]
    if len(fitting) != 1:
        got = "none" if not fitting else f"{len(fitting)} ({', '.join(p.name for p in fitting)})"
        known = ", ".join(path.name for path in folders[:20]) or "no run"
        raise RunFolderError(
            f"run {name!r}: got {got} of that name, want a run's folder; {work / 'runs'} has "
            f"{known}"
        )
    return fitting[0]


def _read_calibration(folder: Path) -> dict[str, list[BeforeAfter]]:
    path = folder / CALIBRATION
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {task: [before_after_from_json(row) for row in rows] for task, rows in value.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{path}: got {error!r}, want what `evaluate` writes") from error


def _read_objectives(folder: Path) -> dict[str, Any] | None:
    path = folder / OBJECTIVES
    if not path.exists():
        return None
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{path}: got {error!r}, want what `evaluate` writes") from error
    return value


def _notes(facts: RunFacts) -> tuple[str, ...]:
    pages = "; ".join(
        f"{surface} {counts['train']:,} / {counts['validation']:,} / {counts['test']:,}"
        for surface, counts in facts.data.pages.items()
    )
    seeds = ", ".join(f"{name} {seed}" for name, seed in facts.seeds.items())
    commits = ", ".join(dict.fromkeys(call.commit[:12] for call in facts.calls))
    notes = [
        f"Data {facts.data.content_hash[:12]}, pages to train / validate / test: {pages}.",
        f"Seeds: {seeds}. Code at {commits}. {len(facts.calls)} call(s), {facts.seconds:,.0f} s.",
    ]
    if facts.result is None:
        notes.append("Not finished: the same `train` command goes on from its last checkpoint.")
    else:
        notes.append(
            f"{facts.result.steps:,} steps, best validation NDCG@10 {facts.result.best:.4f} at "
            f"step {facts.result.best_step:,}; {facts.result.parameters:,} parameters, peak "
            f"{facts.result.peak_mib:,.0f} MiB."
        )
    return tuple(notes)


def _sheet(folder: Path, facts: RunFacts) -> Sheet:
    curves = folder / CURVES
    lines = read_training_log(curves) if curves.exists() else []
    settings = tuple((key, shown_value(value)) for key, value in facts.config.items())
    return Sheet(
        facts.name,
        (*_notes(facts), "Not compared with other rankings yet: `evaluate` does that."),
        (
            Section("Curves", plots=(plot_curves({facts.name: lines}),) if lines else ()),
            Section("Settings", tables=(Table(("setting", "value"), settings),)),
            Section(
                "Environment",
                tables=(Table(("what", "value"), tuple(facts.calls[-1].environment.items())),),
            ),
        ),
    )


def shown_value(value: Any) -> str:  # noqa: ANN401  what JSON made of a setting
    """Return a setting as a configuration file writes it."""
    return "none" if value is None else toml_value(value)
