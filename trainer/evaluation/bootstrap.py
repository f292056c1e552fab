"""Paired bootstrap intervals of page means, clustered by shopper (Efron and Tibshirani 1993, 8.3).

Pages of one shopper are not independent, so shoppers are resampled, not pages. Every ranking is
averaged under the same draws, so the draws of a difference are the difference of the draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import RerankError
from trainer.encoding.pageset import Doubles, Integers

DRAWS = 2000
LEVEL = 0.95
_CHUNK_WEIGHTS = 20_000_000


class BootstrapError(RerankError):
    """Values or groups that cannot be resampled."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its bootstrap percentile interval; all NaN when no page counts."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`win`, `loss` or `tie` of a difference: which side of zero the interval lies on."""
        if self.low > 0:
            return "win"
        return "loss" if self.high < 0 else "tie"


@dataclass(frozen=True, slots=True)
class Membership:
    """Which pages count in which groups, and how much.

    Attributes:
        page: Page of each entry, shape (entries,).
        group: Group of each entry, shape (entries,).
        weight: Weight of the page in the group, shape (entries,), > 0.
        names: Names of the groups; a page may be in several groups or in none.
    """

    page: Integers
    group: Integers
    weight: Doubles
    names: tuple[str, ...]

    def totals(self, counted: npt.NDArray[np.bool_]) -> Doubles:
        """Return the weight of the pages flagged in `counted` in each group."""
        inside = counted[self.page]
        totals = np.bincount(self.group[inside], self.weight[inside], len(self.names))
        return totals.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Resampled:
    """Means of several rankings in several groups of pages, with their bootstrap draws.

    Attributes:
        means: Shape (rankings, groups); NaN where a group has no page.
        draws: Shape (draws, rankings, groups).
        names: Names of the groups.
    """

    means: Doubles
    draws: Doubles
    names: tuple[str, ...]

    def interval(self, ranking: int, group: int) -> Interval:
        """Return the mean of one ranking over one group."""
        return _interval(self.means[ranking, group], self.draws[:, ranking, group])

    def difference(self, ranking: int, other: int, group: int) -> Interval:
        """Return `ranking` minus `other` over one group, paired."""
        return _interval(
            self.means[ranking, group] - self.means[other, group],
            self.draws[:, ranking, group] - self.draws[:, other, group],
        )

    def macro(self, groups: npt.NDArray[Any]) -> Resampled:
        """Return the mean of the means of `groups` as one group; those without pages count not."""
        present = groups[~np.isnan(self.means[:, groups]).any(axis=0)]
        if present.size == 0:
            empty = np.full((self.means.shape[0], 1), np.nan)
            return Resampled(empty, np.full((*self.draws.shape[:2], 1), np.nan), ("macro",))
        draws = self.draws[:, :, present]
        drawn = ~np.isnan(draws)  # a small group may have no page in a draw
        total = np.where(drawn, draws, 0.0).sum(axis=2, keepdims=True)
        with np.errstate(invalid="ignore"):
            mean = total / drawn.sum(axis=2, keepdims=True)
        return Resampled(self.means[:, present].mean(axis=1, keepdims=True), mean, ("macro",))


def whole(pages: int) -> Membership:
    """Return the one group that holds every page."""
    entries = np.arange(pages)
    return Membership(entries, np.zeros(pages, np.int64), np.ones(pages), ("all",))


def resample_means(
    values: Doubles,
    shoppers: npt.NDArray[Any],
    membership: Membership,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Resampled:
    """Average `values` over each group and over resampled shoppers.

    The mean of a group is sum(weight * value) / sum(weight) over its pages with a value. A draw
    takes as many shoppers as there are, with replacement, each with all its pages.

    Args:
        values: A metric of each page for each ranking, shape (rankings, pages). A page that is NaN
            for one ranking is left out for all.
        shoppers: Cluster of each page, shape (pages,).
        membership: The groups.
        draws: Number of draws, >= 1.
        seed: Seed of the draws; the same shoppers and seed give the same draws.

    Raises:
        BootstrapError: When shapes do not fit or `draws` is not positive.
    """
    if values.ndim != 2 or values.shape[1] != shoppers.size:  # noqa: PLR2004  two axes
        raise BootstrapError(f"values: got shape {values.shape}, want (rankings, {shoppers.size})")
    if draws < 1:
        raise BootstrapError(f"draws: got {draws}, want at least 1")
    table = _sums_of_clusters(values, shoppers, membership)  # (clusters, groups, 1 + rankings)
    clusters = table.shape[0]
    flat = table.reshape(clusters, table.shape[1] * table.shape[2])
    drawn = np.zeros((draws, *table.shape[1:]))
    random = np.random.default_rng(seed)
    shares = np.full(clusters, 1.0 / max(clusters, 1))
    chunk = max(_CHUNK_WEIGHTS // max(clusters, 1), 1)
    for start in range(0, draws if clusters else 0, chunk):
        size = min(chunk, draws - start)
        counts = random.multinomial(clusters, shares, size=size).astype(np.float64)
        drawn[start : start + size] = (counts @ flat).reshape(size, *table.shape[1:])
    once = table.sum(axis=0)
    with np.errstate(invalid="ignore"):
        means = (once[:, 1:] / once[:, :1]).T
        draw_means = (drawn[:, :, 1:] / drawn[:, :, :1]).transpose(0, 2, 1)
    return Resampled(means, draw_means, membership.names)


def _sums_of_clusters(
    values: Doubles, shoppers: npt.NDArray[Any], membership: Membership
) -> Doubles:
    """Return per shopper and group the weight, then each ranking's weighted sum."""
    counted = np.logical_not(np.isnan(values).any(axis=0))
    names, numbers = np.unique(shoppers[counted], return_inverse=True)
    cluster_of = np.full(shoppers.size, -1)
    cluster_of[counted] = numbers
    inside = counted[membership.page]
    page, weight = membership.page[inside], membership.weight[inside]
    groups = len(membership.names)
    cell = cluster_of[page] * groups + membership.group[inside]
    cells = names.size * groups
    columns = [np.bincount(cell, weight, cells)]
    columns += [np.bincount(cell, weight * row[page], cells) for row in values]
    table: Doubles = np.stack(columns, axis=-1, dtype=np.float64)
    return table.reshape(names.size, groups, len(columns))


def paired_difference(
    values: Doubles,
    others: Doubles,
    shoppers: npt.NDArray[Any],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values - others`, both of shape (pages,), with its interval.

    Raises:
        BootstrapError: As `resample_means`.
    """
    both = np.stack([values, others])
    resampled = resample_means(both, shoppers, whole(shoppers.size), draws=draws, seed=seed)
    return resampled.difference(0, 1, 0)


def _interval(mean: float, draws: Doubles) -> Interval:
    usable = draws[~np.isnan(draws)]
    if np.isnan(mean) or usable.size == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(usable, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(mean), float(low), float(high))
