"""What a benchmark writes: the results file and the HTML report, and where each part comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.atomic_text import write_text
from trainer.benchmark.kept_parts import FinishedPart
from trainer.calibration.calibration import BeforeAfter, before_after_from_json
from trainer.calibration.choice import trials_from_json
from trainer.config import TrainConfig
from trainer.evaluation.evaluation import Evaluation, to_json
from trainer.guard.report import GuardFigures, describe_guard, describe_promises, figures_to_json
from trainer.reports.report import TRAINING_LOG, write_report
from trainer.training.provenance import (
    code_commit,
    command_line,
    describe_environment,
    now,
    shown_path,
)


def write_results(  # noqa: PLR0913  the parts of the file
    out: Path,
    config_path: Path,
    config: TrainConfig,
    budget: Mapping[str, Any],
    evaluation: Evaluation,
    *,
    guard: GuardFigures,
    finished: Sequence[FinishedPart],
    manifest: Mapping[str, Any],
    work: Path,
) -> None:
    """Write `<out>/<name>.json`, and the report into the folder of the first network.

    Args:
        out: Folder of the results.
        config_path: The run's TOML, for the command.
        config: What it holds.
        budget: `BenchmarkBudget` as plain values.
        evaluation: The figures.
        guard: What the guard chose, and what it did on test pages.
        finished: Every part; those that trained the network tell their `seed`.
        manifest: Of the prepared log.
        work: What the networks' folders are relative to.
    """
    networks = [part for part in finished if "seed" in part.facts]
    first = networks[0].facts
    calibration = {
        task: [before_after_from_json(row) for row in rows]
        for task, rows in first["calibration"].items()
    }
    value = {
        "command": _command(config_path, budget),
        "commit": code_commit(),
        "evaluated": now(),
        "environment": describe_environment(),
        "config": asdict(config),
        "budget": dict(budget),
        "parts": [asdict(part.origin) for part in finished],
        "steps": [part.facts["steps"] for part in networks],
        "seeds": [part.facts["seed"] for part in networks],
        "objective_weights": first["objective_weights"],
        "parameters": first["parameters"],
        "cleaning": manifest["cleaning"],
        "pages": manifest["pages"],
        "calibration": [
            _calibration_line(task, row) for task, rows in calibration.items() for row in rows
        ],
        "calibration_trials": first["calibration_trials"],
        "guard": [
            {"seed": part.facts["seed"], "choices": part.facts["guard"]} for part in networks
        ],
        "guard_effects": figures_to_json(guard)["effects"],
        "guard_promises": figures_to_json(guard)["promises"],
        "guard_summary": [describe_guard(guard.choices), describe_promises(guard.promises)],
        "evaluation": to_json(evaluation),
    }
    write_text(out / f"{config.name}.json", json.dumps(value, indent=1) + "\n")
    folder = work / first["folder"]
    write_report(
        folder / "report.html",
        evaluation,
        title=f"CrossRank: {config.name}",
        command=command_line(),
        training_log=folder / TRAINING_LOG,
        calibration=calibration,
        calibration_trials=trials_from_json(first["calibration_trials"]),
        guard=guard,
    )


def _command(config_path: Path, budget: Mapping[str, Any]) -> str:
    """Return the command that gives these results from the repository's folder."""
    command = f"python -m trainer benchmark --config {shown_path(config_path)}"
    command += f" --seeds {budget['seeds']} --trials {budget['trials']}"
    return command + ("" if budget["single_category"] else " --pooled-only")


def _calibration_line(task: str, row: BeforeAfter) -> dict[str, Any]:
    return {
        "task": task,
        "category": row.category,
        "objective": row.objective,
        "candidates": row.before.rows,
        "positives": row.before.positives,
        "error_before": row.before.error,
        "error_after": row.after.error,
    }
