"""What shoppers made of their pages: rates with intervals, by category and by variant.

A rate is a sum over a sum, and a shopper's searches are not independent: its variance is that of
the delta method with shoppers as the unit (Deng, Knoblich and Lu 2018, eq. 4),

    Var(R) = n / (n - 1) * sum over shoppers of (y_i - R * m_i)^2 / (sum of m_i)^2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from deploy.loop.search_log import CLICK, PURCHASE, LoggedSearch

Doubles = npt.NDArray[np.float64]
CONFIDENCE = 0.95
# Metric -> what a search adds above and below the line.
METRICS: Mapping[str, Callable[[LoggedSearch], tuple[float, float]]] = {
    # searches with a click, of those that found anything
    "ctr": lambda s: (float(bool(s.products_of(CLICK))), float(bool(s.shown_ids))),
    # searches with a purchase, alike
    "conversion": lambda s: (float(bool(s.products_of(PURCHASE))), float(bool(s.shown_ids))),
    # reciprocal rank of the best click, 0 without one
    "mrr": lambda s: (
        1.0 / s.first_position(CLICK) if s.first_position(CLICK) else 0.0,
        float(bool(s.shown_ids)),
    ),
    # searches that found nothing, of all
    "null_searches": lambda s: (float(not s.shown_ids), 1.0),
    # searches that found something and had no event at all
    "abandoned_searches": lambda s: (
        float(bool(s.shown_ids) and not s.events),
        float(bool(s.shown_ids)),
    ),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate of one group of searches.

    Attributes:
        value: NaN when the group has nothing below the line.
        variance: Of the value; NaN of fewer than two shoppers.
        searches: In the group.
        shoppers: Alike; a search without a shopper is one of its own.
    """

    value: float
    variance: float
    searches: int
    shoppers: int

    @property
    def low(self) -> float:
        """Lower end of the 95% interval, not below 0."""
        return max(self.value - self._half_width(), 0.0)

    @property
    def high(self) -> float:
        """Upper end of the 95% interval, not above 1."""
        return min(self.value + self._half_width(), 1.0)

    def _half_width(self) -> float:
        return NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(self.variance)


@dataclass(frozen=True, slots=True)
class QualityRow:
    """A metric of a group.

    Attributes:
        group: `all`, `category` or `variant`.
        name: Of the category or variant; `all` of all.
        metric: One of `METRICS`.
        rate: Its value.
    """

    group: str
    name: str
    metric: str
    rate: Rate


def quality(searches: Sequence[LoggedSearch]) -> list[QualityRow]:
    """Return every metric of all searches, by category and by variant."""
    groups: dict[tuple[str, str], list[LoggedSearch]] = defaultdict(list)
    for search in searches:
        groups["all", "all"].append(search)
        groups["category", search.category].append(search)
        if search.variant:
            groups["variant", search.variant].append(search)
    return [
        QualityRow(group, name, metric, rate_of(members, metric))
        for (group, name), members in sorted(groups.items())
        for metric in METRICS
    ]


def rate_of(searches: Sequence[LoggedSearch], metric: str) -> Rate:
    """Return one metric of searches."""
    above, below, _ = shopper_sums(searches, metric)
    return rate_of_sums(above, below, len(searches))


def rate_of_sums(above: Doubles, below: Doubles, searches: int) -> Rate:
    """Return the rate of sums by shopper."""
    count, total = above.size, float(below.sum())
    if not total:
        return Rate(math.nan, math.nan, searches, count)
    value = float(above.sum()) / total
    if count < 2:  # noqa: PLR2004 - no variance of one
        return Rate(value, math.nan, searches, count)
    squares = float(((above - value * below) ** 2).sum())
    return Rate(value, count / (count - 1) * squares / total**2, searches, count)


def shopper_sums(
    searches: Sequence[LoggedSearch], metric: str
) -> tuple[Doubles, Doubles, list[str]]:
    """Return what stands above and below a metric's line by shopper, and the shoppers."""
    sums: dict[str, list[float]] = {}
    for search in searches:
        above, below = METRICS[metric](search)
        kept = sums.setdefault(search.shopper or search.query_id, [0.0, 0.0])
        kept[0] += above
        kept[1] += below
    values = np.array(list(sums.values()), np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1], list(sums)
