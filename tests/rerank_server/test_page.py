"""The rules of a page: each broken one says what was got and what is wanted."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_server.contract.errors import PageError
from rerank_server.page import (
    DegradedReason,
    SearchPage,
    ShopperHistory,
    Timings,
    retrieval_order,
)

BROKEN_PAGES = {
    "no candidates": ({"candidate_ids": []}, r"candidates: got 0, want 1 to 1000"),
    "1,001 candidates": (
        {"candidate_ids": [str(n) for n in range(1001)]},
        r"candidates: got 1001, want 1 to 1000",
    ),
    "the same candidate twice": (
        {"candidate_ids": ["a", "b", "a"]},
        r"candidate_ids: got 'a' at 0 and at 2, want each candidate once",
    ),
    "an id of 10 kB": (
        {"candidate_ids": ["a", "x" * 10_000]},
        r"candidate_ids\[1\]: got 10000 bytes, want 1 to 256",
    ),
    "an empty id": ({"candidate_ids": ["a", ""]}, r"candidate_ids\[1\]: got 0 bytes"),
    "an id of 257 bytes in 65 characters": (
        {"candidate_ids": ["\U0001f95b" * 64 + "x"]},
        r"candidate_ids\[0\]: got 257 bytes",
    ),
    "too few scores": (
        {"retrieval_scores": [1.0]},
        r"retrieval_scores: got 1 values, want 2 or none",
    ),
    "an infinite score": (
        {"retrieval_scores": [1.0, float("-inf")]},
        r"retrieval_scores\[1\]: got -inf, want a finite number or NaN",
    ),
    "a score beyond float32": (
        {"retrieval_scores": [1e300, 1.0]},
        r"retrieval_scores\[0\]: got inf, want a finite number",
    ),
    "an empty signal": ({"signals": {"stock": []}}, r"signal 'stock': got 0 values, want 2"),
    "a long query": ({"query": "x" * 1025}, r"query: got 1025 bytes, want at most 1024"),
    "a long surface": ({"surface": "x" * 257}, r"surface: got 257 bytes, want at most 256"),
    "a long shopper": ({"shopper_id": "x" * 257}, r"shopper_id: got 257 bytes"),
    "milliseconds": ({"time": 1_700_000_000_000}, r"time: got 1700000000000, want Unix seconds"),
    "a negative time": ({"time": -1}, r"time: got -1, want Unix seconds"),
    "top_k of 0": ({"top_k": 0}, r"top_k: got 0, want 1 to 1000"),
    "top_k of 1,001": ({"top_k": 1001}, r"top_k: got 1001, want 1 to 1000"),
    "a weight that is no number": (
        {"objective_weights": {"purchase": float("nan")}},
        r"objective_weights\['purchase'\]: got nan, want a finite number",
    ),
}


@pytest.mark.parametrize(("fields", "message"), BROKEN_PAGES.values(), ids=BROKEN_PAGES.keys())
def test_a_broken_page_is_refused(fields, message):
    with pytest.raises(PageError, match=message):
        SearchPage(**({"candidate_ids": ["a", "b"]} | fields))


BROKEN_HISTORIES = {
    "too many events": (
        {"product_ids": ["a"] * 4097, "times": [1] * 4097},
        r"history: got 4097 events, want at most 4096, the newest",
    ),
    "no times": ({"product_ids": ["a"]}, r"history.times: got 0 values, want 1"),
    "times without products": ({"times": [1]}, r"history.times: got 1 values, want 0"),
    "milliseconds": (
        {"product_ids": ["a", "b"], "times": [1, 1_700_000_000_000]},
        r"history.times: got 1700000000000, want Unix seconds \(not milliseconds\)",
    ),
    "a negative time": ({"product_ids": ["a"], "times": [-5]}, r"history.times: got -5"),
    "an empty id": ({"product_ids": [""], "times": [1]}, r"history.product_ids\[0\]: got 0 bytes"),
    "one kind for two events": (
        {"product_ids": ["a", "b"], "times": [1, 2], "kinds": ["click"]},
        r"history.kinds: got 1 values, want 2 or none",
    ),
    "a long place": (
        {"product_ids": ["a"], "times": [1], "places": ["x" * 300]},
        r"history.places: got 300 bytes",
    ),
}


@pytest.mark.parametrize(
    ("fields", "message"), BROKEN_HISTORIES.values(), ids=BROKEN_HISTORIES.keys()
)
def test_a_broken_history_is_refused(fields, message):
    with pytest.raises(PageError, match=message):
        ShopperHistory(**fields)


@pytest.mark.parametrize("size", [1, 1000])
def test_the_smallest_and_the_largest_page_are_accepted(size):
    assert SearchPage([str(n) for n in range(size)]).size == size


def test_absent_scores_are_missing_not_zero():
    assert np.isnan(SearchPage(["a", "b"]).retrieval_scores).all()


def test_control_characters_and_emoji_are_accepted():
    page = SearchPage(["a\x00b", "\U0001f95b"], query="milk\x00\r\n\x1b[31m \U0001f95b\ud800")
    assert page.size == 2


def test_a_page_never_shows_its_shopper():
    assert "secret" not in repr(SearchPage(["a"], shopper_id="secret"))


def test_retrieval_order_is_the_page_as_it_came():
    page = SearchPage(["a", "b", "c"], top_k=2)
    ranked = retrieval_order(page, "id", DegradedReason.DEADLINE, "late", Timings())
    assert ranked.candidate_ids == ["a", "b"]
    assert ranked.retrieval_ranks.tolist() == [0, 1]
    assert ranked.scores.tolist() == []
    assert ranked.degraded
