"""Whether a new bundle may be published: its ranking of the newest day against the serving one.

Each click is a query of its own, with the clicked product as what is relevant, and counts with the
inverse of its place's propensity, for its page was shown in the serving order (Agarwal et al.
2019, "A general framework for counterfactual learning-to-rank"; self-normalised as Swaminathan and
Joachims 2015b):

    figure = sum over clicks of w / log2(rank + 1) / sum of w,   w = min(clip, 1 / propensity)

where a rank beyond 10 gives 0: the mean NDCG@10 of the clicks. Both rankings are compared on the
same pages, in every category, by resampling shoppers (Efron and Tibshirani 1993, chapter 13); with
several categories the intervals are widened (Bonferroni).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deploy.loop.propensity import Examination
from deploy.loop.search_log import CLICK, UNKNOWN, LoggedSearch

Doubles = npt.NDArray[np.float64]
CUT = 10
SAMPLES = 1_000
CONFIDENCE = 0.95
ALL = "all"
_LEAST_PAGES = 20


@dataclass(frozen=True, slots=True)
class CategoryComparison:
    """Both rankings on the pages of one category.

    Attributes:
        category: `all` for all pages.
        pages: Pages with a click.
        retrieval: Mean figure of retrieval order.
        serving: Of the serving bundle.
        candidate: Of the new one.
        low: Lower end of the interval of candidate - serving.
        high: Its upper end.
    """

    category: str
    pages: int
    retrieval: float
    serving: float
    candidate: float
    low: float
    high: float

    @property
    def loses(self) -> bool:
        """Whether the new bundle is worse with confidence."""
        return self.high < 0


@dataclass(frozen=True, slots=True)
class RankedSearch:
    """One clicked search with the places that three rankings give its products.

    Attributes:
        search: The search.
        serving: Products in the serving order.
        candidate: In the new bundle's.
    """

    search: LoggedSearch
    serving: Sequence[str]
    candidate: Sequence[str]


def compare_categories(
    ranked: Sequence[RankedSearch], examination: Examination, random: np.random.Generator
) -> list[CategoryComparison]:
    """Compare both rankings on all pages and by category; categories of few pages join none."""
    figures = np.array(
        [
            [
                click_gain(each.search, order, examination)
                for order in (each.search.found_ids, each.serving, each.candidate)
            ]
            for each in ranked
        ]
    ).reshape(len(ranked), 3)
    weights = np.array([sum(click_weights(each.search, examination).values()) for each in ranked])
    by_category: defaultdict[str, list[int]] = defaultdict(list)
    for row, each in enumerate(ranked):
        by_category[ALL].append(row)
        if each.search.category != UNKNOWN:
            by_category[each.search.category].append(row)
    kept = {n: r for n, r in by_category.items() if n == ALL or len(r) >= _LEAST_PAGES}
    tail = (1 - CONFIDENCE) / 2 / max(len(kept) - 1, 1)
    found = []
    for name, rows in kept.items():
        low, high = _interval(
            figures[rows, 2] - figures[rows, 1],
            weights[rows],
            [ranked[row].search.shopper for row in rows],
            (1 - CONFIDENCE) / 2 if name == ALL else tail,
            random,
        )
        total = max(float(weights[rows].sum()), 1e-9)
        means: list[float] = (figures[rows].sum(axis=0) / total).tolist()
        retrieval, serving, candidate = means
        found.append(CategoryComparison(name, len(rows), retrieval, serving, candidate, low, high))
    return found


def click_weights(search: LoggedSearch, examination: Examination) -> dict[str, float]:
    """Return the weight of each clicked product of the page."""
    places = {product: place for place, product in enumerate(search.shown_ids, start=1)}
    return {
        product: examination.weight(places[product])
        for product in search.products_of(CLICK)
        if product in places
    }


def click_gain(search: LoggedSearch, order: Sequence[str], examination: Examination) -> float:
    """Return the sum of w / log2(rank + 1) of the clicks that an order has in its first ten.

    Products that the page did not show are passed over: nothing is known of them.
    """
    weights, shown = click_weights(search, examination), set(search.shown_ids)
    ranked = [product for product in order if product in shown][:CUT]
    return float(
        sum(weights.get(each, 0.0) / np.log2(rank + 1) for rank, each in enumerate(ranked, start=1))
    )


def _interval(
    differences: Doubles,
    weights: Doubles,
    shoppers: Sequence[str],
    tail: float,
    random: np.random.Generator,
) -> tuple[float, float]:
    """Return the percentile interval of the weighted mean, shoppers resampled with their pages."""
    if not differences.size:
        return float("nan"), float("nan")
    codes = np.unique(np.array(shoppers), return_inverse=True)[1]
    sums = np.bincount(codes, differences)
    mass = np.bincount(codes, weights)
    drawn = random.integers(sums.size, size=(SAMPLES, sums.size))
    means = sums[drawn].sum(axis=1) / np.maximum(mass[drawn].sum(axis=1), 1e-9)
    low, high = np.quantile(means, [tail, 1 - tail]).tolist()
    return low, high
