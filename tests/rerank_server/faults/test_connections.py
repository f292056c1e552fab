"""Connections that cost the server something and bring it nothing."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.serving_limits import ServingLimits
from tests.rerank_server.faults.table import fault
from tests.rerank_server.scorers import SlowScorer, with_scorer

PAGE = pb.RerankRequest(candidate_ids=["milk-1", "dog-1"])


@fault("1,000 connections that send nothing", "they are closed; other calls are answered")
@pytest.mark.slow
async def test_1000_silent_connections_are_closed(serving, tiny_reranker):
    running = await serving(tiny_reranker, limits=ServingLimits(handshake_ms=3_000))
    silent = []
    for _ in range(20):  # both ends are files of this process
        opened = (asyncio.open_connection("localhost", running.port) for _ in range(50))
        silent += await asyncio.gather(*opened)
    assert not (await running.stub.Rerank(PAGE, timeout=10)).degraded

    async def read_to_the_end(reader: asyncio.StreamReader) -> None:
        while await reader.read(65_536):
            pass

    async with asyncio.timeout(30):
        await asyncio.gather(*(read_to_the_end(reader) for reader, _ in silent))
    for _, writer in silent:
        writer.close()
    assert not (await running.stub.Rerank(PAGE, timeout=10)).degraded


@fault("more calls at once than gRPC holds unread", "CANCELLED; the calls before them are answered")
async def test_calls_beyond_those_that_lie_unread_are_cut_off(serving, tiny_reranker):
    running = await serving(tiny_reranker, limits=ServingLimits(unread_calls=4))

    async def call() -> grpc.StatusCode:
        try:
            answer = await running.stub.Rerank(PAGE, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
        assert sorted(answer.candidate_ids) == sorted(PAGE.candidate_ids)
        return grpc.StatusCode.OK

    codes = await asyncio.gather(*(call() for _ in range(150)))
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
    assert codes.count(grpc.StatusCode.OK) >= 4
    assert await call() is grpc.StatusCode.OK


@fault("three times the load that it carries", "what is late comes in retrieval order: `DEADLINE`")
async def test_past_saturation_every_page_has_an_order_in_time(serving, tiny_reranker):
    running = await serving(with_scorer(tiny_reranker, SlowScorer(0.04)))
    await asyncio.gather(*(running.stub.Rerank(PAGE, timeout=5) for _ in range(4)))
    calls = []
    for _ in range(200):  # 2 workers carry 50 a second; this offers at least three times that
        calls.append(asyncio.ensure_future(running.stub.Rerank(PAGE, timeout=2)))
        await asyncio.sleep(0.003)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    given = [one for one in answers if not isinstance(one, BaseException)]
    assert len(given) == len(answers)
    degraded = [one for one in given if one.degraded]
    assert {one.degraded_reason for one in degraded} == {pb.DEGRADED_REASON_DEADLINE}
    assert all(list(one.candidate_ids) == list(PAGE.candidate_ids) for one in degraded)
    assert len(given) - len(degraded) > 25
