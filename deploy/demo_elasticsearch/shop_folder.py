"""The shop of the loop: catalogue and past purchases of some households of the demo's log.

Times are moved by whole weeks, so that the log's present, the day that the bundle is as of, lies
in the week before now: shoppers search now, and what they bought is as long ago as it was then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from deploy.loop.shop_tables import INTERACTIONS_FILE, PRODUCTS_FILE, write_lines
from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.atomic_text import write_text
from trainer.encoding.dataset import Prepared

ABOUT = "shop.json"
_WEEK = 7


@dataclass(frozen=True, slots=True)
class ShopFacts:
    """What the shop's folder holds.

    Attributes:
        products: Rows of the catalogue.
        shoppers: Households that search.
        purchases: Of theirs, before the log's present.
        moved_days: Whole weeks that the times were moved by.
    """

    products: int
    shoppers: int
    purchases: int
    moved_days: int


def write_shop(
    prepared: Prepared, folder: Path, day: int, shoppers: int, seed: int, now: datetime
) -> ShopFacts:
    """Write the shop's two files; what is there already stays.

    Args:
        prepared: The log.
        folder: Where they go.
        day: The log's present, as a day (UTC) since 1970; later purchases are left out.
        shoppers: How many households, drawn from those that bought before.
        seed: Of the draw.
        now: Which the log's present is moved to, by whole weeks.
    """
    if (folder / ABOUT).exists():
        return ShopFacts(**json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    today = int(now.astimezone(UTC).timestamp()) // SECONDS_PER_DAY
    moved_days = (today - day) // _WEEK * _WEEK
    ids = [str(record["id"]) for record in prepared.products()]
    offsets = prepared.shopper_offsets
    before = prepared.interaction_times < day * SECONDS_PER_DAY
    buyers = [
        row
        for row in range(len(prepared.shoppers))
        if before[offsets[row] : offsets[row + 1]].any()
    ]
    random = np.random.default_rng(seed)
    chosen = sorted(random.choice(buyers, min(shoppers, len(buyers)), replace=False).tolist())
    interactions = []
    for row in chosen:
        part = np.arange(offsets[row], offsets[row + 1])
        interactions += [
            {
                "shopper": prepared.shoppers[row],
                "product": ids[int(prepared.interaction_rows[index])],
                "time": int(prepared.interaction_times[index]) + moved_days * SECONDS_PER_DAY,
            }
            for index in part[before[part]].tolist()
        ]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(
        folder / PRODUCTS_FILE,
        [
            {
                "id": record["id"],
                "title": record["text"],
                "category_path": record["category_path"],
                "brand": record["brand"],
                "size": record["size"],
            }
            for record in prepared.products()
        ],
    )
    write_lines(folder / INTERACTIONS_FILE, interactions)
    facts = ShopFacts(len(ids), len(chosen), len(interactions), moved_days)
    about = {name: getattr(facts, name) for name in facts.__slots__}
    write_text(folder / ABOUT, json.dumps(about, indent=1))
    return facts
