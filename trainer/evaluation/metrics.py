"""Ranking metrics of every page at once, float64; ties in scores keep retrieval order.

All functions take flat arrays: rows of page p are `offsets[p]:offsets[p + 1]`. A page is NaN
where the metric is not defined on it, so that averages skip it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import RerankError
from trainer.encoding.pageset import UNKNOWN_TOTAL, Doubles, Integers


class MetricError(RerankError):
    """Scores or gains that no metric is defined on."""


@dataclass(frozen=True, slots=True)
class PageMetrics:
    """The metrics of each page, every array of shape (pages,).

    Attributes:
        ndcg_at_10: See `ndcg_at_k`.
        reciprocal_rank: See `reciprocal_rank`.
        hit_at_1: See `hit_at_k`.
        hit_at_10: See `hit_at_k`.
        recall_at_10: Of all positives, those that retrieval missed included.
        reached_recall_at_10: Of the positives that retrieval reached.
    """

    ndcg_at_10: Doubles
    reciprocal_rank: Doubles
    hit_at_1: Doubles
    hit_at_10: Doubles
    recall_at_10: Doubles
    reached_recall_at_10: Doubles


def page_metrics(
    gains: Doubles, scores: npt.NDArray[Any], offsets: Integers, positives_total: Integers
) -> PageMetrics:
    """Return all metrics of a ranking from one sort.

    Args:
        gains: Graded relevance, shape (rows,), >= 0.
        scores: Scores, higher is better, shape (rows,).
        offsets: Page bounds, shape (pages + 1,).
        positives_total: Positives of each page with those not retrieved, shape (pages,); -1
            is unknown.

    Raises:
        MetricError: On NaN scores or negative gains, or when shapes differ.
    """
    positives = _rank_positives(gains, scores, offsets)
    return PageMetrics(
        ndcg_at_10=positives.ndcg(10),
        reciprocal_rank=positives.reciprocal_rank(),
        hit_at_1=positives.hit(1),
        hit_at_10=positives.hit(10),
        recall_at_10=positives.recall(10, positives_total),
        reached_recall_at_10=positives.recall(10, positives.count),
    )


def ranks_in_page(scores: npt.NDArray[Any], offsets: Integers) -> Integers:
    """Return the rank of each candidate on its page, from 0, shape (rows,).

    Raises:
        MetricError: On NaN scores or when shapes differ.
    """
    page = _page_of_row(scores, offsets)
    order = np.lexsort((-scores, page))  # stable: ties keep input order
    ranks = np.empty(scores.size, np.int64)
    ranks[order] = np.arange(scores.size) - offsets[page]
    return ranks


def ndcg_at_k(gains: Doubles, scores: npt.NDArray[Any], offsets: Integers, k: int) -> Doubles:
    """Normalised discounted cumulative gain of each page, shape (pages,).

    DCG@k = sum over rank <= k of (2^gain - 1) / log2(rank + 1), rank from 1, divided by the DCG
    of the best order (Jarvelin and Kekalainen 2002; exponential gain of Burges et al. 2005).

    Args:
        gains: Graded relevance, shape (rows,), >= 0.
        scores: Scores, shape (rows,); ties keep input order.
        offsets: Page bounds, shape (pages + 1,).
        k: Cut-off, >= 1.

    Returns:
        In [0, 1]; NaN on a page without a positive.

    Raises:
        MetricError: On NaN scores or negative gains, or when shapes differ.
    """
    return _rank_positives(gains, scores, offsets).ndcg(k)


def reciprocal_rank(gains: Doubles, scores: npt.NDArray[Any], offsets: Integers) -> Doubles:
    """Return 1 / rank of the first positive of each page, rank from 1 (Voorhees 1999).

    Its mean over pages is the MRR. NaN on a page without a positive; ties keep input order.

    Raises:
        MetricError: On NaN scores or negative gains, or when shapes differ.
    """
    return _rank_positives(gains, scores, offsets).reciprocal_rank()


def hit_at_k(gains: Doubles, scores: npt.NDArray[Any], offsets: Integers, k: int) -> Doubles:
    """Return 1 where a positive is among the first k of a page, else 0.

    Hit@k = [rank of the first positive <= k] (Deshpande and Karypis 2004). NaN on a page
    without a positive; ties keep input order.

    Raises:
        MetricError: On NaN scores or negative gains, or when shapes differ.
    """
    return _rank_positives(gains, scores, offsets).hit(k)


def recall_at_k(
    gains: Doubles,
    scores: npt.NDArray[Any],
    offsets: Integers,
    k: int,
    positives_total: npt.NDArray[Any] | None = None,
) -> Doubles:
    """Return the share of each page's positives that are among its first k.

    Recall@k = |positives with rank <= k| / |positives| (Manning et al. 2008, 8.3). Without
    `positives_total` the positives are those on the page; with it, shape (pages,), those that
    retrieval missed count as well.

    Returns:
        In [0, 1]; NaN where a page has no positive, or an unknown number (-1).

    Raises:
        MetricError: On NaN scores or negative gains, when shapes differ, or when a page holds
            more positives than `positives_total` says.
    """
    positives = _rank_positives(gains, scores, offsets)
    return positives.recall(k, positives.count if positives_total is None else positives_total)


def page_auc(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray[Any], offsets: Integers
) -> Doubles:
    """Return the share of each page's (positive, other) pairs that are in order, ties half.

    AUC = (sum of the ranks of positives - P (P + 1) / 2) / (P N), ranks from 1 by ascending
    score, those of equal scores their mean (Hanley and McNeil 1982).

    Args:
        positive: Which candidates are, shape (rows,).
        scores: Scores, shape (rows,); infinite ones are ordered too.
        offsets: Page bounds, shape (pages + 1,).

    Returns:
        In [0, 1], shape (pages,); NaN on a page without positives or without others.

    Raises:
        MetricError: On NaN scores, or when shapes differ.
    """
    if positive.shape != (int(offsets[-1]),):
        raise MetricError(f"positive: got shape {positive.shape}, want ({int(offsets[-1])},)")
    page = _page_of_row(scores, offsets)
    sizes = np.diff(offsets)
    order = np.lexsort((scores, page))
    # pages keep their places: what is sorted within a page stays on its rows
    ascending, rank = scores[order], np.arange(order.size) - offsets[page] + 1.0
    fresh = np.ones(order.size, np.bool_)
    fresh[1:] = (page[1:] != page[:-1]) | (ascending[1:] != ascending[:-1])
    tie = np.cumsum(fresh) - 1
    rank = (np.bincount(tie, rank) / np.bincount(tie))[tie]
    of_positive = positive[order]
    positives = np.bincount(page[of_positive], minlength=sizes.size).astype(np.float64)
    above = np.bincount(page[of_positive], rank[of_positive], sizes.size)
    pairs = positives * (sizes - positives)
    with np.errstate(divide="ignore", invalid="ignore"):
        auc: Doubles = (above - positives * (positives + 1) / 2) / pairs
    return auc


def expected_random_ndcg_at_k(gains: Doubles, offsets: Integers, k: int) -> Doubles:
    """Return the mean of `ndcg_at_k` over all orders of each page, shape (pages,).

    In a random order every rank holds the mean exponential gain, so
    E[DCG@k] = mean(2^gain - 1) * sum over rank <= min(k, size) of 1 / log2(rank + 1).
    NaN on a page without a positive.

    Raises:
        MetricError: On negative gains, or when shapes differ.
    """
    positives = _rank_positives(gains, np.zeros(gains.size), offsets)
    sizes = np.diff(offsets)
    total = np.bincount(positives.page, np.exp2(positives.gain) - 1, positives.count.size)
    reachable = _discount_sums(k)[np.minimum(sizes, k)]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected: Doubles = total / sizes * reachable / positives.ideal_dcg(k)
    return expected


@dataclass(frozen=True, slots=True)
class _RankedPositives:
    """The positives of all pages: page, rank from 0 and gain of each; `count` per page."""

    page: Integers
    rank: Integers
    gain: Doubles
    count: Integers

    def ndcg(self, k: int) -> Doubles:
        inside = self.rank < k
        discounted = (np.exp2(self.gain) - 1) / np.log2(self.rank + 2)
        dcg = np.bincount(self.page[inside], discounted[inside], self.count.size)
        with np.errstate(invalid="ignore"):
            return dcg / self.ideal_dcg(k)

    def ideal_dcg(self, k: int) -> Doubles:
        order = np.lexsort((-self.gain, self.page))
        starts = np.cumsum(self.count) - self.count
        page = self.page[order]
        rank = np.arange(page.size) - starts[page]
        inside = rank < k
        discounted = (np.exp2(self.gain[order]) - 1) / np.log2(rank + 2)
        ideal = np.bincount(page[inside], discounted[inside], self.count.size)
        return ideal.astype(np.float64)

    def first_rank(self) -> Doubles:
        first = np.full(self.count.size, np.inf)
        np.minimum.at(first, self.page, self.rank)
        return np.where(self.count > 0, first, np.nan)

    def reciprocal_rank(self) -> Doubles:
        return 1.0 / (self.first_rank() + 1.0)

    def hit(self, k: int) -> Doubles:
        first = self.first_rank()
        return np.where(np.isnan(first), np.nan, (first < k).astype(np.float64))

    def recall(self, k: int, positives_total: npt.NDArray[Any]) -> Doubles:
        short = (positives_total != UNKNOWN_TOTAL) & (positives_total < self.count)
        if short.any():
            page = int(np.flatnonzero(short)[0])
            raise MetricError(
                f"positives_total: got {int(positives_total[page])} for page {page}, "
                f"want at least the {int(self.count[page])} positives on it"
            )
        found = np.bincount(self.page[self.rank < k], minlength=self.count.size)
        share = found / np.maximum(positives_total, 1)
        return np.where(positives_total > 0, share, np.nan)


def _rank_positives(
    gains: Doubles, scores: npt.NDArray[Any], offsets: Integers
) -> _RankedPositives:
    if gains.shape != (int(offsets[-1]),):
        raise MetricError(f"gains: got shape {gains.shape}, want ({int(offsets[-1])},)")
    if not np.all(gains >= 0):
        raise MetricError(f"gains: got {np.min(gains)}, want numbers >= 0")
    ranks = ranks_in_page(scores, offsets)
    positive = np.flatnonzero(gains > 0)
    page = np.searchsorted(offsets, positive, side="right") - 1
    count = np.bincount(page, minlength=offsets.size - 1)
    return _RankedPositives(page, ranks[positive], gains[positive].astype(np.float64), count)


def _page_of_row(scores: npt.NDArray[Any], offsets: Integers) -> Integers:
    """Return the page of each row, once the scores are such that can be ordered."""
    if scores.shape != (int(offsets[-1]),):
        raise MetricError(f"scores: got shape {scores.shape}, want ({int(offsets[-1])},)")
    if np.isnan(scores).any():
        count = int(np.isnan(scores).sum())
        raise MetricError(f"scores: got {count} NaN of {scores.size}, want numbers")
    sizes = np.diff(offsets)
    return np.repeat(np.arange(sizes.size), sizes)


def _discount_sums(k: int) -> Doubles:
    sums: Doubles = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
    return sums
