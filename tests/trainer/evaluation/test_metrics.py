from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.evaluation.metrics import (
    MetricError,
    expected_random_ndcg_at_k,
    hit_at_k,
    ndcg_at_k,
    page_auc,
    page_metrics,
    ranks_in_page,
    recall_at_k,
    reciprocal_rank,
)


def slow_order(scores):
    """The order of one page, best first: the obvious way."""
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))


def slow_ndcg(gains, scores, k):
    if not any(gains):
        return math.nan
    order = slow_order(scores)
    dcg = sum((2 ** gains[row] - 1) / math.log2(rank + 2) for rank, row in enumerate(order[:k]))
    best = sorted(gains, reverse=True)
    ideal = sum((2**gain - 1) / math.log2(rank + 2) for rank, gain in enumerate(best[:k]))
    return dcg / ideal


def slow_reciprocal_rank(gains, scores):
    for rank, row in enumerate(slow_order(scores)):
        if gains[row] > 0:
            return 1 / (rank + 1)
    return math.nan


def slow_hit(gains, scores, k):
    if not any(gains):
        return math.nan
    return float(any(gains[row] > 0 for row in slow_order(scores)[:k]))


def slow_recall(gains, scores, k, total):
    if total <= 0:
        return math.nan
    return sum(gains[row] > 0 for row in slow_order(scores)[:k]) / total


def slow_auc(positive, scores):
    pairs = [
        (scores[one] > scores[other]) + (scores[one] == scores[other]) / 2
        for one in range(len(scores))
        for other in range(len(scores))
        if positive[one] and not positive[other]
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def flat(pages):
    offsets = np.cumsum([0, *map(len, pages)]).astype(np.int64)
    return np.array([value for page in pages for value in page], np.float64), offsets


pages_of_candidates = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0, 1, 2, 3]), st.sampled_from([-1.5, 0.0, 0.25, 2.0, 7.0])
        ),
        max_size=15,
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(pages_of_candidates, st.integers(1, 12))
def test_all_pages_at_once_equal_one_page_at_a_time(pages, k):
    gains = [[gain for gain, _ in page] for page in pages]
    scores = [[score for _, score in page] for page in pages]
    totals = np.array([sum(gain > 0 for gain in page) + 1 for page in gains])
    flat_gains, offsets = flat(gains)
    flat_scores, _ = flat(scores)
    both = list(zip(gains, scores, strict=True))
    np.testing.assert_allclose(
        ndcg_at_k(flat_gains, flat_scores, offsets, k), [slow_ndcg(g, s, k) for g, s in both]
    )
    np.testing.assert_allclose(
        reciprocal_rank(flat_gains, flat_scores, offsets),
        [slow_reciprocal_rank(g, s) for g, s in both],
    )
    np.testing.assert_allclose(
        hit_at_k(flat_gains, flat_scores, offsets, k), [slow_hit(g, s, k) for g, s in both]
    )
    np.testing.assert_allclose(
        recall_at_k(flat_gains, flat_scores, offsets, k, totals),
        [slow_recall(g, s, k, total) for (g, s), total in zip(both, totals, strict=True)],
    )
    np.testing.assert_allclose(
        recall_at_k(flat_gains, flat_scores, offsets, k),
        [slow_recall(g, s, k, sum(x > 0 for x in g)) for g, s in both],
    )


def test_ndcg_by_hand():
    # The order is rows 1, 0, 2: DCG = 0 + 1/log2(3) + 1/log2(4), best 1 + 1/log2(3).
    gains, offsets = flat([[1, 0, 1]])
    got = ndcg_at_k(gains, np.array([0.5, 0.9, 0.1]), offsets, 10)
    assert got[0] == pytest.approx((1 / math.log2(3) + 0.5) / (1 + 1 / math.log2(3)))
    # A gain of 2 weighs 3: swapped with a gain of 1 it loses (3 - 1) * (1 - 1 / log2(3)).
    gains, offsets = flat([[1, 2]])
    got = ndcg_at_k(gains, np.array([2.0, 1.0]), offsets, 2)
    assert got[0] == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


def test_ties_keep_input_order():
    gains, offsets = flat([[1, 0, 0], [0, 0, 1]])
    assert reciprocal_rank(gains, np.zeros(6), offsets).tolist() == [1.0, pytest.approx(1 / 3)]
    assert ranks_in_page(np.zeros(6), offsets).tolist() == [0, 1, 2, 0, 1, 2]


def test_pages_without_a_positive_are_nan():
    gains, offsets = flat([[0, 0], [], [1, 0]])
    scores = np.arange(4.0)
    for values in (
        ndcg_at_k(gains, scores, offsets, 10),
        reciprocal_rank(gains, scores, offsets),
        hit_at_k(gains, scores, offsets, 1),
        recall_at_k(gains, scores, offsets, 10),
        expected_random_ndcg_at_k(gains, offsets, 10),
    ):
        assert np.isnan(values).tolist() == [True, True, False]


def test_positives_that_retrieval_missed_count_in_the_recall():
    gains, offsets = flat([[1, 1, 0], [0, 0], [1, 0], [1]])
    totals = np.array([4, 2, 1, -1])
    scores = np.array([3.0, 1.0, 2.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    assert recall_at_k(gains, scores, offsets, 2, totals)[:3].tolist() == [0.25, 0.0, 1.0]
    assert np.isnan(recall_at_k(gains, scores, offsets, 2, totals)[3])
    assert recall_at_k(gains, scores, offsets, 1)[0] == 0.5


def test_auc_of_a_page_by_hand():
    positive = np.array([1, 0, 1, 0, 0, 0, 0, 0], np.bool_)
    scores = np.array([3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    # of the 12 pairs, the first positive wins 6, the second 5 and ties one: 11.5 / 12
    page = np.array([0, 8])
    assert page_auc(positive, scores, page).tolist() == [11.5 / 12]
    assert np.isnan(page_auc(np.zeros(8, np.bool_), scores, page)).all()
    assert np.isnan(page_auc(np.ones(8, np.bool_), scores, page)).all()
    assert page_auc(np.zeros(0, np.bool_), np.zeros(0), np.array([0])).size == 0
    with pytest.raises(MetricError, match=r"positive: got shape \(8,\), want \(2,\)"):
        page_auc(positive, np.zeros(2), np.array([0, 2]))
    with pytest.raises(MetricError, match="scores: got 1 NaN of 2"):
        page_auc(positive[:2], np.array([np.nan, 1.0]), np.array([0, 2]))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.booleans(), st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 7.0])), max_size=6
        ),
        min_size=1,
        max_size=4,
    )
)
def test_auc_of_every_page_is_that_of_its_pairs_to_the_last_bit(pages):
    scores, offsets = flat([[score for _, score in page] for page in pages])
    positive = np.array([each for page in pages for each, _ in page], np.bool_)
    wanted = [slow_auc(*zip(*page, strict=True)) if page else math.nan for page in pages]
    np.testing.assert_array_equal(page_auc(positive, scores, offsets), wanted)


def test_expected_random_ndcg_is_the_mean_over_all_orders():
    gains = [2, 0, 1, 0, 0]
    flat_gains, offsets = flat([gains])
    orders = [slow_ndcg(gains, order, 3) for order in permutations(range(5))]
    expected = expected_random_ndcg_at_k(flat_gains, offsets, 3)[0]
    assert expected == pytest.approx(sum(orders) / len(orders))


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(9)))
def test_permuting_candidates_with_distinct_scores_changes_nothing(order):
    gains = np.array([0, 1, 0, 2, 0, 0, 1, 0, 0], np.float64)
    scores = np.array([3, 1, 4, 1.5, 9, 2.6, 5, 3.5, 8])
    offsets = np.array([0, 9])
    got = ndcg_at_k(gains[order], scores[order], offsets, 5)
    np.testing.assert_allclose(got, ndcg_at_k(gains, scores, offsets, 5))


def test_all_metrics_come_from_one_ranking():
    gains, offsets = flat([[0, 1, 1], [0, 1]])
    scores = np.array([2.0, 3.0, 1.0, 1.0, 0.0])
    got = page_metrics(gains, scores, offsets, np.array([3, 1]))
    np.testing.assert_array_equal(got.ndcg_at_10, ndcg_at_k(gains, scores, offsets, 10))
    assert got.reciprocal_rank.tolist() == [1.0, 0.5]
    assert got.hit_at_1.tolist() == [1.0, 0.0]
    assert got.hit_at_10.tolist() == [1.0, 1.0]
    assert got.recall_at_10.tolist() == [pytest.approx(2 / 3), 1.0]
    assert got.reached_recall_at_10.tolist() == [1.0, 1.0]


def test_numbers_that_no_metric_is_defined_on_are_refused():
    gains, offsets = flat([[0, 1]])
    with pytest.raises(MetricError, match="scores: got 1 NaN of 2"):
        ndcg_at_k(gains, np.array([np.nan, 1.0]), offsets, 10)
    with pytest.raises(MetricError, match=r"gains: got -1\.0, want numbers >= 0"):
        ndcg_at_k(-gains, np.zeros(2), offsets, 10)
    with pytest.raises(MetricError, match=r"scores: got shape \(3,\), want \(2,\)"):
        ndcg_at_k(gains, np.zeros(3), offsets, 10)
    with pytest.raises(MetricError, match="positives_total: got 0 for page 0"):
        recall_at_k(gains, np.zeros(2), offsets, 10, np.array([0]))
