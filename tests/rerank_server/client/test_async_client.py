"""The asynchronous client against real servers: TLS, tokens, deadlines, cancelling, fallbacks."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from rerank_server.client.async_client import AsyncRerankClient
from rerank_server.client.connection import ClientTls, Connection
from rerank_server.client.messages import CallError
from rerank_server.doors import Doors
from rerank_server.page import SearchPage
from rerank_server.tls import TlsFiles
from rerank_server.tokens import TokenGate
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.scorers import SlowScorer, with_scorer
from tests.rerank_server.test_tls import Authority
from tests.rerank_server.tiny_bundle import NOW
from tests.rerank_server.token_files import write_tokens

PAGE = SearchPage(["dog-1", "milk-2", "milk-1"], retrieval_scores=[3.0, 2.0, 1.0], time=NOW)


def connect(port: int, **options) -> AsyncRerankClient:
    return AsyncRerankClient(Connection(f"localhost:{port}", **{"timeout_ms": 10_000} | options))


async def test_the_answer_is_that_of_the_reranker_in_process(tiny_server, tiny_reranker):
    ranked = tiny_reranker.rerank(PAGE)
    async with connect(tiny_server.port) as client:
        answers = await asyncio.gather(*(client.rerank(PAGE) for _ in range(20)))
    for answer in answers:
        assert answer.candidate_ids == tuple(ranked.candidate_ids)
        np.testing.assert_array_equal(answer.scores, ranked.scores)


async def test_the_status_is_what_the_server_says(tiny_server, tiny_bundle):
    async with connect(tiny_server.port) as client:
        assert (await client.status()).bundle_id == tiny_bundle.manifest.bundle_id


async def test_nobody_there_is_retrieval_order(unused_tcp_port):
    async with connect(unused_tcp_port) as client:
        answer = await client.rerank(PAGE)
        assert answer.degraded_reason == "unavailable"
        assert answer.candidate_ids == tuple(PAGE.candidate_ids)
        assert client.fallbacks.by_reason() == {"unavailable": 1}
        with pytest.raises(CallError, match="got unavailable"):
            await client.ask(PAGE)
        with pytest.raises(CallError, match="got unavailable"):
            await client.status()


async def test_a_late_page_is_retrieval_order_by_its_deadline(serving, tiny_reranker):
    running = await serving(
        with_scorer(tiny_reranker, SlowScorer(6.0)), timeout=timedelta(seconds=10)
    )
    async with connect(running.port) as client:
        await client.status()
        began = time.monotonic()
        answer = await client.rerank(PAGE, timeout_ms=300)
        assert time.monotonic() - began < 5
    assert answer.degraded_reason in {"deadline", "deadline_exceeded"}


async def test_who_is_cancelled_gets_no_page(serving, tiny_reranker):
    scorer = SlowScorer(0.5)
    running = await serving(with_scorer(tiny_reranker, scorer))
    async with connect(running.port) as client:
        call = asyncio.create_task(client.rerank(PAGE))
        await asyncio.to_thread(scorer.began.wait, 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.fallbacks.by_reason() == {}


async def test_tls_and_a_token_open_a_guarded_server(tiny_reranker, tmp_path):
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("client")
    (secret,) = write_tokens(tmp_path / "tokens.toml", "shop")
    doors = Doors(
        tls=TlsFiles(*authority.issue("server"), authority.ca_file),
        gate=TokenGate(tmp_path / "tokens.toml"),
    )
    server = tiny_rerank_server(tiny_reranker, doors=doors)
    port = await server.start("127.0.0.1", 0)
    tls = ClientTls(authority.ca_file, certificate, key)
    named = ClientTls(authority.ca_file, certificate, key, server_name="localhost")
    numbered = f"ipv4:127.0.0.1:{port}"

    async def reason(connection: Connection) -> str:
        async with AsyncRerankClient(connection) as client:
            return (await client.rerank(PAGE)).degraded_reason

    slow: dict[str, Any] = {"timeout_ms": 5_000, "token": secret}
    assert await reason(Connection(f"localhost:{port}", tls=tls, **slow)) == ""
    assert await reason(Connection(numbered, tls=named, **slow)) == ""
    assert await reason(Connection(numbered, tls=tls, **slow)) == "unavailable"
    no_certificate = ClientTls(authority.ca_file)
    refused = await reason(Connection(f"localhost:{port}", tls=no_certificate, **slow))
    assert refused == "unavailable"
    slow["token"] = "wrong"
    assert await reason(Connection(f"localhost:{port}", tls=tls, **slow)) == "unauthenticated"
    await server.stop(timedelta(seconds=1))
