"""A small Complete Journey of 26 products, 6 households and 2 stores, really prepared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deploy.demo.rerank_client import RankedCandidates
from rerank_server.page import SearchPage
from trainer.logs.prepare import prepare

# Monday of week 48, midnight in New York, as Unix seconds.
NOW = 1_511_154_000
BUNDLE_ID = "5" * 64

# id, department, category, type, size, brand, manufacturer
PRODUCTS: Sequence[tuple[Any, ...]] = (
    *(
        (100 + n, "GROCERY", "YOGURT", "YOGURT NOT MULTI-PACKS", f"{n} OZ", "National", 700 + n)
        for n in range(12)
    ),
    *(
        (200 + n, "GROCERY", "FROZEN PIZZA", "PIZZA/ECONOMY", f"{n} OZ", "Private", 69)
        for n in range(8)
    ),
    *(
        (300 + n, "PRODUCE", "APPLES", "APPLES GALA (BULK&BAG)", None, "National", 2)
        for n in range(6)
    ),
)

# Week 48: yogurt 103 and pizza 204 are promoted at store 1, nothing is at store 2.
PROMOTIONS = (
    (103, 1, "3", "0", 48),
    (204, 1, "0", "A", 48),
    (100, 2, "1", "A", 47),
)

CONFIG = """
adapter = "complete_journey"
folder = "{folder}"
train_from = 2017-06-26T04:00:00Z
validation_from = 2017-10-16T04:00:00Z
test_from = 2017-11-13T05:00:00Z
search_min_candidates = 1
promotion_places_only = false
"""


def transactions() -> list[tuple[int, int, int, float, float, datetime]]:
    """Household, store, product, value, discount and time of each line.

    Every Saturday until 11 November each of the households 1 to 5 buys the best sellers, yogurts
    100 to 102, pizza 200 and apples 300, at store 1. Household 6 buys yogurt 109 nine times, and
    in week 48 yogurt 109, pizza 204 and apples 301. Household 5 buys nothing then.
    """
    lines = []
    first_saturday = datetime(2017, 5, 6, 17)  # 13:00 in New York
    for week in range(28):
        time = first_saturday + timedelta(weeks=week)
        for household in range(1, 6):
            lines += [(household, 1, p, 2.0, 0.0, time) for p in (100, 101, 102, 200, 300)]
        if week >= 19:
            lines.append((6, 1, 109, 2.0, 0.5, time + timedelta(hours=1)))
    next_week = datetime(2017, 11, 22, 17)
    lines += [(6, 1, p, 2.0, 0.0, next_week) for p in (109, 204, 301)]
    lines += [(household, 1, 100, 2.0, 0.0, next_week) for household in range(1, 5)]
    # Every product sold once at store 2, long ago, so that the catalogue keeps it.
    lines += [(1, 2, row[0], 2.0, 0.0, datetime(2017, 3, 1, 12)) for row in PRODUCTS]
    return lines


def write_small_shop(folder: Path) -> Path:
    """Write the tables under `folder`, prepare them, and return the prepared folder."""
    source = folder / "source"
    source.mkdir()
    lines = transactions()
    households, stores, products, values, discounts, times = zip(*lines, strict=True)
    zeros = [0.0] * len(lines)
    pl.DataFrame(
        {
            "household_id": households,
            "store_id": stores,
            "basket_id": range(len(lines)),
            "product_id": products,
            "quantity": [1] * len(lines),
            "sales_value": values,
            "retail_disc": discounts,
            "coupon_disc": zeros,
            "coupon_match_disc": zeros,
            "week": [
                1 + (t - timedelta(hours=5) - datetime(2016, 12, 26)).days // 7 for t in times
            ],
            "transaction_timestamp": times,
        },
        schema_overrides={"transaction_timestamp": pl.Datetime("ns")},
    ).write_parquet(source / "transactions.parquet")
    columns = ["product_id", "department", "product_category", "product_type", "package_size"]
    pl.DataFrame(
        PRODUCTS, schema=[*columns, "brand", "manufacturer_id"], orient="row"
    ).write_parquet(source / "products.parquet")
    columns = ["product_id", "store_id", "display_location", "mailer_location", "week"]
    pl.DataFrame(PROMOTIONS, schema=columns, orient="row").write_parquet(
        source / "promotions.parquet"
    )
    config = folder / "log.toml"
    config.write_text(CONFIG.format(folder=source))
    return prepare(config, folder / "prepared", progress=False)


class OwnFirst:
    """Scores a page by how often the shopper bought each candidate, then by retrieval.

    Score = times / (times + 1); `bought before` explains all of it.
    """

    def __init__(self) -> None:
        self.pages: list[SearchPage] = []

    async def rerank(self, page: SearchPage) -> RankedCandidates:
        self.pages.append(page)
        bought = list(page.history.product_ids)
        times = np.array([bought.count(id_) for id_ in page.candidate_ids], np.float32)
        scores = times / (times + 1)
        order = np.argsort(-scores, kind="stable")
        return RankedCandidates(
            ids=tuple(page.candidate_ids[rank] for rank in order),
            retrieval_ranks=tuple(order.tolist()),
            scores=scores[order],
            probabilities={"purchase": scores[order]},
            explanations={
                "popularity": np.zeros(order.size, np.float32),
                "bought before": scores[order],
            },
            bundle_id=BUNDLE_ID,
            stages_us={"score": 900},
            server_us=1_000,
            round_trip_us=1_500,
        )


class Down:
    """What the client gives when no server answers: retrieval order with the reason."""

    async def rerank(self, page: SearchPage) -> RankedCandidates:
        return RankedCandidates(
            ids=tuple(page.candidate_ids),
            retrieval_ranks=tuple(range(page.size)),
            degraded_reason="unavailable",
            degraded_detail="connection refused",
            round_trip_us=700,
        )
