from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.logs.log_arrays import InteractionArrays
from trainer.logs.windows import PastPurchases, SalesWindows, expand_slices

DAY = 86_400


def interactions(lines: list[tuple[int, int, int, int]]) -> InteractionArrays:
    """Return interactions of (shopper, day, place, product row)."""
    lines = sorted(lines, key=lambda line: (line[0], line[1], line[3]))
    shopper, day, place, row = (np.array(column) for column in zip(*lines, strict=True))
    counts = np.bincount(shopper)
    return InteractionArrays(
        shoppers=[str(index) for index in range(len(counts))],
        places=["a", "b"],
        shopper=shopper.astype(np.int32),
        row=row.astype(np.int32),
        time=day.astype(np.int64) * DAY,
        place=place.astype(np.int32),
        period=np.full(len(row), -1, np.int32),
        quantity=np.ones(len(row), np.float32),
        price=np.ones(len(row), np.float32),
        discount=np.zeros(len(row), np.float32),
        shopper_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_expand_slices_lists_owner_and_position():
    owner, position = expand_slices(np.array([5, 0, 9]), np.array([2, 0, 3]))
    assert owner.tolist() == [0, 0, 2, 2, 2]
    assert position.tolist() == [5, 6, 9, 10, 11]


def test_a_window_ends_before_the_day_and_starts_its_length_earlier():
    log = interactions([(0, day, 0, 0) for day in range(10)])
    sales = SalesWindows(log, 1, chain_days=(3,), place_days=(3,))
    sales.advance(5)
    # days 2, 3 and 4
    assert sales.chain(3, rows(0)).tolist() == [3]
    sales.advance(11)
    # days 8 and 9
    assert sales.chain(3, rows(0)).tolist() == [2]


def test_place_counts_hold_their_own_place_only_and_an_unknown_place_none():
    log = interactions([(0, 1, 0, 0), (0, 2, 1, 0), (1, 2, 1, 0), (1, 2, 1, 1)])
    sales = SalesWindows(log, 2, chain_days=(9,), place_days=(9,))
    sales.advance(3)
    assert sales.chain(9, rows(0, 1)).tolist() == [3, 1]
    assert sales.place(9, rows(0, 1, -1, 0), rows(0, 0, 0, 1)).tolist() == [1, 2, 0, 0]


def test_days_out_of_order_are_refused():
    sales = SalesWindows(interactions([(0, 1, 0, 0), (0, 4, 0, 0)]), 1, (3,), ())
    sales.advance(5)
    with pytest.raises(ValueError, match="ascending"):
        sales.advance(2)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 1), st.integers(0, 4)),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 8),
)
def test_rolling_counts_equal_counting_anew(lines, window):
    log = interactions(lines)
    sales = SalesWindows(log, 5, chain_days=(window,), place_days=(window,))
    for day in (0, 3, 4, 11, 22):
        sales.advance(day)
        inside = [line for line in lines if day - window <= line[1] < day]
        for row in range(5):
            expected = sum(line[3] == row for line in inside)
            assert sales.chain(window, rows(row))[0] == expected
            for place in range(2):
                expected = sum(line[3] == row and line[2] == place for line in inside)
                assert sales.place(window, rows(place), rows(row))[0] == expected


def test_past_purchases_halve_with_each_half_life_and_end_before_the_day():
    log = interactions([(0, 0, 0, 3), (0, 60, 0, 3), (0, 60, 0, 1), (0, 120, 0, 2), (1, 5, 0, 0)])
    past = PastPurchases(log, decay_days=60.0)
    owner, row, weight = past.weights(rows(1, 0), 120)
    assert owner.tolist() == [0, 1, 1]
    assert row.tolist() == [0, 1, 3]
    np.testing.assert_allclose(weight, [0.5 ** (115 / 60), 0.5, 0.25 + 0.5])


def test_a_shopper_without_a_past_has_no_products():
    log = interactions([(0, 7, 0, 0), (1, 1, 0, 0)])
    owner, row, _ = PastPurchases(log, decay_days=60.0).weights(rows(0), 7)
    assert len(owner) == len(row) == 0
