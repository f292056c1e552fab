"""A scorer that fails in one way each; the order is then that of retrieval."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from rerank_server import lookup
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.scorer import ScorerError
from rerank_server.wall_clock import WallClock
from tests.rerank_server.faults.table import fault
from tests.rerank_server.scorers import ConstantScorer, FailingScorer, SlowScorer, with_scorer

IDS = ["cat-1", "milk-1", "dog-1"]
PAGE = pb.RerankRequest(candidate_ids=IDS)


async def order_of(serving, reranker, scorer, timeout: float = 10) -> pb.RerankResponse:
    running = await serving(with_scorer(reranker, scorer))
    answer: pb.RerankResponse = await running.stub.Rerank(PAGE, timeout=timeout)
    assert answer.degraded
    assert list(answer.candidate_ids) == IDS
    assert "secret" not in answer.degraded_detail
    return answer


@fault("scorer returns NaN", "retrieval order: `SCORES_NOT_FINITE`")
async def test_a_scorer_that_returns_nan(serving, tiny_reranker):
    answer = await order_of(serving, tiny_reranker, ConstantScorer(np.nan))
    assert answer.degraded_reason == pb.DEGRADED_REASON_SCORES_NOT_FINITE


@fault("scorer raises", "retrieval order: `SCORER_FAILED`")
@pytest.mark.parametrize(
    "error", [ScorerError("secret"), ValueError("secret"), MemoryError("secret")]
)
async def test_a_scorer_that_raises(serving, tiny_reranker, error):
    answer = await order_of(serving, tiny_reranker, FailingScorer(error))
    assert answer.degraded_reason == pb.DEGRADED_REASON_SCORER_FAILED


@fault("scorer takes 2 s", "retrieval order: `DEADLINE`, before its deadline")
async def test_a_scorer_that_takes_2_s(serving, tiny_reranker):
    began = time.monotonic()
    answer = await order_of(serving, tiny_reranker, SlowScorer(2), timeout=0.5)
    assert answer.degraded_reason == pb.DEGRADED_REASON_DEADLINE
    assert time.monotonic() - began < 1
    await asyncio.sleep(0)


@fault("clock set back by a day", "its page reranked, events of the old time included")
async def test_a_clock_that_is_set_back(serving, tiny_reranker, monkeypatch):
    running = await serving(tiny_reranker)
    now = int(time.time())
    page = pb.RerankRequest(
        candidate_ids=IDS, history=pb.History(product_ids=["milk-1"], times=[now - 60])
    )
    before = await running.stub.Rerank(page, timeout=10)
    back = [0.0]
    clock = WallClock(lambda: time.time() - back[0])
    monkeypatch.setattr(lookup, "_CLOCK", clock)
    back[0] = 86_400
    after = await running.stub.Rerank(page, timeout=10)
    assert not after.degraded
    assert list(after.candidate_ids) == list(before.candidate_ids)
