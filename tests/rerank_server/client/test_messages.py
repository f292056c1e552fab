"""Between pages and messages: what comes back must belong to what was sent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server.client.messages import AnswerError, answer_from_pb, page_to_pb
from rerank_server.convert import page_from_pb
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.pb import rerank_pb2 as pb

PAGE = SearchPage(["a", "b", "c"])
NAMES = st.text("abcdefg", min_size=1, max_size=4)
NUMBERS = st.floats(-10, 10, width=32) | st.just(float("nan"))


@st.composite
def pages(draw) -> SearchPage:
    ids = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    column = st.lists(NUMBERS, min_size=len(ids), max_size=len(ids))
    events = draw(st.integers(0, 3))
    sized = {"min_size": events, "max_size": events}
    return SearchPage(
        ids,
        retrieval_scores=draw(column),
        signals={
            name: np.array(draw(column), np.float32) for name in draw(st.sets(NAMES, max_size=2))
        },
        query=draw(NAMES | st.just("")),
        time=draw(st.none() | st.integers(1, 2_000_000_000)),
        shopper_id=draw(st.none() | NAMES),
        history=ShopperHistory(
            product_ids=draw(st.lists(NAMES, **sized)),
            times=draw(st.lists(st.integers(1, 1_000), **sized)),
            kinds=draw(st.lists(st.sampled_from(["click", "purchase"]), **sized)),
        ),
        category=draw(st.none() | NAMES),
        objective_weights=draw(st.dictionaries(NAMES, st.floats(-1, 1, width=32), max_size=2)),
        explain=draw(st.booleans()),
        top_k=draw(st.none() | st.integers(1, 8)),
    )


@settings(deadline=None)
@given(pages())
def test_a_page_is_the_same_after_the_wire(page):
    again = page_from_pb(pb.RerankRequest.FromString(page_to_pb(page).SerializeToString()))
    assert list(again.candidate_ids) == list(page.candidate_ids)
    np.testing.assert_array_equal(again.retrieval_scores, page.retrieval_scores)
    assert again.signals.keys() == page.signals.keys()
    for name, values in page.signals.items():
        np.testing.assert_array_equal(again.signals[name], values)
    np.testing.assert_array_equal(again.history.times, page.history.times)
    assert list(again.history.kinds) == list(page.history.kinds)
    for name in ("query", "time", "shopper_id", "category", "explain", "top_k"):
        assert getattr(again, name) == getattr(page, name)
    assert again.objective_weights == page.objective_weights


@pytest.mark.parametrize(
    ("ids", "ranks"),
    [
        (["a", "x"], [0, 1]),
        (["a", "a"], [0, 0]),
        (["a", "b"], [0]),
        (["a"], [3]),
        (["b", "a"], [0, 1]),
    ],
)
def test_an_answer_to_another_page_is_refused(ids, ranks):
    response = pb.RerankResponse(candidate_ids=ids, retrieval_ranks=ranks)
    with pytest.raises(AnswerError, match="got candidates of another page"):
        answer_from_pb(PAGE, response, 1)


def test_hidden_candidates_and_unknown_reasons_are_no_reason_to_refuse():
    response = pb.RerankResponse(candidate_ids=["c", "a"], retrieval_ranks=[2, 0])
    assert answer_from_pb(PAGE, response, 1).candidate_ids == ("c", "a")
    newer = pb.RerankResponse(degraded=True)
    newer.MergeFromString(b"\x40\x63")  # field 8, degraded_reason, 99
    answer = answer_from_pb(PAGE, newer, 1)
    assert answer.degraded_reason == "reason 99"
    assert answer.candidate_ids == ()
