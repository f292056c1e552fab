"""The page of the loop: one HTML file with its pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.demo_elasticsearch.loop_folder import Done
from deploy.demo_elasticsearch.shop_folder import ShopFacts
from trainer.atomic_text import write_text

TEMPLATES = Path(__file__).parent / "templates"
LIVE = "live.js"
# Metric -> what it is called, and whether more is better. A search without a result has no bundle
# and so no arm, which is why the share of those is not compared here.
METRICS: Mapping[str, tuple[str, bool]] = {
    "ctr": ("searches with a click", True),
    "conversion": ("searches with a purchase", True),
    "mrr": ("reciprocal rank of the best click", True),
    "abandoned_searches": ("searches without any action", False),
}
ARMS: Mapping[str, str] = {
    "retrieval": "Elasticsearch alone",
    "current": "reranked by what served",
    "canary": "reranked by what was learned",
}
# The dashboards' pictures in the order shown.
DASHBOARDS = (
    "search-health",
    "what-reranking-does",
    "quality",
    "experiments",
    "learning",
    "one-search",
)
_PREFIX = "crossrank-"


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the page shows.

    Attributes:
        done: What the steps have left.
        shop: Who searches for what.
        running: What runs -> its address.
        pictures: Folder of the dashboards' pictures.
    """

    done: Done
    shop: ShopFacts
    running: Mapping[str, str]
    pictures: Path


def write_page(path: Path, facts: PageFacts) -> None:
    """Write the page, and its script beside it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "figure": _figure, "signed": _signed}
    done = facts.done
    text = environment.get_template("loop.html").render(
        done=done,
        shop=facts.shop,
        running=facts.running,
        arms=_arms(done.quality),
        scales=_scales(done.quality),
        names=ARMS,
        metrics=METRICS,
        experiment=[each for each in done.quality["experiment"] if each["metric"] in METRICS],
        gate=_gate(done.learned),
        drift=[each for each in done.quality["drift"] if each["shifted"]],
        pictures=_pictures(facts.pictures, path.parent),
    )
    write_text(path, text)
    write_text(path.parent / LIVE, (TEMPLATES / LIVE).read_text(encoding="utf-8"))


def _arms(quality: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return arm -> metric -> its row, in the order of `ARMS`."""
    rows = [row for row in quality["quality"] if row["group"] == "variant"]
    arms: dict[str, dict[str, dict[str, Any]]] = {}
    for name in (*ARMS, *sorted({row["name"] for row in rows} - set(ARMS))):
        own = {row["metric"]: row for row in rows if row["name"] == name}
        if own:
            arms[name] = own
    return arms


def _scales(quality: Mapping[str, Any]) -> dict[str, float]:
    """Return metric -> the right end of its axis: the highest end of an interval, and some."""
    ends: dict[str, float] = {}
    for row in quality["quality"]:
        if row["group"] == "variant":
            high = row["high"] or row["value"] or 0.0
            ends[row["metric"]] = max(ends.get(row["metric"], 1e-6), 1.05 * high)
    return ends


def _gate(learned: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the comparisons of the round, all pages first, with what each says."""
    rows = []
    for each in learned["comparisons"]:
        verdict = "undecided"
        if each["low"] is not None and each["low"] > 0:
            verdict = "better"
        elif each["high"] is not None and each["high"] < 0:
            verdict = "worse"
        rows.append({**each, "verdict": verdict})
    return rows


def _pictures(folder: Path, root: Path) -> list[dict[str, str]]:
    found = []
    for name in DASHBOARDS:
        path = folder / f"{_PREFIX}{name}.png"
        if path.exists():
            title = name.replace("-", " ").capitalize()
            found.append({"path": path.relative_to(root).as_posix(), "title": title})
    return found


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
