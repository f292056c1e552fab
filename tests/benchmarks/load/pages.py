"""Pages of a catalogue's own products, to be offered to a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from rerank_server.pb import rerank_pb2 as pb

PAGES = 64
_MOST_PRODUCTS = 20_000
_DAY_S = 86_400


def read_product_ids(snapshot: Path) -> list[str]:
    """Return the ids of a snapshot's first 20,000 products."""
    with (snapshot / "products.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["id"] for line in islice(lines, _MOST_PRODUCTS)]


def make_pages(
    product_ids: Sequence[str], candidates: int, events: int, now: int
) -> list[pb.RerankRequest]:
    """Return 64 pages, each of other products and another shopper's past.

    Args:
        product_ids: What the product store holds; missing ones are filled up with unknown ids.
        candidates: Of each page.
        events: Of each shopper, over the 300 days before `now`.
        now: Unix seconds.
    """
    rng = np.random.default_rng(0)
    pages = []
    for number in range(PAGES):
        known = [product_ids[row] for row in rng.permutation(len(product_ids))[:candidates]]
        past = rng.integers(0, len(product_ids), events).tolist()
        pages.append(
            pb.RerankRequest(
                candidate_ids=known + [f"unknown-{row}" for row in range(candidates - len(known))],
                retrieval_scores=rng.random(candidates).tolist(),
                query=f"milk {number % 8}",
                time=now,
                shopper_id=f"shopper-{number}",
                history=pb.History(
                    product_ids=[product_ids[row] for row in past],
                    times=np.sort(now - rng.integers(60, 300 * _DAY_S, events)).tolist(),
                ),
            )
        )
    return pages


def page_time(snapshot: Path) -> int:
    """Return an hour into the day of the snapshot, Unix seconds."""
    value = json.loads((snapshot / "snapshot.json").read_text(encoding="utf-8"))
    return int(value["as_of_day"]) * _DAY_S + 3_600
