from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.retrieval.order import first_stage_scores, place_signals, take_candidates
from tests.deploy.demo.retrieval.small_catalogue import random_catalogue, small_catalogue

CATALOGUE = random_catalogue(11)


def rows(*values):
    return np.array(values, np.int32)


def test_scores_are_the_formula_in_float32():
    scores = first_stage_scores(small_catalogue(), rows(2, 5, 0), "north")
    expected = [math.log(4) + 1.5 * math.log(25), 0.0, math.log(31) + 1.5 * math.log(2)]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert scores.dtype == np.float32
    without = first_stage_scores(small_catalogue(), rows(2, 5, 0), None)
    np.testing.assert_allclose(without, [math.log(4), 0.0, math.log(31)], rtol=1e-6)


def test_signals_tell_unknown_from_none():
    signals = place_signals(small_catalogue(), rows(7, 1), "north")
    np.testing.assert_array_equal(signals["promotion_display"], [np.nan, 0])
    np.testing.assert_array_equal(signals["store_sales_91d"], [2, 0])


def test_no_match_gives_an_empty_page():
    found = take_candidates(
        CATALOGUE, rows(), place="place1", limit=5, own=["p1"], own_limit=5, approximate=False
    )
    assert found.ids == ()
    assert all(column.shape == (0,) for column in found.signals.values())


@given(
    matched=st.lists(st.integers(0, 399), unique=True, max_size=80),
    own=st.lists(st.integers(0, 399), max_size=40),
    limit=st.integers(1, 30),
    own_limit=st.integers(0, 10),
    place=st.sampled_from([None, "place0", "place3"]),
    random=st.randoms(use_true_random=False),
)
def test_a_page_is_the_best_and_then_own_ones_whatever_the_order_of_matches(
    matched, own, limit, own_limit, place, random
):
    own_ids = [f"p{row}" for row in own]

    def take(matched_rows, own_products):
        return take_candidates(
            CATALOGUE,
            rows(*matched_rows),
            place=place,
            limit=limit,
            own=own_products,
            own_limit=own_limit,
        )

    found = take(matched, own_ids)
    best = take(matched, [])
    assert found.ids[: len(best.ids)] == best.ids
    assert len(best.ids) == min(limit, len(matched))
    assert len(set(found.ids)) == len(found.ids) <= limit + own_limit
    assert set(found.ids[limit:]) <= set(own_ids)
    assert (np.diff(found.scores) <= 0).all()
    shuffled = random.sample(matched, len(matched))
    assert take(shuffled, own_ids).ids == found.ids
