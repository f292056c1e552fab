"""From ids and names to rows; what is not known becomes neutral or is refused by name."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rerank_server.contract.errors import PageError
from rerank_server.lookup import CLOCK_SKEW_S, check_objectives, locate_page
from rerank_server.page import SearchPage, ShopperHistory
from tests.rerank_server.tiny_bundle import NOW, SCHEMA


@pytest.fixture
def locate(tiny_reranker):
    return lambda page: locate_page(page, SCHEMA, tiny_reranker.products)


def test_names_become_rows(locate):
    page = locate(
        SearchPage(["dog-1", "new", "milk-1"], surface="promotion", time=NOW, query="milk")
    )
    assert page.rows.tolist() == [2, 5, 0]
    assert (page.surface, page.time, page.query) == (1, NOW, "milk")
    assert page.history.size == 0


def test_an_unknown_surface_takes_the_first(locate):
    assert locate(SearchPage(["a"], surface="home")).surface == 0


def test_a_signal_not_sent_is_missing(locate):
    assert np.isnan(locate(SearchPage(["a", "b"])).signals).all()
    sent = locate(SearchPage(["a", "b"], signals={"promoted": np.array([1.0, 0.0])}))
    assert sent.signals.tolist() == [[1.0], [0.0]]


def test_an_unknown_signal_is_refused_with_the_nearest(locate):
    page = SearchPage(["a"], signals={"promotet": np.array([1.0])})
    with pytest.raises(PageError, match=r"signals: got 'promotet', want .* \(nearest: promoted\)"):
        locate(page)


def test_an_unknown_objective_is_refused_with_the_nearest():
    page = SearchPage(["a"], objective_weights={"purchas": 1.0})
    with pytest.raises(PageError, match=r"got 'purchas', want .* \(nearest: purchase\)"):
        check_objectives(page, SCHEMA)


def test_events_are_sorted_by_time_and_equal_times_keep_their_order(locate):
    history = ShopperHistory(["dog-1", "milk-1", "milk-2"], [NOW - 5, NOW - 9, NOW - 5])
    got = locate(SearchPage(["a"], time=NOW, history=history)).history
    assert got.rows.tolist() == [0, 2, 1]
    assert got.times.tolist() == [NOW - 9, NOW - 5, NOW - 5]


def test_events_of_kinds_the_bundle_does_not_know_are_left_out(locate):
    history = ShopperHistory(
        ["dog-1", "milk-1", "milk-2"],
        [NOW - 9, NOW - 7, NOW - 5],
        kinds=["impression", "click", "purchase"],
    )
    got = locate(SearchPage(["a"], time=NOW, history=history)).history
    assert got.rows.tolist() == [0, 1]
    assert got.kinds.tolist() == [0, 1]


def test_without_kinds_all_events_are_purchases(locate):
    history = ShopperHistory(["dog-1"], [NOW - 9])
    assert locate(SearchPage(["a"], time=NOW, history=history)).history.kinds.tolist() == [1]


def test_only_the_newest_events_that_features_can_see_are_kept(locate):
    history = ShopperHistory(["dog-1"] * 20, [NOW - 100 + n for n in range(20)])
    got = locate(SearchPage(["a"], time=NOW, history=history)).history
    assert got.times.tolist() == [NOW - 100 + n for n in range(12, 20)]


@pytest.mark.parametrize(
    ("place", "places", "want"),
    [
        ("s1", ["s1", "s2", ""], [True, False, False]),
        ("s1", [], [False] * 3),
        (None, ["s1", "s2", ""], [False] * 3),
        ("", ["s1", "s2", ""], [False] * 3),
    ],
)
def test_an_unknown_place_is_never_the_same_place(locate, place, places, want):
    history = ShopperHistory(["dog-1"] * 3, [NOW - 3, NOW - 2, NOW - 1], places=places)
    got = locate(SearchPage(["a"], time=NOW, place=place, history=history)).history
    assert got.same_place.tolist() == want


def test_an_event_later_than_the_page_is_refused(locate):
    page = SearchPage(["a"], time=NOW, history=ShopperHistory(["dog-1"], [NOW + 1]))
    with pytest.raises(PageError, match=rf"got {NOW + 1}, want at most the page's time {NOW}"):
        locate(page)


@pytest.mark.parametrize("absent", [None, 0])
def test_without_a_time_a_small_skew_between_clocks_is_accepted(locate, absent):
    ahead = int(time.time()) + CLOCK_SKEW_S // 2
    page = locate(SearchPage(["a"], time=absent, history=ShopperHistory(["dog-1"], [ahead])))
    assert page.time == ahead


def test_without_a_time_an_event_of_tomorrow_is_refused(locate):
    tomorrow = int(time.time()) + 86_400
    page = SearchPage(["a"], history=ShopperHistory(["dog-1"], [tomorrow]))
    with pytest.raises(PageError, match=rf"got {tomorrow}, want at most {CLOCK_SKEW_S} s after"):
        locate(page)
