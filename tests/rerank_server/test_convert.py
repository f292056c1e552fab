"""Between messages and pages: every field arrives, absent and zero are told apart."""

from __future__ import annotations

import numpy as np

from rerank_server.convert import page_from_pb, response_to_pb
from rerank_server.page import DegradedReason, RankedPage, Timings
from rerank_server.pb import rerank_pb2 as pb


def test_every_field_of_the_request_arrives():
    page = page_from_pb(
        pb.RerankRequest(
            candidate_ids=["a", "b"],
            retrieval_scores=[1.5, float("nan")],
            signals=[pb.Signal(name="stock", values=[3, 4])],
            query="milk",
            surface="home",
            time=100,
            place="s1",
            shopper_id="me",
            history=pb.History(
                product_ids=["c"],
                times=[50],
                kinds=[pb.EVENT_KIND_CART],
                places=["s2"],
                discounted=[True],
            ),
            category="pet",
            objective_weights={"purchase": 0.5},
            explain=True,
            top_k=1,
        )
    )
    assert page.candidate_ids == ["a", "b"]
    np.testing.assert_array_equal(page.retrieval_scores, [1.5, np.nan])
    assert page.signals["stock"].tolist() == [3, 4]
    assert (page.query, page.surface, page.time, page.place) == ("milk", "home", 100, "s1")
    assert (page.shopper_id, page.category, page.explain, page.top_k) == ("me", "pet", True, 1)
    assert page.objective_weights == {"purchase": 0.5}
    assert page.history.product_ids == ["c"]
    assert list(page.history.times) == [50]
    assert page.history.kinds == ["cart"]
    assert page.history.places == ["s2"]
    assert page.history.discounted == [True]


def test_absent_is_not_zero():
    page = page_from_pb(pb.RerankRequest(candidate_ids=["a"]))
    assert np.isnan(page.retrieval_scores).all()
    assert (page.time, page.place, page.shopper_id) == (None, None, None)
    assert (page.category, page.top_k, page.explain) == (None, None, False)
    assert len(page.history.times) == 0


def test_every_column_of_the_response_is_in_the_returned_order():
    ranked = RankedPage(
        candidate_ids=["b", "a"],
        retrieval_ranks=np.array([1, 0], np.int32),
        bundle_id="id",
        scores=np.array([0.75, 0.25], np.float32),
        objectives=("purchase", "trial"),
        probabilities=np.array([[0.75, 0.5], [0.25, 0.125]], np.float32),
        explanations={"price": np.array([0.5, -0.5], np.float32)},
        timings=Timings(lookup_us=1, query_us=2, encode_us=3, score_us=4, policy_us=5),
    )
    got = response_to_pb(ranked, queue_us=6, total_us=30, version="1")
    assert got == pb.RerankResponse(
        candidate_ids=["b", "a"],
        scores=[0.75, 0.25],
        retrieval_ranks=[1, 0],
        objectives=[
            pb.ObjectiveColumn(objective="purchase", probabilities=[0.75, 0.25]),
            pb.ObjectiveColumn(objective="trial", probabilities=[0.5, 0.125]),
        ],
        explanations=[pb.ExplanationColumn(group="price", contributions=[0.5, -0.5])],
        bundle_id="id",
        timings=pb.Timings(
            queue_us=6,
            lookup_us=1,
            query_us=2,
            encode_us=3,
            score_us=4,
            policy_us=5,
            total_us=30,
        ),
        server_version="1",
    )


def test_every_reason_has_a_name_on_the_wire():
    for reason in DegradedReason:
        ranked = RankedPage(["a"], np.zeros(1, np.int32), "id", degraded_reason=reason)
        got = response_to_pb(ranked, queue_us=0, total_us=0, version="1")
        assert got.degraded
        assert pb.DegradedReason.Name(got.degraded_reason) == f"DEGRADED_REASON_{reason.name}"
