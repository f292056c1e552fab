"""A small shop log in which a vector of each product is all that tells what shoppers click."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from tests.trainer.log_files_for_tests import DAY, START

WIDTH = 6
PAGES, CANDIDATES = 420, 8
# Every product is shown once, so nothing else can be learned of it: of the test pages' products
# the network knows the vector, if it knows anything.
TASTE = np.array([1.0, -2.0, 0.5, 0.0, 1.5, -1.0])
MISSING_SHARE = 0.1

LOG = """
adapter = "tables"
products_file = "products.jsonl"
searches_file = "searches.jsonl"
events_file = "events.jsonl"
event_kinds = ["click"]
train_from = 2017-01-02T00:00:00Z
validation_from = 2017-01-23T00:00:00Z
test_from = 2017-01-27T00:00:00Z
"""
VECTOR = f"""
[[vector]]
name = "image"
file = "image.parquet"
width = {WIDTH}
id = "product"
"""
RUN = """
name = "vector-shop"
log = "log.toml"
objectives = ["click"]
objective_weights = [1.0]
surfaces = ["search"]
width = 16
hidden = [24, 16]
heads = 2
number_bins = 2
pages_per_batch = 16
epochs = 8
learning_rate = 8e-3
evaluations_per_epoch = 1
refit_days = 56
average_decay = 0.9
"""


def product_ids() -> list[str]:
    return [f"p{number:05d}" for number in range(PAGES * CANDIDATES)]


def vectors(seed: int = 3) -> np.ndarray:
    """Return the vector of each product, of no certain scale, shape (products, WIDTH)."""
    random = np.random.default_rng(seed)
    return (7.0 * random.normal(size=(PAGES * CANDIDATES, WIDTH))).astype(np.float32)


def write_shop(folder: Path, *, with_vectors: bool) -> Path:
    """Write log, vectors and run; return the path of the run's TOML file.

    A shopper clicks the two products of a page whose vectors are most to everybody's taste. Of
    the products that were not clicked a tenth has no vector.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids, held = product_ids(), vectors()
    taste = held @ TASTE
    random = np.random.default_rng(4)
    clicked = set()
    searches: list[dict[str, object]] = []
    events: list[dict[str, object]] = []
    for page in range(PAGES):
        rows = np.arange(page * CANDIDATES, (page + 1) * CANDIDATES)
        moment = START + DAY + page * (30 * DAY) // PAGES
        searches.append(
            {
                "query_id": f"q{page}",
                "text": "thing",
                "shopper": f"s{page % 40}",
                "time": moment,
                "candidates": [ids[row] for row in random.permutation(rows)],
            }
        )
        for row in rows[np.argsort(-taste[rows])[:2]]:
            clicked.add(int(row))
            events.append(
                {
                    "query_id": f"q{page}",
                    "shopper": f"s{page % 40}",
                    "product": ids[row],
                    "time": moment + 60,
                    "kind": "click",
                }
            )
    products: list[dict[str, object]] = [
        {"id": name, "title": "thing", "category_path": ["toys" if row % 2 else "books", "all"]}
        for row, name in enumerate(ids)
    ]
    tables: dict[str, list[dict[str, object]]] = {
        "products": products, "searches": searches, "events": events,
    }  # fmt: skip
    for name, lines in tables.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    kept = [row for row in range(len(ids)) if row in clicked or random.random() > MISSING_SHARE]
    table = {
        "product": [ids[row] for row in kept] + ["gone-1", "gone-2"],
        "vector": [*held[kept].tolist(), [1.0] * WIDTH, [2.0] * WIDTH],
    }
    pl.DataFrame(table).write_parquet(folder / "image.parquet")
    (folder / "log.toml").write_text(LOG + (VECTOR if with_vectors else ""), encoding="utf-8")
    path = folder / "run.toml"
    path.write_text(RUN, encoding="utf-8")
    return path
