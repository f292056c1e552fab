"""Any request gets either a clear refusal or every one of its candidates back."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server.contract.errors import PageError
from rerank_server.convert import page_from_pb, response_to_pb
from rerank_server.page import RankedPage
from rerank_server.pb import rerank_pb2 as pb
from tests.rerank_server.tiny_bundle import NOW, PRODUCTS

KNOWN = [product[0] for product in PRODUCTS]
ids = st.one_of(
    st.sampled_from(KNOWN), st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
plain_numbers = st.one_of(st.just(math.nan), st.floats(-100, 100, width=32))


@st.composite
def requests(draw) -> pb.RerankRequest:
    wild = draw(st.integers(0, 3)) == 0  # most requests keep the rules
    numbers = st.floats(width=32) if wild else plain_numbers
    times = st.integers(-(2**63), 2**63 - 1) if wild else st.integers(0, NOW)
    candidates = draw(st.lists(ids, min_size=0 if wild else 1, max_size=8, unique=not wild))
    size = draw(st.integers(0, 9)) if wild else len(candidates)
    events = draw(st.integers(0, 12))
    request = pb.RerankRequest(
        candidate_ids=candidates,
        query=draw(texts),
        surface=draw(st.sampled_from(["", "search", "promotion", "nowhere"])),
        history=pb.History(
            product_ids=[draw(ids) for _ in range(events)],
            times=[draw(times) for _ in range(events)],
            kinds=[pb.EventKind.ValueType(draw(st.integers(0 if wild else 1, 5 if wild else 4)))]
            * draw(st.sampled_from([0, events])),
            places=[draw(st.sampled_from(["s1", "s2", ""]))] * draw(st.sampled_from([0, events])),
            discounted=[draw(st.booleans())] * draw(st.sampled_from([0, events])),
        ),
        objective_weights=draw(
            st.dictionaries(
                st.sampled_from(["purchase", "trial", *(["other"] if wild else [])]),
                numbers if wild else st.floats(-9, 9),
                max_size=2,
            )
        ),
        explain=draw(st.booleans()),
    )
    if draw(st.booleans()):
        request.retrieval_scores.extend([draw(numbers) for _ in range(size)])
    if draw(st.booleans()):
        values = [draw(numbers) for _ in range(size)]
        request.signals.add(
            name=draw(st.sampled_from(["promoted", "other"] if wild else ["promoted"])),
            values=values,
        )
    for name, drawn in (
        ("time", times if wild else st.just(NOW)),
        ("place", st.sampled_from(["s1", ""])),
        ("category", st.sampled_from(["pet", "nothing"])),
        ("top_k", st.integers(0 if wild else 1, 20)),
    ):
        if draw(st.booleans()):
            setattr(request, name, draw(drawn))
    return request


@settings(max_examples=400, deadline=None)
@given(requests())
def test_a_request_is_refused_or_answered_whole(tiny_reranker, request_pb):
    wire = pb.RerankRequest.FromString(request_pb.SerializeToString())
    try:
        ranked = tiny_reranker.rerank(page_from_pb(wire))
    except PageError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert_answered_whole(wire, ranked)
    assert not refusal or (": got " in refusal and ", want " in refusal)


def assert_answered_whole(wire: pb.RerankRequest, ranked: RankedPage) -> None:
    response = response_to_pb(ranked, queue_us=0, total_us=0, version="1")
    assert len(set(response.candidate_ids)) == len(response.candidate_ids)
    if not wire.HasField("top_k"):
        assert sorted(response.candidate_ids) == sorted(wire.candidate_ids)
    for product_id, rank in zip(response.candidate_ids, response.retrieval_ranks, strict=True):
        assert wire.candidate_ids[rank] == product_id
    if not response.degraded:
        scores = np.array(response.scores, np.float32)
        assert np.isfinite(scores).all()
        assert (np.diff(scores) <= 0).all()
        for column in response.objectives:
            assert all(0 <= value <= 1 for value in column.probabilities)
        for explanation in response.explanations:
            assert len(explanation.contributions) == len(scores)
            assert not any(math.isnan(value) for value in explanation.contributions)
