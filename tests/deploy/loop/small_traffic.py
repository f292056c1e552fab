"""A shop of sixty products and thirty shoppers, and its simulated traffic."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from deploy.loop.click_model import ClickModel
from deploy.loop.rankers import Order, PageOrder, RetrievalOrder
from deploy.loop.retrieval import LeafRetrieval
from deploy.loop.shop_tables import (
    INTERACTIONS_FILE,
    PRODUCTS_FILE,
    ShopTables,
    read_shop_tables,
    write_lines,
)
from deploy.loop.shoppers import Shoppers
from deploy.loop.traffic import DayOfTraffic, TrafficPlan, TrafficSimulator

FIRST_DAY = datetime(2018, 1, 2, tzinfo=UTC)
LEAVES = {"dairy": ("milk", "cheese"), "bakery": ("bread", "cake")}


def write_small_shop(folder: Path) -> Path:
    random = np.random.default_rng(5)
    paths = [[department, leaf] for department, leaves in LEAVES.items() for leaf in leaves]
    products = [
        {
            "id": f"p{number}",
            "title": f"{paths[number % 4][1]} number {number}",
            "category_path": paths[number % 4],
            "brand": f"brand {number % 7}",
        }
        for number in range(60)
    ]
    taste = random.dirichlet(np.full(60, 0.3))
    start = int(datetime(2017, 6, 1, tzinfo=UTC).timestamp())
    interactions = [
        {
            "shopper": f"{number % 30:016x}",
            "product": f"p{random.choice(60, p=taste)}",
            "time": start + number * 7_000,
        }
        for number in range(1_500)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / PRODUCTS_FILE, products)
    write_lines(folder / INTERACTIONS_FILE, interactions)
    return folder


class TrueOrder:
    """Orders by what the simulation keeps aside: the quality of products."""

    bundle_id = "truth"

    def __init__(self, tables: ShopTables, shoppers: Shoppers) -> None:
        self._quality = dict(zip(tables.product_ids, shoppers.quality.tolist(), strict=True))

    def order(self, page):
        quality = np.array([self._quality[each] for each in page.candidate_ids])
        return Order(np.argsort(-quality, kind="stable"), np.sort(quality)[::-1])


def simulator_of(folder: Path, *, searches: int = 120, seed: int = 1) -> TrafficSimulator:
    tables = read_shop_tables(folder)
    return TrafficSimulator(
        Shoppers(tables, seed),
        LeafRetrieval(tables, seed),
        ClickModel(),
        TrafficPlan(searches=searches, window=15, shown=15, impressions=False, seed=seed),
    )


def day_of(
    simulator: TrafficSimulator, day: datetime = FIRST_DAY, ranker: PageOrder | None = None
) -> DayOfTraffic:
    return simulator.day(day, {"current": (1.0, ranker or RetrievalOrder())})
