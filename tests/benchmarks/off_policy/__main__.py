"""Bias and variance of off-policy estimates, and of position-bias estimates, on known truth.

    python -m tests.benchmarks.off_policy

Many logs are simulated and each is estimated from; the mean of the estimates against the truth is
the bias, their spread the variance. Writes figures and a picture, and prints the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from tests.benchmarks.off_policy.loop_traffic import loop_curves
from tests.benchmarks.off_policy.simulation import Searches, World
from trainer.atomic_text import write_text
from trainer.encoding.pageset import Doubles
from trainer.evaluation.off_policy import CLIP, DOUBLY_ROBUST, METHODS, NAIVE, estimate_value
from trainer.evaluation.position_bias import fit_examination
from trainer.training.provenance import describe_environment

RESULTS = Path(__file__).parents[1] / "results"
SEARCHES = (200, 1000)
_Z = 1.96

Relevance = Callable[[World, Searches, Doubles], Doubles]


def main() -> None:
    """Simulate, estimate, write and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.off_policy")
    parser.add_argument("--logs", type=int, default=100, help="logs simulated of each size")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    world = World()
    settings = [
        measure(world, searches, source, options.logs)
        for searches in SEARCHES
        for source in ("true", "estimated", "flat")
    ]
    found = {
        "command": "python -m tests.benchmarks.off_policy",
        "environment": describe_environment(),
        "truth": world.truth,
        "clip": CLIP,
        "logs": options.logs,
        "settings": settings,
        "loop": loop_curves(),
    }
    write_text(options.out / "off-policy.json", json.dumps(_rounded(found), indent=1) + "\n")
    draw(found, options.out / "off-policy.png")
    print(format_table(found))


def measure(world: World, searches: int, source: str, logs: int) -> dict[str, Any]:
    """Return bias, spread and coverage of every estimator over many logs of one size.

    Args:
        world: What is simulated.
        searches: Of each log.
        source: Where the examination comes from: `true`, `estimated` by regression EM from the
            same log, or `flat`, as if every place were looked at.
        logs: How many.
    """
    random = np.random.default_rng(searches)
    values: dict[str, list[tuple[float, float]]] = {}
    for _ in tqdm(range(logs), desc=f"{searches} searches, {source} examination"):
        found = world.sample(searches, random)
        examination = world.examination
        if source == "estimated":
            fitted = fit_examination(world.impressions(found), world.places)
            examination = fitted.examination
        elif source == "flat":
            examination = np.ones(world.places)
        models = {
            "": world.cross_fitted_relevance(found, examination),
            ", wrong model": np.full(found.clicked.shape, 0.5),
        }
        for suffix, relevance in models.items():
            logged = world.logged(found, examination, relevance)
            for method in METHODS:
                reads_model = method in METHODS[METHODS.index("direct method") :]
                if suffix and not reads_model:
                    continue
                estimate = estimate_value(logged, method)
                values.setdefault(f"{method}{suffix}", []).append((estimate.value, estimate.error))
    return {
        "searches": searches,
        "examination": source,
        "methods": {name: _summary(np.array(each), world.truth) for name, each in values.items()},
    }


def _summary(estimates: Doubles, truth: float) -> dict[str, float]:
    values, errors = estimates.T
    spread = float(values.std(ddof=1))
    return {
        "bias": float(values.mean() - truth),
        "bias_error": spread / float(np.sqrt(values.size)),
        "standard_deviation": spread,
        "rmse": float(np.sqrt(((values - truth) ** 2).mean())),
        "coverage": float((np.abs(values - truth) <= _Z * errors).mean()),
    }


def format_table(found: dict[str, Any]) -> str:
    """Return the settings as one table."""
    lines = [f"true value {found['truth']:.3f} clicks a search"]
    for setting in found["settings"]:
        lines.append(f"{setting['searches']} searches, {setting['examination']} examination")
        for name, each in setting["methods"].items():
            lines.append(
                f"  {name:28} bias {each['bias']:+.3f} ±{_Z * each['bias_error']:.3f}"
                f"  sd {each['standard_deviation']:.3f}  rmse {each['rmse']:.3f}"
                f"  covers {each['coverage']:.0%}"
            )
    for name, curve in found["loop"]["curves"].items():
        lines.append(f"{name:34} " + " ".join(f"{value:.3f}" for value in curve[:10]))
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw bias and spread of each estimator, and the loop's curves of examination."""
    figure = Figure(figsize=(10.0, 7.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
    upper, lower = parts
    panels = upper.subplots(1, 3, sharey=True)
    chosen = [each for each in found["settings"] if each["searches"] == SEARCHES[0]]
    for axes, setting in zip(panels, chosen, strict=True):
        names = list(setting["methods"])[::-1]
        for at, name in enumerate(names):
            each = setting["methods"][name]
            colour = "#17805a" if name == DOUBLY_ROBUST else "#2457c5"
            colour = "#9aa3b2" if name == NAIVE else colour
            axes.errorbar(
                each["bias"], at, xerr=each["standard_deviation"], fmt="o", color=colour, capsize=3
            )
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(f"{setting['examination']} examination", loc="left", fontsize=10)
        axes.set_xlabel(f"bias and spread, {setting['searches']} searches")
    axes = lower.subplots()
    for name, curve in found["loop"]["curves"].items():
        style = {"color": "black", "linestyle": "--"} if name == "true" else {}
        axes.plot(range(1, len(curve) + 1), curve, label=name, **style)
    axes.set(xlabel="place", ylabel="examination", title="the loop's traffic")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
