"""The page of the learning benchmark: one self-contained HTML file of all data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from trainer.atomic_text import write_text
from trainer.learning import plots
from trainer.learning.rankings import CROSSRANK, NETWORK, SINGLE, SINGLE_TREES, TREES
from trainer.learning.results import read_learning
from trainer.learning.tables import (
    bracket,
    by_figure,
    full_figures,
    known,
    losses,
    missing_data,
    overview,
    shown,
    tenth_verdict,
)
from trainer.reports.sheet import templates

_MOST_CATEGORIES = 30
_MOST_FOLDS = 15


def write_learning_page(path: Path, results: Path) -> Path:
    """Write the page of a results file, all at once or not at all."""
    value = read_learning(results)
    environment = templates()
    environment.filters |= {"shown": shown, "bracket": bracket, "verdict": verdict}
    page = environment.get_template("learning.html").render(
        crossrank=CROSSRANK,
        trees=TREES,
        network=NETWORK,
        rows=overview(value),
        plot=Markup(_overview_plot(value)),
        data_sets=[_data_set(name, entry) for name, entry in sorted(value["data_sets"].items())],
        missing=missing_data(value),
    )
    write_text(path, page)
    return path


def verdict(value: dict[str, Any]) -> str:
    """Return `win`, `loss` or `tie` of a difference as the results file has it."""
    if value["low"] is None:
        return "tie"
    return "win" if value["low"] > 0 else "loss" if value["high"] < 0 else "tie"


def _overview_plot(results: dict[str, Any]) -> str:
    rows = [(row.name, row.against_trees) for row in overview(results)]
    return plots.plot_differences(rows, f"{CROSSRANK} minus {TREES}, NDCG@10")


def _data_set(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    data = known(name)
    return {
        "name": name,
        "entry": entry,
        "published": data.published if data else "none",
        "tasks": [
            _task(task, result, entry) for task, result in entry["evaluation"]["tasks"].items()
        ],
        "full": full_figures(entry),
        "curves": [
            {"curve": curve, "plot": Markup(plots.plot_curve(curve))}
            for curve in entry.get("curves", [])
        ],
        "tenth": tenth_verdict(entry["curves"]) if entry.get("curves") else "",
        "calibration": _calibration(entry.get("calibration", {})),
        "guard": entry.get("guard", [])[:_MOST_FOLDS],
    }


def _task(name: str, result: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    against = result["differences"].get(TREES, {"by_category": {}})["by_category"]
    largest = sorted(against, key=lambda category: -result["category_pages"].get(category, 0))
    rows = [(category, against[category]) for category in largest[:_MOST_CATEGORIES]]
    task = {
        "name": name,
        "result": result,
        "rankings": by_figure(result),
        "losses": losses(result, CROSSRANK).replace("**", ""),
        "costs": entry["costs"],
        "categories": Markup(plots.plot_differences(rows, f"{CROSSRANK} minus {TREES} by category"))
        if len(rows) > 1
        else "",
        "alone": "",
    }
    single = max(
        (ranking for ranking in (SINGLE, SINGLE_TREES) if ranking in result["differences"]),
        key=lambda ranking: result["rankings"][ranking]["metrics"]["ndcg_at_10"]["mean"],
        default=None,
    )
    if single is not None:
        by_category = result["differences"][single]["by_category"]
        task["alone"] = Markup(
            plots.plot_differences(
                list(by_category.items())[:_MOST_CATEGORIES], f"{CROSSRANK} minus {single}"
            )
        )
    return task


def _calibration(value: dict[str, Any]) -> dict[str, Any] | None:
    if not value:
        return None
    return {"rows": value, "plot": Markup(plots.plot_reliability(value["all"]))}
