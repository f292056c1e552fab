"""Calls that are cut, late, too large or no calls at all; the server is a process of its own."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import time
from pathlib import Path

import grpc
import pytest

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from tests.rerank_server.faults.table import fault
from tests.rerank_server.test_server import Process

IDS = ["milk-1", "dog-1", "cat-1"]
PAGE = pb.RerankRequest(candidate_ids=IDS, query="milk")
METHOD = "/rerank.v1.RerankService/Rerank"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def process(tiny_folders):
    process = Process(tiny_folders)
    yield process
    process.process.kill()
    process.process.communicate(timeout=20)


@pytest.fixture
async def channel(process):
    async with grpc.aio.insecure_channel(process.address) as channel:
        yield channel
        answer = await RerankServiceStub(channel).Rerank(PAGE, timeout=10)
        assert not answer.degraded  # whatever a test did, the next caller is served


def peak_mib(process: Process) -> float:
    """The most memory that the server ever had."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@fault("client gone in the middle of a call", "nothing; other calls are answered")
async def test_a_client_that_goes_away_is_no_loss_to_others(channel):
    stub = RerankServiceStub(channel)
    calls = [stub.Rerank(PAGE) for _ in range(40)]
    await asyncio.sleep(0.005)
    for call in calls[::2]:
        call.cancel()
    for call in calls[1::2]:
        assert list((await call).retrieval_ranks)


@fault("half a message, then the connection is cut", "nothing; other calls are answered")
async def test_a_connection_cut_in_a_message_is_no_loss_to_others(channel, process):
    host, _, port = process.address.partition(":")
    for _ in range(20):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x10"
        )
        await writer.drain()
        writer.transport.abort()


@fault("deadline of 0", "DEADLINE_EXCEEDED, or retrieval order: `DEADLINE`")
async def test_a_deadline_of_0_is_exceeded_or_retrieval_order(channel):
    await call_in_hurry(channel, 0)


@fault("deadline of 1 ms", "DEADLINE_EXCEEDED, or retrieval order: `DEADLINE`")
async def test_a_deadline_of_1_ms_is_exceeded_or_retrieval_order(channel):
    await call_in_hurry(channel, 0.001)


async def call_in_hurry(channel, timeout_s):
    """A channel looks at the clock now and then, so a fast answer may still get through."""
    for _ in range(50):
        call = RerankServiceStub(channel).Rerank(PAGE, timeout=timeout_s)
        if await call.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            answer = await call
            assert sorted(answer.candidate_ids) == sorted(IDS)
            if answer.degraded:
                assert answer.degraded_reason == pb.DEGRADED_REASON_DEADLINE
                assert list(answer.candidate_ids) == IDS


@fault("message of 100 MB", "RESOURCE_EXHAUSTED; the server's memory stays")
async def test_a_message_of_100_mb_is_refused_unread(channel, process):
    before = peak_mib(process)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary(METHOD)(b"x" * (100 * MIB), timeout=30)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_mib(process) - before < 32


@fault("gzip bomb: 512 MB in 0.5 MB", "RESOURCE_EXHAUSTED; the server's memory stays")
async def test_a_gzip_bomb_is_refused_before_it_opens(channel, process):
    before = peak_mib(process)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary(METHOD)(
            bytes(512 * MIB), timeout=60, compression=grpc.Compression.Gzip
        )
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_mib(process) - before < 32


@fault("bytes that are no protobuf message", "INVALID_ARGUMENT")
@pytest.mark.parametrize(
    "data", [b"\xff" * 100, gzip.compress(b"page"), PAGE.SerializeToString()[:-3], b"\x0a\xff"]
)
async def test_bytes_that_are_no_message_are_an_invalid_argument(channel, data):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary(METHOD)(data, timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = error.value.details() or ""
    assert "Traceback" not in details
    assert "Error" not in details


@fault("a method that there is not", "UNIMPLEMENTED")
async def test_an_unknown_method_is_unimplemented(channel):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary("/rerank.v1.RerankService/Drop")(b"", timeout=10)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@fault("HTTP/1 to the gRPC port", "a closed connection")
async def test_http_1_to_the_grpc_port_is_closed(channel, process):
    host, _, port = process.address.partition(":")

    def get() -> bytes:
        with socket.create_connection((host, int(port)), timeout=15) as connection:
            connection.sendall(b"GET /v1/rerank HTTP/1.1\r\nHost: shop\r\n\r\n")
            answer = b""
            while more := connection.recv(65_536):
                answer += more
            return answer

    answer = await asyncio.to_thread(get)
    assert b"Traceback" not in answer


@fault("endless stream of small frames", "the stream is cut at the message limit")
async def test_an_endless_stream_ends_at_the_message_limit(channel, process):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1
            yield struct.pack(">I", sent) * 1024
            await asyncio.sleep(0)

    before, began = peak_mib(process), time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError):
        await channel.stream_unary(METHOD)(endless(), timeout=5)
    assert time.monotonic() - began < 6
    assert peak_mib(process) - before < 64
