"""What callers can keep in the server: a queue, calls, connections, each within bounds."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.serving_limits import ServingLimits
from tests.rerank_server.scorers import SlowScorer, with_scorer

IDS = ["dog-1", "milk-2", "milk-1", "never-seen"]
PAGE = pb.RerankRequest(candidate_ids=IDS)
# What an HTTP/2 client says first: the preface and empty settings (RFC 9113, 3.4).
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS_ACKNOWLEDGED = bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])


async def test_a_full_queue_answers_in_retrieval_order_and_says_so(serving, tiny_reranker):
    scorer = SlowScorer(0.1)
    running = await serving(
        with_scorer(tiny_reranker, scorer), limits=ServingLimits(queued_candidates=12)
    )
    # two workers and the page next to them, three pages of four candidates in the queue, four too
    # many
    responses = await asyncio.gather(*(running.stub.Rerank(PAGE) for _ in range(10)))
    degraded = [response for response in responses if response.degraded]
    assert len(degraded) == 4
    for response in degraded:
        assert response.degraded_reason == pb.DEGRADED_REASON_OVERLOADED
        assert response.degraded_detail.startswith("queue: got more candidates than it holds")
        assert list(response.candidate_ids) == IDS
    assert scorer.begun == 6


async def test_a_page_that_cannot_be_in_time_is_answered_at_once(serving, tiny_reranker):
    scorer = SlowScorer(0.2)
    running = await serving(with_scorer(tiny_reranker, scorer))
    await running.stub.Rerank(PAGE)  # now the server knows how long a page takes
    busy = [asyncio.ensure_future(running.stub.Rerank(PAGE)) for _ in range(4)]
    while scorer.begun < 3:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    response = await running.stub.Rerank(PAGE, timeout=0.3)
    assert time.monotonic() - began < 0.1
    assert response.degraded_reason == pb.DEGRADED_REASON_DEADLINE
    for answer in await asyncio.gather(*busy):
        assert not answer.degraded
    assert scorer.begun == 5


async def test_more_calls_than_are_kept_are_refused(serving, tiny_reranker):
    running = await serving(
        with_scorer(tiny_reranker, SlowScorer(0.2)), limits=ServingLimits(calls=3)
    )
    results = await asyncio.gather(
        *(running.stub.Rerank(PAGE) for _ in range(6)), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, grpc.aio.AioRpcError)]
    assert {one.code() for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(refused) == 3
    assert not (await running.stub.Rerank(PAGE)).degraded


async def read_to_the_end(reader: asyncio.StreamReader) -> float:
    began = time.monotonic()
    while await asyncio.wait_for(reader.read(65_536), 20):
        pass
    return time.monotonic() - began


async def test_a_connection_that_never_speaks_is_closed(serving, tiny_reranker):
    running = await serving(tiny_reranker, limits=ServingLimits(handshake_ms=300))
    reader, writer = await asyncio.open_connection("localhost", running.port)
    assert await read_to_the_end(reader) < 5
    writer.close()
    assert not (await running.stub.Rerank(PAGE)).degraded


async def test_a_client_that_answers_no_ping_is_cut_off(serving, tiny_reranker):
    running = await serving(
        tiny_reranker, limits=ServingLimits(ping_every_ms=1_000, ping_answer_ms=500)
    )
    reader, writer = await asyncio.open_connection("localhost", running.port)
    writer.write(HELLO + SETTINGS_ACKNOWLEDGED)
    assert await read_to_the_end(reader) < 10
    writer.close()


async def test_a_client_that_goes_silent_after_its_hello_is_cut_off(serving, tiny_reranker):
    running = await serving(tiny_reranker, limits=ServingLimits(handshake_ms=300))
    reader, writer = await asyncio.open_connection("localhost", running.port)
    writer.write(HELLO)
    assert await read_to_the_end(reader) < 5
    writer.close()


def test_the_defaults_bound_every_kind():
    options = dict(ServingLimits().channel_options())
    assert options == {
        "grpc.server.max_pending_requests": 256,
        "grpc.server.max_pending_requests_hard_limit": 256,
        "grpc.max_concurrent_streams": 256,
        "grpc.keepalive_time_ms": 40_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.http2.ping_timeout_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.server_handshake_timeout_ms": 10_000,
        "grpc.http2.settings_timeout": 10_000,
    }
    limits = ServingLimits().admission(workers=4)
    assert (limits.pages, limits.candidates, limits.queued_candidates) == (5, 4_000, 20_000)


@pytest.mark.slow
async def test_a_thousand_silent_connections_leave_the_server_answering(serving, tiny_reranker):
    running = await serving(tiny_reranker, limits=ServingLimits(handshake_ms=2_000))
    silent = [await asyncio.open_connection("localhost", running.port) for _ in range(400)]
    assert not (await running.stub.Rerank(PAGE, timeout=5)).degraded
    await asyncio.gather(*(read_to_the_end(reader) for reader, _ in silent))
    for _, writer in silent:
        writer.close()
    assert not (await running.stub.Rerank(PAGE, timeout=5)).degraded
