"""Calls that end badly are seen as such."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from rerank_server.access_log import AccessLog
from rerank_server.doors import Doors
from rerank_server.metrics import Metrics
from rerank_server.observer import Observer
from rerank_server.pb import rerank_pb2 as pb
from tests.rerank_server.scorers import SlowScorer, with_scorer

METHOD = "/rerank.v1.RerankService/Rerank"


def calls(metrics: Metrics, code: str) -> float | None:
    labels = {"method": METHOD, "code": code}
    return metrics.registry().get_sample_value("crossrank_calls_total", labels)


def test_a_call_that_raises_is_counted_and_no_longer_in_flight():
    metrics = Metrics()
    with pytest.raises(ValueError, match="x"), Observer(AccessLog(), metrics).watch(METHOD, None):
        raise ValueError("x")
    assert metrics.in_flight == 0


async def test_a_client_that_goes_away_is_counted_as_cancelled(serving, tiny_reranker, caplog):
    caplog.set_level("INFO", "rerank_server")
    metrics = Metrics()
    scorer = SlowScorer(0.3)
    running = await serving(with_scorer(tiny_reranker, scorer), doors=Doors(metrics=metrics))
    call = running.stub.Rerank(pb.RerankRequest(candidate_ids=["a"]))
    await asyncio.to_thread(scorer.began.wait, 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for _ in range(100):
        if calls(metrics, "CANCELLED"):
            break
        await asyncio.sleep(0.01)
    assert calls(metrics, "CANCELLED") == 1
    assert metrics.in_flight == 0
    line = next(vars(record)["fields"] for record in caplog.records if record.message == "call")
    assert line["code"] == "CANCELLED"
    assert await running.stub.GetServerStatus(pb.GetServerStatusRequest())


async def test_a_deadline_that_passes_in_the_client_leaves_nothing_in_flight(
    serving, tiny_reranker
):
    metrics = Metrics()
    running = await serving(
        with_scorer(tiny_reranker, SlowScorer(0.2)), doors=Doors(metrics=metrics)
    )
    try:
        response = await running.stub.Rerank(pb.RerankRequest(candidate_ids=["a"]), timeout=0.05)
        assert response.degraded
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017 - either may win
    for _ in range(100):
        if metrics.in_flight == 0:
            break
        await asyncio.sleep(0.01)
    assert metrics.in_flight == 0
