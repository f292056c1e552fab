"""MMR and the determinantal process on vectors small enough to work out by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rerank_server.diversity import dpp_order, mmr_order, unit_vectors
from tests.rerank_server.policies import apply, order, policy_page

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
ORDERS = {"mmr": mmr_order, "dpp": dpp_order}


def test_vectors_get_length_1_and_unknown_ones_none():
    vectors = np.array([[3, 4], [0, 0], [5, 0], [np.nan, 1]], np.float32)
    got = unit_vectors(vectors, np.array([True, True, False, True]))
    want = np.array([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(got, want, rtol=1e-7)


def test_mmr_is_as_worked_out_by_hand():
    relevance = np.array([1.0, 0.8, 0.5, 0.0], np.float32)
    vectors = np.array([EAST, EAST, NORTH, [0.6, 0.8]])
    # w = .5, after 0: .4 - .5, .25 - 0, 0 - .3; after 2: .4 - .5, 0 - .4
    assert mmr_order(relevance, vectors, 4, 0.5).tolist() == [0, 2, 1, 3]
    assert mmr_order(relevance, vectors, 2, 0.5).tolist() == [0, 2]


def test_the_determinantal_process_takes_the_largest_determinant_step_by_step():
    random = np.random.default_rng(3)
    vectors = unit_vectors(random.standard_normal((6, 4)).astype(np.float32), np.ones(6, np.bool_))
    relevance = np.sort(random.random(6).astype(np.float32))[::-1]
    w = 0.6
    scaled = (relevance - relevance.min()) / np.ptp(relevance)
    quality = np.exp(w * scaled / (2 * (1 - w)))
    kernel = quality[:, None] * (1 + vectors @ vectors.T) / 2 * quality
    np.fill_diagonal(kernel, quality**2)
    chosen: list[int] = []
    for _ in range(4):
        rest = [index for index in range(6) if index not in chosen]
        chosen.append(
            max(rest, key=lambda i: np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])]))
        )
    assert dpp_order(relevance, vectors, 4, w).tolist() == chosen
    assert chosen != [0, 1, 2, 3]


def test_the_determinantal_process_ends_when_only_copies_are_left():
    vectors = np.array([EAST, EAST, NORTH, NORTH, EAST])
    relevance = np.array([5, 4, 3, 2, 1], np.float32)
    assert dpp_order(relevance, vectors, 5, 0.5).tolist() == [0, 2]


@pytest.mark.parametrize("method", ORDERS)
def test_like_products_are_spread_and_the_rest_keeps_its_order(method):
    vectors = np.array([EAST, EAST, EAST, NORTH, NORTH], np.float32)
    text = f"""
        [[diversity]]
        name = "d"
        method = "{method}"
        relevance_weight = 0.3
        within_top = 2
    """
    ruling = apply(text, policy_page(size=5, vectors=vectors), trace=True)
    assert ruling.ranks.tolist() == [0, 3, 1, 2, 4]
    assert ruling.trace is not None
    assert ruling.trace.retrieval_ranks == [1, 2, 3]
    assert ruling.trace.ranks_after == [2, 3, 1]


@pytest.mark.parametrize("method", ORDERS)
def test_places_are_filled_from_the_best_candidates_only(method):
    vectors = np.array([EAST, EAST, EAST, NORTH], np.float32)
    text = f"""
        [[diversity]]
        name = "d"
        method = "{method}"
        relevance_weight = 0.3
        within_top = 2
        choose_from = 3
    """
    assert order(text, policy_page(size=4, vectors=vectors)) == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ORDERS)
def test_unknown_products_are_not_taken_for_copies_of_each_other(method):
    vectors = np.array([EAST, EAST, EAST, EAST], np.float32)
    page = policy_page(size=4, vectors=vectors, known=[True, True, False, False])
    text = f"""
        [[diversity]]
        name = "d"
        method = "{method}"
        relevance_weight = 0.0
        within_top = 3
    """
    assert order(text, page) == [0, 2, 3, 1]


@pytest.mark.parametrize("method", ORDERS)
def test_buried_candidates_are_not_lifted(method):
    vectors = np.array([EAST, EAST, NORTH], np.float32)
    text = f"""
        [[diversity]]
        name = "d"
        method = "{method}"
        relevance_weight = 0.0
        within_top = 3
        [[bury]]
        name = "b"
        products = ["p2"]
    """
    assert order(text, policy_page(size=3, vectors=vectors)) == [0, 1, 2]


@settings(deadline=None)
@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-4, 4, width=32)
    ),
    st.sampled_from(sorted(ORDERS)),
    st.floats(0, 0.99),
    st.integers(1, 12),
)
def test_each_candidate_is_chosen_at_most_once(vectors, method, weight, count):
    size = vectors.shape[0]
    relevance = np.linspace(1, 0, size).astype(np.float32)
    usable = unit_vectors(vectors, np.ones(size, np.bool_))
    chosen = ORDERS[method](relevance, usable, count, weight).tolist()
    assert len(set(chosen)) == len(chosen) <= min(count, size)
    assert chosen[0] == 0
    if method == "mmr":
        assert len(chosen) == min(count, size)


def test_with_full_weight_mmr_is_the_order_by_score():
    relevance = np.array([3, 2, 2, 1], np.float32)
    for vectors in permutations([EAST, EAST, NORTH, NORTH]):
        assert mmr_order(relevance, np.array(vectors), 4, 1.0).tolist() == [0, 1, 2, 3]
