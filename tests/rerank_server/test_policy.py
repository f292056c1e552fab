"""From objectives to one score and an order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.policy import combine_objectives, objective_weights, order_by_score


def test_the_score_is_the_weighted_sum_of_the_objectives():
    probabilities = np.array([[0.5, 0.25], [0.1, 0.9]], np.float32)
    weights = objective_weights(("purchase", "trial"), {"trial": 2.0, "purchase": 1.0})
    scores = combine_objectives(probabilities, weights)
    np.testing.assert_allclose(scores, [1.0, 1.9], rtol=1e-6)
    assert scores.dtype == np.float32


def test_an_objective_left_out_weighs_nothing():
    assert objective_weights(("purchase", "trial"), {"trial": 3.0}).tolist() == [0.0, 3.0]


def test_ties_keep_retrieval_order():
    scores = np.array([0.5, 0.7, 0.5, 0.7, 0.5], np.float32)
    assert order_by_score(scores, None).tolist() == [1, 3, 0, 2, 4]
    assert order_by_score(scores, 3).tolist() == [1, 3, 0]


def test_more_than_the_page_holds_is_all():
    assert order_by_score(np.array([1.0], np.float32), 1000).tolist() == [0]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=30, unique=True), st.randoms())
def test_permuting_candidates_with_distinct_scores_never_changes_the_order(scores, random):
    order = list(range(len(scores)))
    random.shuffle(order)
    plain = np.array(scores, np.float32)
    moved = plain[order]
    np.testing.assert_array_equal(
        moved[order_by_score(moved, None)], plain[order_by_score(plain, None)]
    )
