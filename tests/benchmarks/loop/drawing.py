"""The rounds' figures as one JSON file and one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from trainer.atomic_text import write_text

ARMS = {"corrected": "with position-bias correction", "uncorrected": "without"}
COMMANDS = (
    "python -m tests.benchmarks.loop run --correction on --out FOLDER",
    "python -m tests.benchmarks.loop run --correction off --out FOLDER",
    "python -m tests.benchmarks.loop draw --out FOLDER",
)


def write_results(out: Path, results: Path, setting: dict[str, Any]) -> None:
    """Write `loop.json` and `loop.png` from the figures of the arms that were run."""
    arms = {
        name: json.loads((out / name / "figures.json").read_text(encoding="utf-8"))
        for name in ARMS
        if (out / name / "figures.json").exists()
    }
    ideal = json.loads((out / "bounds.json").read_text(encoding="utf-8"))
    text = json.dumps(
        {"commands": COMMANDS, "setting": setting, "bounds": ideal, "arms": arms}, indent=1
    )
    write_text(results / "loop.json", text + "\n")
    _draw(arms, ideal, results / "loop.png")


def _draw(arms: dict[str, Any], bounds: dict[str, list[float]], path: Path) -> None:
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    for name, rows in arms.items():
        days = [row["round"] for row in rows]
        left.plot(days, [row["true_ndcg_at_10"] for row in rows], marker="o", label=ARMS[name])
        refused = [row for row in rows if row["decision"] == "rejected"]
        left.plot(
            [row["round"] for row in refused],
            [row["true_ndcg_at_10"] for row in refused],
            "kx",
            markersize=9,
        )
    left.plot(bounds["retrieval"], color="grey", linestyle=":", label="retrieval order")
    left.set(xlabel="day", ylabel="true NDCG@10 of the pages shown", title="daily rounds")
    left.legend(loc="center right", fontsize=8)
    left.text(
        0.02, 0.98, "x: the day's new bundle was not published", transform=left.transAxes,
        va="top", fontsize=8,
    )  # fmt: skip
    last = next((row for row in reversed(arms["corrected"]) if row["examination"]), None)
    if last is not None:
        places = range(1, len(last["examination"]) + 1)
        right.plot(places, last["examination"], label="estimated")
        right.plot(places, [1 / place for place in places], linestyle="--", label="true")
    right.set(xlabel="place", ylabel="examination", title="position bias")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)
