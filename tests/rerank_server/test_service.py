"""The service through a real channel: good pages, broken pages, deadlines, failures."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

import grpc
import numpy as np
import pytest

from rerank_server.convert import page_from_pb
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.version import server_version
from tests.rerank_server.scorers import (
    ConstantScorer,
    FailingScorer,
    SlowScorer,
    with_scorer,
)
from tests.rerank_server.tiny_bundle import AS_OF_DAY, NOW

IDS = ["dog-1", "milk-2", "milk-1", "never-seen"]


def full_request(**fields) -> pb.RerankRequest:
    request = pb.RerankRequest(
        candidate_ids=IDS,
        retrieval_scores=[4, math.nan, 2, 1],
        signals=[pb.Signal(name="promoted", values=[1, 0, math.nan, 0])],
        query="fresh milk \U0001f95b\x00\r\n",
        surface="promotion",
        time=NOW,
        place="s1",
        shopper_id="someone",
        history=pb.History(
            product_ids=["milk-1", "dog-1", "dog-1"],
            times=[NOW - 90, NOW - 60, NOW - 60],
            kinds=[pb.EVENT_KIND_PURCHASE, pb.EVENT_KIND_CLICK, pb.EVENT_KIND_IMPRESSION],
            places=["s1", "", "s2"],
            discounted=[True, False, False],
        ),
        category="pet",
        objective_weights={"purchase": 0.25, "trial": 0.75},
        explain=True,
        top_k=3,
    )
    request.MergeFrom(pb.RerankRequest(**fields))
    return request


async def test_both_ways_give_equal_scores(tiny_server, tiny_reranker):
    request = full_request()
    response = await tiny_server.stub.Rerank(request)
    ranked = tiny_reranker.rerank(page_from_pb(request))
    assert list(response.candidate_ids) == ranked.candidate_ids
    assert len(response.candidate_ids) == 3
    np.testing.assert_array_equal(np.float32(response.scores), ranked.scores)
    assert list(response.retrieval_ranks) == ranked.retrieval_ranks.tolist()
    for index, column in enumerate(response.objectives):
        assert column.objective == ranked.objectives[index]
        np.testing.assert_array_equal(
            np.float32(column.probabilities), ranked.probabilities[:, index]
        )
    assert [column.group for column in response.explanations] == list(ranked.explanations)
    for column in response.explanations:
        np.testing.assert_array_equal(
            np.float32(column.contributions), ranked.explanations[column.group]
        )
    assert response.bundle_id == tiny_reranker.bundle.manifest.bundle_id
    assert response.server_version == server_version()
    assert not response.degraded
    assert response.degraded_reason == pb.DEGRADED_REASON_UNSPECIFIED
    stages = response.timings
    parts = (stages.lookup_us, stages.query_us, stages.encode_us, stages.score_us)
    assert 0 < sum(parts) <= stages.total_us


async def test_the_smallest_request_is_one_id(tiny_server):
    response = await tiny_server.stub.Rerank(pb.RerankRequest(candidate_ids=["a"]))
    assert list(response.candidate_ids) == ["a"]
    assert len(response.scores) == 1
    assert list(response.explanations) == []


async def test_the_largest_page_is_answered(tiny_server):
    ids = [f"{number:03d}" + "x" * 253 for number in range(1000)]
    response = await tiny_server.stub.Rerank(pb.RerankRequest(candidate_ids=ids, explain=True))
    assert sorted(response.candidate_ids) == sorted(ids)
    assert not response.degraded


BROKEN = {
    "no candidates": (pb.RerankRequest(), "candidates: got 0, want 1 to 1000"),
    "1,204 candidates": (
        pb.RerankRequest(candidate_ids=[str(number) for number in range(1204)]),
        "candidates: got 1204, want 1 to 1000",
    ),
    "a candidate twice": (
        pb.RerankRequest(candidate_ids=["a", "a"]),
        "candidate_ids: got 'a' at 0 and at 1, want each candidate once",
    ),
    "an id of 10 kB": (
        pb.RerankRequest(candidate_ids=["x" * 10_000]),
        "candidate_ids[0]: got 10000 bytes, want 1 to 256",
    ),
    "a score too few": (
        pb.RerankRequest(candidate_ids=["a", "b"], retrieval_scores=[1]),
        "retrieval_scores: got 1 values, want 2 or none",
    ),
    "an infinite score": (
        pb.RerankRequest(candidate_ids=["a"], retrieval_scores=[math.inf]),
        "retrieval_scores[0]: got inf, want a finite number or NaN",
    ),
    "a signal twice": (
        pb.RerankRequest(candidate_ids=["a"], signals=[pb.Signal(name="promoted", values=[1])] * 2),
        "signals: got 'promoted' twice, want each name once",
    ),
    "a signal without a name": (
        pb.RerankRequest(candidate_ids=["a"], signals=[pb.Signal(values=[1])]),
        "signals: got an empty name, want 1 to 256 bytes",
    ),
    "an unknown signal": (
        pb.RerankRequest(candidate_ids=["a"], signals=[pb.Signal(name="promote", values=[1])]),
        "signals: got 'promote', want some of promoted (nearest: promoted)",
    ),
    "an unset event kind": (
        pb.RerankRequest(
            candidate_ids=["a"],
            history=pb.History(product_ids=["b"], times=[1], kinds=[pb.EVENT_KIND_UNSPECIFIED]),
        ),
        "history.kinds[0]: got 0, want one of 1, 2, 3, 4",
    ),
    "an event kind of the future": (
        pb.RerankRequest(
            candidate_ids=["a"],
            history=pb.History(product_ids=["b"], times=[1], kinds=[pb.EventKind.ValueType(9)]),
        ),
        "history.kinds[0]: got 9, want one of 1, 2, 3, 4",
    ),
    "milliseconds": (
        pb.RerankRequest(candidate_ids=["a"], time=1_700_000_000_000),
        "time: got 1700000000000, want Unix seconds (not milliseconds)",
    ),
    "an event after the page": (
        pb.RerankRequest(
            candidate_ids=["a"], time=100, history=pb.History(product_ids=["b"], times=[200])
        ),
        "history.times: got 200, want at most the page's time 100",
    ),
    "a long query": (
        pb.RerankRequest(candidate_ids=["a"], query="\U0001f95b" * 257),
        "query: got 1028 bytes, want at most 1024",
    ),
    "an explicit top_k of 0": (
        pb.RerankRequest(candidate_ids=["a"], top_k=0),
        "top_k: got 0, want 1 to 1000",
    ),
    "an unknown objective": (
        pb.RerankRequest(candidate_ids=["a"], objective_weights={"sale": 1}),
        "objective_weights: got 'sale', want some of purchase, trial",
    ),
}


@pytest.mark.parametrize(("request_pb", "message"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_page_is_an_invalid_argument(tiny_server, request_pb, message):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tiny_server.stub.Rerank(request_pb)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == message


async def test_a_message_over_the_limit_is_refused(tiny_server):
    huge = pb.RerankRequest(candidate_ids=["a"], query="x" * 5_000_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tiny_server.stub.Rerank(huge)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_bytes_that_are_no_request_do_not_stop_the_server(tiny_server):
    call = tiny_server.channel.unary_unary("/rerank.v1.RerankService/Rerank")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"\xff" * 100)
    response = await tiny_server.stub.Rerank(pb.RerankRequest(candidate_ids=["a"]))
    assert not response.degraded


def assert_retrieval_order(response, reason) -> None:
    assert response.degraded
    assert response.degraded_reason == reason
    assert response.degraded_detail
    assert list(response.candidate_ids) == IDS
    assert list(response.retrieval_ranks) == [0, 1, 2, 3]
    assert list(response.scores) == []
    assert list(response.objectives) == []


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        (ConstantScorer(math.nan), pb.DEGRADED_REASON_SCORES_NOT_FINITE),
        (FailingScorer(MemoryError("secret")), pb.DEGRADED_REASON_SCORER_FAILED),
        (FailingScorer(IndexError("secret")), pb.DEGRADED_REASON_SCORER_FAILED),
    ],
)
async def test_whatever_fails_the_answer_is_retrieval_order(serving, tiny_reranker, scorer, reason):
    running = await serving(with_scorer(tiny_reranker, scorer))
    response = await running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS))
    assert_retrieval_order(response, reason)
    assert "secret" not in response.degraded_detail


async def test_a_deadline_too_short_for_the_scorer_gives_retrieval_order(serving, tiny_reranker):
    running = await serving(with_scorer(tiny_reranker, SlowScorer(0.5)))
    response = await running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS), timeout=0.3)
    assert_retrieval_order(response, pb.DEGRADED_REASON_DEADLINE)


async def test_the_servers_own_limit_holds_without_a_deadline(serving, tiny_reranker):
    slow = with_scorer(tiny_reranker, SlowScorer(0.5))
    running = await serving(slow, timeout=timedelta(milliseconds=50))
    response = await running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS))
    assert_retrieval_order(response, pb.DEGRADED_REASON_DEADLINE)


async def test_pages_that_waited_too_long_are_never_scored(serving, tiny_reranker):
    scorer = SlowScorer(0.6)
    running = await serving(with_scorer(tiny_reranker, scorer))
    calls = [
        running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS), timeout=0.3) for _ in range(10)
    ]
    for response in await asyncio.gather(*calls):
        assert_retrieval_order(response, pb.DEGRADED_REASON_DEADLINE)
    await asyncio.sleep(0.7)
    assert scorer.begun == 2  # as many as there are workers


async def test_scoring_does_not_block_the_event_loop(serving, tiny_reranker):
    scorer = SlowScorer(0.4)
    running = await serving(with_scorer(tiny_reranker, scorer))
    slow = asyncio.ensure_future(running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS)))
    await asyncio.to_thread(scorer.began.wait, 2)
    await asyncio.wait_for(running.stub.GetServerStatus(pb.GetServerStatusRequest()), 0.2)
    assert not slow.done()
    assert not (await slow).degraded


async def test_a_client_that_goes_away_harms_nobody(serving, tiny_reranker):
    scorer = SlowScorer(0.2)
    running = await serving(with_scorer(tiny_reranker, scorer))
    gone = running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS))
    await asyncio.to_thread(scorer.began.wait, 2)
    gone.cancel()
    response = await running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS))
    assert not response.degraded


async def test_concurrent_calls_each_get_their_own_page(serving, tiny_reranker):
    running = await serving(tiny_reranker, timeout=timedelta(seconds=20))
    requests = [
        pb.RerankRequest(
            candidate_ids=[*IDS, f"only-{number}"],
            retrieval_scores=[number, 1, 2, 3, 4],
            query=f"milk {number}",
            time=NOW,
        )
        for number in range(200)
    ]
    responses = await asyncio.gather(*(running.stub.Rerank(request) for request in requests))
    for request, response in zip(requests, responses, strict=True):
        ranked = tiny_reranker.rerank(page_from_pb(request))
        assert list(response.candidate_ids) == ranked.candidate_ids
        np.testing.assert_array_equal(np.float32(response.scores), ranked.scores)


async def test_the_status_says_what_is_served(tiny_server, tiny_reranker):
    status = await tiny_server.stub.GetServerStatus(pb.GetServerStatusRequest())
    assert status.bundle_id == tiny_reranker.bundle.manifest.bundle_id
    assert status.bundle_created == "2026-01-01T00:00:00+00:00"
    assert status.provider == "CPUExecutionProvider"
    assert status.device == "cpu"
    assert status.scorer_threads == 1
    assert status.products == 5
    assert status.as_of_day == AS_OF_DAY
    assert status.uptime_s > 0
    assert list(status.objectives) == ["purchase", "trial"]
    assert list(status.categories) == ["dairy", "pet"]
    assert list(status.surfaces) == ["search", "promotion"]
    assert list(status.signals) == ["promoted"]
    assert list(status.event_kinds) == ["click", "purchase"]
    assert dict(status.figures) == {"search_ndcg_at_10": 0.5}
