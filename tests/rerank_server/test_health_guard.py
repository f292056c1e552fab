"""Health calls without a token: answered as ever, and unable to fill the server."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from rerank_server import health_guard
from rerank_server.doors import Doors
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.tokens import TokenGate
from tests.rerank_server.token_files import write_tokens

CHECK = "/grpc.health.v1.Health/Check"


@pytest.fixture
async def guarded(serving, tiny_reranker, tmp_path):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop")
    running = await serving(tiny_reranker, doors=Doors(gate=TokenGate(path)))
    return running, (("authorization", f"Bearer {secret}"),)


async def status_of(call) -> str:
    return str((await call.code()).name)


async def test_check_and_watch_answer(guarded):
    running, _ = guarded
    stub = health_pb2_grpc.HealthStub(running.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service="readiness"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_a_check_whose_message_does_not_come_loses_its_place(guarded, monkeypatch):
    monkeypatch.setattr(health_guard, "MESSAGE_TIMEOUT_S", 0.1)
    running, _ = guarded
    call = running.channel.stream_stream(CHECK)()
    assert await status_of(call) == "DEADLINE_EXCEEDED"
    call = running.channel.stream_stream(CHECK)()
    await call.done_writing()
    assert await status_of(call) == "INVALID_ARGUMENT"
    call = running.channel.unary_unary(CHECK)(b"\xff" * 9)
    assert await status_of(call) == "INVALID_ARGUMENT"
    assert "Exception" not in str(await call.details())


async def test_silent_checks_and_watches_leave_room_for_pages(guarded, monkeypatch):
    monkeypatch.setattr(health_guard, "MAX_CALLS", 3)
    running, metadata = guarded
    stub = health_pb2_grpc.HealthStub(running.channel)
    held = [running.channel.stream_stream(CHECK)(), running.channel.stream_stream(CHECK)()]
    held.append(stub.Watch(health_pb2.HealthCheckRequest()))
    await held[-1].read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    page = pb.RerankRequest(candidate_ids=["milk-1"])
    assert not (await running.stub.Rerank(page, metadata=metadata)).degraded
    for call in held:
        call.cancel()
    for _ in range(100):
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            break
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.02)
    else:
        pytest.fail("the places of calls that ended were not given back")
