"""Floors and caps on the first places, with pinned and sunk candidates around."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_server.exposure import Limit, place_candidates
from rerank_server.policy_trace import TraceWriter
from tests.rerank_server.policies import order, policy_page

A, B, NONE = 0, 1, -1


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def placed(queue, limits, *, sunk=(), pinned=None, trace=None) -> list[int]:
    ranks: list[int] = place_candidates(
        rows(*queue), rows(*sunk), pinned or {}, limits, trace
    ).tolist()
    return ranks


def limit(groups, places, *, cap=None, floor=0, rule="r") -> Limit:
    return Limit(rule, rows(*groups), places, cap, floor)


def test_without_limits_the_queue_fills_the_places_between_the_pins():
    assert placed([0, 1, 3], [], sunk=[4, 5], pinned={1: 2, 5: 6}) == [0, 2, 1, 3, 4, 6, 5]


def test_a_cap_holds_back_the_later_ones_of_its_group():
    #        0  1  2  3     4  5
    groups = A, A, A, NONE, A, NONE
    assert placed(range(6), [limit(groups, 4, cap=2)]) == [0, 1, 3, 5, 2, 4]
    assert placed(range(6), [limit(groups, 3, cap=2)]) == [0, 1, 3, 2, 4, 5]


def test_a_cap_of_each_value_counts_them_apart():
    groups = A, A, B, B, NONE, NONE
    assert placed(range(6), [limit(groups, 4, cap=1)]) == [0, 2, 4, 5, 1, 3]


def test_a_cap_of_0_keeps_the_first_places_free_of_its_group():
    groups = A, NONE, A, NONE
    assert placed(range(4), [limit(groups, 2, cap=0)]) == [1, 3, 0, 2]


def test_a_floor_is_served_as_late_as_it_can_be():
    groups = NONE, NONE, NONE, NONE, A, A
    assert placed(range(6), [limit(groups, 3, floor=1)]) == [0, 1, 4, 2, 3, 5]
    assert placed(range(6), [limit(groups, 3, floor=2)]) == [0, 4, 5, 1, 2, 3]


def test_two_floors_get_the_places_that_both_need():
    first = limit((NONE, NONE, NONE, A, NONE), 3, floor=1, rule="a")
    second = limit((NONE, NONE, NONE, NONE, A), 3, floor=1, rule="b")
    assert placed(range(5), [first, second]) == [0, 3, 4, 1, 2]


def test_a_cap_and_a_floor_hold_together():
    cap = limit((A, A, A, NONE, NONE), 3, cap=1)
    floor = limit((NONE, NONE, NONE, NONE, A), 3, floor=1)
    assert placed(range(5), [cap, floor]) == [0, 3, 4, 1, 2]


def test_pinned_candidates_count_for_caps_and_floors():
    groups = A, A, NONE, NONE
    assert placed([0, 2, 3], [limit(groups, 3, cap=1)], pinned={2: 1}) == [2, 3, 1, 0]
    assert placed([0, 1, 3], [limit((A, NONE, A, A), 2, floor=1)], pinned={0: 2}) == [2, 0, 1, 3]


def test_a_pin_behind_the_places_does_not_count_for_them():
    assert placed([0, 1, 2], [limit((A, A, NONE, A), 2, cap=1)], pinned={3: 3}) == [0, 2, 1, 3]


def test_a_pin_wins_over_a_cap():
    groups = A, A, NONE
    got = placed([2], [limit(groups, 2, cap=1)], pinned={0: 0, 1: 1})
    assert got == [0, 1, 2]


def test_a_page_without_others_misses_a_cap_and_the_trace_says_by_how_much():
    trace = TraceWriter()
    groups = A, A, A, NONE
    assert placed(range(4), [limit(groups, 4, cap=1)], trace=trace) == [0, 3, 1, 2]
    told = trace.trace("", ["r"], rows(0, 1, 2, 3), rows(0, 3, 1, 2))
    assert told.shortfalls == [2]
    assert told.retrieval_ranks == [1, 2]  # held back


def test_a_floor_beyond_the_page_takes_what_there_is():
    trace = TraceWriter()
    groups = NONE, NONE, NONE, A
    assert placed(range(4), [limit(groups, 2, floor=2)], trace=trace) == [0, 3, 1, 2]
    told = trace.trace("", ["r"], rows(0, 1, 2, 3), rows(0, 3, 1, 2))
    assert (told.shortfalls, told.retrieval_ranks) == ([1], [3])


def test_no_floor_lifts_what_is_sunk_and_no_cap_lifts_it_either():
    groups = A, A, NONE, NONE
    assert placed([0, 1], [limit(groups, 2, cap=1)], sunk=[2, 3]) == [0, 1, 2, 3]
    floor = limit((NONE, NONE, A, A), 2, floor=1)
    assert placed([0, 1], [floor], sunk=[2, 3]) == [0, 1, 2, 3]


def test_a_cap_ends_with_its_places():
    small = limit((A, A, A, NONE, NONE, NONE), 2, cap=1, rule="small")
    large = limit((NONE, NONE, NONE, A, A, NONE), 4, cap=1, rule="large")
    assert placed(range(6), [small, large]) == [0, 3, 1, 2, 4, 5]


def test_a_page_of_pins_only_is_left_alone():
    assert placed([], [limit((A, A), 2, cap=1)], pinned={0: 1, 1: 0}) == [1, 0]


@pytest.mark.parametrize(
    ("bound", "want"),
    [
        ("max_count = 1", [0, 3, 1, 2, 4]),
        ("max_share = 0.5", [0, 3, 1, 2, 4]),
        ("max_share = 0.9", [0, 3, 1, 2, 4]),  # 1.8 places, rounded down
        ("max_share = 0.1", [0, 3, 1, 2, 4]),  # at least 1
    ],
)
def test_a_cap_as_a_share_is_rounded_down_but_at_least_1(bound, want):
    page = policy_page(["dairy", "dairy", "dairy", "pet", "pet"])
    text = f'[[exposure]]\nname = "e"\ncategories = ["dairy"]\nwithin_top = 2\n{bound}'
    assert order(text, page) == want


@pytest.mark.parametrize(
    ("bound", "want"),
    [
        ("min_count = 1", [0, 1, 3, 2, 4]),
        ("min_share = 0.3", [0, 1, 3, 2, 4]),  # .9 of 3 places
        ("min_share = 0.34", [0, 3, 4, 1, 2]),  # 1.02
    ],
)
def test_a_floor_as_a_share_is_rounded_up(bound, want):
    page = policy_page(["dairy", "dairy", "dairy", "pet", "pet"])
    text = f'[[exposure]]\nname = "e"\ncategories = ["pet"]\nwithin_top = 3\n{bound}'
    assert order(text, page) == want


def test_each_brand_has_its_own_cap_and_unknown_brands_none():
    page = policy_page(brands=["Acme", "Acme", "", "", ""])
    text = '[[exposure]]\nname = "e"\neach = "brand"\nwithin_top = 3\nmax_count = 1'
    assert order(text, page) == [0, 2, 3, 1, 4]


def test_each_level_of_the_path_can_be_capped_within_a_category():
    page = policy_page(
        ["dairy", "dairy", "pet", "pet"], leaves=["milk", "milk", "dog food", "dog food"]
    )
    text = """
        [[exposure]]
        name = "e"
        each = "leaf"
        categories = ["dairy"]
        within_top = 3
        max_count = 1
    """
    assert order(text, page) == [0, 2, 3, 1]
