"""The learning benchmark's results file, one entry per data set."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.atomic_text import write_text
from trainer.evaluation.evaluation import to_json
from trainer.learning.rankings import NETWORK, TREES
from trainer.training.provenance import code_commit, command_line, describe_environment, now

if TYPE_CHECKING:  # so that tables and the page are written without what trains
    from trainer.formats.folder import Reading
    from trainer.learning.benchmark import LearningResult
    from trainer.learning.parts import LearningBudget

RESULTS = "learning.json"


def write_learning(
    out: Path, name: str, result: LearningResult, reading: Reading, budget: LearningBudget
) -> Path:
    """Put the result of one data set into `<out>/learning.json`, beside those of others."""
    path = out / RESULTS
    value = read_learning(path)
    limits = asdict(reading.limits)
    value["data_sets"][name] = without_nan({
        "command": command_line(),
        "commit": code_commit(),
        "evaluated": now(),
        "environment": describe_environment(),
        "format": result.pages.format,
        "protocol": result.pages.protocol,
        "facts": result.pages.facts,
        "limits": limits,
        "budget": asdict(budget),
        "seeds": list(range(1, 1 + budget.seeds)),
        "costs": result.costs,
        "guard": result.choices,
        "calibration": result.calibration,
        "curves": [asdict(curve) for curve in result.curves],
        "kappa": None if result.kappa is None else asdict(result.kappa),
        "tested": result.tested,
        "parts": [asdict(part.origin) | {"facts": part.facts} for part in result.parts],
        "evaluation": to_json(result.evaluation),
        "network_differences": {
            task: {ranking: asdict(value.all) for ranking, value in differences.items()}
            for task, differences in result.network_differences.items()
        },
    })  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, indent=1) + "\n")
    return path


def without_nan(value: Any) -> Any:  # noqa: ANN401  JSON has no narrower type
    """Return plain JSON values with null in place of NaN, tuples as lists."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_learning(path: Path) -> dict[str, Any]:
    """Return the results file, or an empty one where there is none."""
    if not path.exists():
        return {"format_version": 1, "data_sets": {}}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def network_verdict(result: LearningResult) -> str:
    """Return one line on the shared network alone against trees, for the command line."""
    task = next(iter(result.network_differences))
    value = result.network_differences[task][TREES].all
    interval = f"[{value.low:+.4f}, {value.high:+.4f}]"
    return f"{NETWORK} minus {TREES} on {task}: {value.mean:+.4f} {interval}"
