"""The HTTP listener: TLS, connections that say nothing, taken ports, a missing extra."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from datetime import timedelta

import httpx
import pytest
import trustme

from rerank_server import http_door
from rerank_server.doors import Doors
from rerank_server.http_door import HttpAddressError
from rerank_server.server import HttpExtraError
from rerank_server.tls import TlsFiles
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.scorers import SlowScorer, with_scorer

PAGE = '{"candidate_ids": ["milk-1", "dog-1"]}'


@pytest.fixture
async def http_port(tiny_reranker):
    """Serve over HTTP on a free port; returns it."""
    servers = []

    async def start(**doors) -> int:
        server = tiny_rerank_server(tiny_reranker, doors=Doors(**doors))
        servers.append(server)
        await server.start("localhost", 0)
        return await server.start_http("127.0.0.1", 0)

    yield start
    for server in servers:
        await server.stop(timedelta(seconds=1))


async def test_tls_and_mtls_hold_for_http_too(http_port, tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = ca.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    files = tmp_path / "server.pem", tmp_path / "server.key"
    port = await http_port(tls=TlsFiles(*files))
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    url = f"https://127.0.0.1:{port}/v1/pages:rerank"
    async with httpx.AsyncClient(verify=trusting, timeout=30) as client:
        assert (await client.post(url, content=PAGE)).status_code == 200
    async with httpx.AsyncClient(timeout=30) as client:
        with pytest.raises(httpx.ConnectError):
            await client.post(url, content=PAGE)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(url.replace("https", "http"), content=PAGE)
    port = await http_port(tls=TlsFiles(*files, tmp_path / "ca.pem"))
    url = f"https://127.0.0.1:{port}/v1/pages:rerank"
    async with httpx.AsyncClient(verify=trusting, timeout=30) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(url, content=PAGE)
    known = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    known.load_cert_chain(*files)
    async with httpx.AsyncClient(verify=known, timeout=30) as client:
        assert (await client.post(url, content=PAGE)).status_code == 200


async def test_a_connection_that_says_nothing_is_closed(http_port, monkeypatch):
    monkeypatch.setattr(http_door, "KEEP_ALIVE_S", 1)
    port = await http_port()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_what_is_no_http_is_answered_400(http_port):
    port = await http_port()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01\x02\x00" + b"\0" * 100)
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_client_that_goes_away_leaves_the_server_whole(http_port, caplog):
    port = await http_port()
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/pages:rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/v1/pages:rerank", content=PAGE)
    assert answer.status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_taken_port_is_a_clear_error(tiny_reranker):
    server = tiny_rerank_server(tiny_reranker)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HttpAddressError, match=rf"http, 127\.0\.0\.1:{port}: got Address"):
            await server.start_http("127.0.0.1", port)
    await server.stop(timedelta(0))


async def test_a_call_in_flight_is_answered_when_the_server_stops(tiny_reranker):
    scorer = SlowScorer(0.4)
    server = tiny_rerank_server(with_scorer(tiny_reranker, scorer))
    await server.start("localhost", 0)
    port = await server.start_http("127.0.0.1", 0)
    async with httpx.AsyncClient(timeout=30) as client:
        url = f"http://127.0.0.1:{port}/v1/pages:rerank"
        call = asyncio.ensure_future(client.post(url, content=PAGE))
        await asyncio.to_thread(scorer.began.wait, 2)
        await server.stop(timedelta(seconds=2))
        answer = await call
        assert (answer.status_code, answer.json()["degraded"]) == (200, False)
        with pytest.raises(httpx.ConnectError):
            await client.post(url, content=PAGE)


async def test_without_the_extra_it_says_what_to_install(tiny_reranker, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerank_server.http_api", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    server = tiny_rerank_server(tiny_reranker)
    with pytest.raises(HttpExtraError, match=r"want `pip install 'crossrank\[http\]'`"):
        await server.start_http("127.0.0.1", 0)
    await server.stop(timedelta(0))
