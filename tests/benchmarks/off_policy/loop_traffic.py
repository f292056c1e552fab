"""The examination of the loop's simulated traffic, estimated in several ways.

Four days in retrieval order, then four in the order of a ranking that knows the shopper, on the
slice of the Complete Journey that the loop's benchmark takes.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from deploy.loop.click_model import ClickModel
from deploy.loop.propensity import impressions_of
from deploy.loop.rankers import Order, PageOrder, RetrievalOrder
from deploy.loop.retrieval import LeafRetrieval
from deploy.loop.search_log import LoggedSearch, read_search_log
from deploy.loop.shop_tables import ShopTables, read_shop_tables, write_complete_journey_slice
from deploy.loop.shoppers import Shoppers
from deploy.loop.streams import JsonLineStreams
from deploy.loop.traffic import TrafficPlan, TrafficSimulator
from rerank_server.page import SearchPage
from trainer.encoding.pageset import Doubles
from trainer.evaluation.position_bias import Impressions, fit_examination, harvest_examination

FIRST_DAY = datetime(2018, 1, 2, tzinfo=UTC)
PLACES, DAYS, SEED = 20, 4, 1
SLICE = {"households": 200, "products_per_category": 60, "categories": 6, "seed": SEED}
_ROUNDS = 60
_PRIOR_SHOWN, _PRIOR_ATTRACTION = 2.0, 0.15


class ShopperOrder:
    """Orders by quality and by how often the shopper bought a product: a good, personal ranking."""

    bundle_id = "personal"

    def __init__(self, tables: ShopTables, shoppers: Shoppers) -> None:
        self._rows = {product: row for row, product in enumerate(tables.product_ids)}
        self._leaves = tables.leaves
        self._quality = shoppers.quality

    def order(self, page: SearchPage) -> Order:
        """Return the page, what the shopper most wants first."""
        bought = Counter(page.history.product_ids)
        rows = [self._rows[product] for product in page.candidate_ids]
        scores = np.array(
            [
                self._quality[row] + (self._leaves[row] == page.query) + np.log1p(bought[product])
                for row, product in zip(rows, page.candidate_ids, strict=True)
            ]
        )
        order = np.argsort(-scores, kind="stable")
        return Order(order, scores[order].astype(np.float32))


def loop_curves(searches: int = 300, places: int = PLACES) -> dict[str, Any]:
    """Return the true curve and the estimated ones, with their error against it."""
    with tempfile.TemporaryDirectory(prefix="crossrank-loop-") as folder:
        shop, streams = Path(folder) / "shop", JsonLineStreams(Path(folder) / "streams")
        write_complete_journey_slice(shop, **SLICE)
        tables = read_shop_tables(shop)
        shoppers = Shoppers(tables, SEED)
        plan = TrafficPlan(searches=searches, impressions=False, seed=SEED)
        simulator = TrafficSimulator(shoppers, LeafRetrieval(tables, SEED), ClickModel(), plan)
        rankers: tuple[PageOrder, ...] = (RetrievalOrder(), ShopperOrder(tables, shoppers))
        logs = []
        for number, ranker in enumerate(rankers):
            start = FIRST_DAY + timedelta(days=number * DAYS)
            for day in range(DAYS):
                made = simulator.day(start + timedelta(days=day), {"current": (1.0, ranker)})
                for stream, documents in made.streams.items():
                    streams.append(stream, documents)
            logs.append(read_search_log(streams, start, start + timedelta(days=DAYS)).searches)
    true = 1.0 / np.arange(1, places + 1)
    curves: dict[str, Doubles] = {"true": true}
    for name, found in (("retrieval order", logs[0]), ("both rankings", logs[0] + logs[1])):
        alone = impressions_of(found, places)
        scores = np.concatenate([_scores_of(each)[:places] for each in found])
        scored = Impressions(alone.pair, alone.place, alone.clicked, scores[:, None])
        curves[f"EM with a fixed prior, {name}"] = fixed_prior_curve(alone, places)
        curves[f"regression EM, {name}"] = fit_examination(alone, places).examination
        curves[f"regression EM with the page's scores, {name}"] = fit_examination(
            scored, places
        ).examination
    shown = impressions_of(logs[0] + logs[1], places)
    sizes = [min(len(each.shown_ids), places) for each in logs[0]]
    ranking = (np.arange(shown.clicked.size) >= sum(sizes)).astype(np.int64)
    curves["intervention harvesting, both rankings"] = harvest_examination(
        shown, ranking, places
    ).examination
    return {
        "searches": DAYS * searches,
        "curves": {name: curve.tolist() for name, curve in curves.items()},
        "mean_log_ratio": {
            name: float(np.log(np.maximum(curve, 1e-3) / true)[1:10].mean())  # 0 is right
            for name, curve in curves.items()
        },
    }


def _scores_of(search: LoggedSearch) -> Doubles:
    """Return the scores that ordered a page, in standard deviations of the page."""
    scores = np.array(search.scores or search.retrieval_scores, np.float64)
    scores = scores[: len(search.shown_ids)]
    spread = float(scores.std()) if scores.size else 0.0
    standardised: Doubles = (scores - scores.mean()) / spread if spread else np.zeros(scores.size)
    return standardised


def fixed_prior_curve(impressions: Impressions, places: int) -> Doubles:
    """Return the curve of plain EM that draws each pair's attraction towards 0.15.

    It is capped at 1 before it is divided by its first place, so where products attract more than
    the prior says, every other place comes out too high.
    """
    place, clicked = impressions.place, impressions.clicked
    _, pair = np.unique(impressions.pair, return_inverse=True)
    shown, shown_pairs = np.bincount(place, minlength=places), np.bincount(pair)
    examined = 1.0 / np.arange(1, places + 1)
    attraction = np.full(shown_pairs.size, _PRIOR_ATTRACTION)
    for _ in range(_ROUNDS):
        theta, alpha = examined[place], attraction[pair]
        missed = np.maximum(1.0 - theta * alpha, 1e-3)
        looked = np.where(clicked, 1.0, theta * (1.0 - alpha) / missed)
        liked = np.where(clicked, 1.0, alpha * (1.0 - theta) / missed)
        examined = np.bincount(place, looked, places) / np.maximum(shown, 1)
        attraction = (np.bincount(pair, liked) + _PRIOR_SHOWN * _PRIOR_ATTRACTION) / (
            shown_pairs + _PRIOR_SHOWN
        )
    return np.asarray(examined / examined[0])
