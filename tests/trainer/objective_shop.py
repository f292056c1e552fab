"""A small shop whose search log says more than clicks: dwell, stars, units and money."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.trainer.log_files_for_tests import DAY, START

CATEGORIES = ("books", "games", "tea")
PER_CATEGORY = 8
SHOPPERS = 10
DAYS = 30

LOG = """
adapter = "tables"
products_file = "products.jsonl"
searches_scores = "scores"
searches_file = "searches.jsonl"
events_file = "events.jsonl"
event_kinds = ["click", "purchase"]
train_from = 2017-01-06T00:00:00Z
validation_from = 2017-01-21T00:00:00Z
test_from = 2017-01-26T00:00:00Z

[[objective]]
name = "dwell"
type = "dwell"
kind = "click"
column = "dwell_seconds"

[[objective]]
name = "stars"
type = "graded"
largest = 5
kind = "rating"
column = "stars"

[[objective]]
name = "units"
type = "count"
kind = "purchase"
column = "quantity"

[[objective]]
name = "spend"
type = "value"
kind = "purchase"
column = "paid"
unit = "EUR"
"""

RUN = """
name = "new-objectives"
log = "log.toml"
surfaces = ["search"]
width = 8
hidden = [16, 8]
heads = 2
number_bins = 2
page_layers = 0
pages_per_batch = 12
epochs = 4
learning_rate = 2e-2
average_decay = 0.9
evaluations_per_epoch = 1

[[objective]]
name = "click"

[[objective]]
name = "purchase"
given = "click"
space = "whole"
weight = 0.5

[[objective]]
name = "dwell"
given = "click"
weight = 2

[[objective]]
name = "stars"
weight = 0.3
metric = "ndcg@5"

[[objective]]
name = "units"
weight = 0.3

[[objective]]
name = "spend"
given = "purchase"
space = "whole"
weight = 0.2
"""


def appeal(product: int) -> float:
    """Return how often a product is clicked, 0 to 1.

    How long it is looked at and how well it is liked is another matter: the retrieval score says.
    """
    return (product * 3 % PER_CATEGORY) / (PER_CATEGORY - 1)


def name_of(product: int) -> str:
    return f"{CATEGORIES[product // PER_CATEGORY]}-{product % PER_CATEGORY}"


def write_shop(folder: Path, *, log: str = LOG, run: str = RUN) -> Path:
    """Write the shop's files and both configurations; return the run's."""
    random = np.random.default_rng(11)
    products = [
        {
            "id": name_of(product),
            "title": f"{CATEGORIES[product // PER_CATEGORY]} number {product % PER_CATEGORY}",
            "category_path": [CATEGORIES[product // PER_CATEGORY], name_of(product)],
        }
        for product in range(len(CATEGORIES) * PER_CATEGORY)
    ]
    searches: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for day in range(DAYS):
        for shopper in range(SHOPPERS):
            _search(random, day, shopper, searches, events)
    for name, rows in (("products", products), ("searches", searches), ("events", events)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "log.toml").write_text(log, encoding="utf-8")
    path = folder / "run.toml"
    path.write_text(run, encoding="utf-8")
    return path


def _search(
    random: np.random.Generator,
    day: int,
    shopper: int,
    searches: list[dict[str, Any]],
    events: list[dict[str, Any]],
) -> None:
    category = int(random.integers(len(CATEGORIES)))
    shown = category * PER_CATEGORY + random.permutation(PER_CATEGORY)
    scores = random.random(PER_CATEGORY)
    quality = dict(zip(shown.tolist(), scores.tolist(), strict=True))
    name, time = f"q{day}-{shopper}", START + day * DAY + shopper * 600
    searches.append(
        {
            "query_id": name,
            "text": CATEGORIES[category],
            "shopper": f"s{shopper}",
            "time": time,
            "candidates": [name_of(int(product)) for product in shown],
            "scores": scores.tolist(),
        }
    )

    def happened(product: int, later: int, kind: str, **numbers: float) -> None:
        none = dict.fromkeys(("dwell_seconds", "stars", "quantity", "paid"))
        events.append(
            {
                "query_id": name,
                "shopper": f"s{shopper}",
                "product": name_of(product),
                "time": time + later,
                "kind": kind,
                **none,
                **numbers,
            }
        )

    chances = np.array([np.exp(3 * appeal(product)) for product in shown.tolist()])
    clicked = random.choice(shown, 3, replace=False, p=chances / chances.sum())
    for product in clicked.tolist():
        seconds = 5.0 + 100.0 * quality[product] + float(random.integers(5))
        happened(product, 10, "click", dwell_seconds=seconds)
        if random.random() < 0.5:
            units = int(random.integers(1, 4))
            happened(product, 60, "purchase", quantity=units, paid=round(2.5 * units, 2))
            happened(product, 90, "rating", stars=1 + round(4 * quality[product]))
