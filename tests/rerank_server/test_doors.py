"""Tokens at the gRPC door: who is let in, before what, and what the refused see."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection_pb2,
    reflection_pb2_grpc,
)

from rerank_server.doors import Doors
from rerank_server.metrics import Metrics
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from rerank_server.tokens import TokenGate
from tests.rerank_server.token_files import write_tokens

PAGE = pb.RerankRequest(candidate_ids=["milk-1", "dog-1"])


def with_token(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


@pytest.fixture
def guarded(serving, tiny_reranker, tmp_path):
    """Serve behind a token file; returns the running server and the tokens."""

    async def start(*names: str, more: str = "", **doors):
        path = tmp_path / "tokens.toml"
        secrets = write_tokens(path, *names, more=more)
        running = await serving(tiny_reranker, doors=Doors(gate=TokenGate(path), **doors))
        return running, secrets

    return start


async def refused(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_page_needs_a_token(guarded):
    running, (secret,) = await guarded("shop")
    error = await refused(running.stub.Rerank(PAGE))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error.details() == (
        "authorization: got no bearer token, want `authorization: Bearer TOKEN`"
    )
    error = await refused(running.stub.Rerank(PAGE, metadata=with_token("wrong")))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "wrong" not in str(error.details())
    response = await running.stub.Rerank(PAGE, metadata=with_token(secret))
    assert len(response.candidate_ids) == 2


async def test_a_health_check_needs_no_token_and_reflection_does(guarded):
    running, (secret,) = await guarded("shop")
    answer = await health_pb2_grpc.HealthStub(running.channel).Check(
        health_pb2.HealthCheckRequest()
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    error = await refused(stub.ServerReflectionInfo(iter([request])).read())
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    call = stub.ServerReflectionInfo(iter([request]), metadata=with_token(secret))
    assert (await call.read()).HasField("list_services_response")


async def test_no_message_is_read_of_a_caller_without_a_token(guarded):
    running, (secret,) = await guarded("shop")
    send = running.channel.unary_unary("/rerank.v1.RerankService/Rerank")
    garbage = b"\xff" * 1_000
    error = await refused(send(garbage))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    error = await refused(send(garbage, metadata=with_token(secret)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_calls_and_candidates_beyond_the_rate_are_refused_before_the_page_is_looked_at(
    guarded,
):
    running, (secret,) = await guarded("shop", more="candidates_per_s = 1\n")
    broken = pb.RerankRequest(candidate_ids=["twice"] * 1_000)
    error = await refused(running.stub.Rerank(broken, metadata=with_token(secret)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = await refused(running.stub.Rerank(broken, metadata=with_token(secret)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "candidates of shop: got more than 1 a second, want fewer" in str(error.details())
    pushback = dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
    assert 990_000 < int(pushback) <= 1_000_000


async def test_one_caller_beyond_its_rate_is_nobody_elses_loss(guarded):
    running, (first, second) = await guarded("first", "second", more="requests_per_s = 1\n")
    await running.stub.Rerank(PAGE, metadata=with_token(first))
    error = await refused(running.stub.Rerank(PAGE, metadata=with_token(first)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await running.stub.Rerank(PAGE, metadata=with_token(second))


async def test_refusals_are_counted_by_reason(guarded):
    metrics = Metrics()
    running, (secret,) = await guarded("shop", more="requests_per_s = 1\n", metrics=metrics)
    await refused(running.stub.Rerank(PAGE))
    await refused(running.stub.Rerank(PAGE))
    await running.stub.Rerank(PAGE, metadata=with_token(secret))
    await refused(running.stub.Rerank(PAGE, metadata=with_token(secret)))
    counts = {
        reason: metrics.registry().get_sample_value("crossrank_refused_total", {"reason": reason})
        for reason in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED")
    }
    assert counts == {"UNAUTHENTICATED": 2, "RESOURCE_EXHAUSTED": 1}


async def test_what_is_served_is_changed_with_an_admin_token_only(guarded):
    running, (secret,) = await guarded("shop", admin=True)
    stub = AdminServiceStub(running.channel)
    call = stub.PromoteBundle(admin_pb2.PromoteBundleRequest(), metadata=with_token(secret))
    error = await refused(call)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    running, (secret,) = await guarded("operator", more="admin = true\n", admin=True)
    stub = AdminServiceStub(running.channel)
    call = stub.PromoteBundle(admin_pb2.PromoteBundleRequest(), metadata=with_token(secret))
    assert (await refused(call)).code() is grpc.StatusCode.FAILED_PRECONDITION  # no challenger


async def test_without_tokens_other_machines_change_nothing(serving, tiny_reranker):
    running = await serving(tiny_reranker, doors=Doors(local=False, admin=True))
    stub = AdminServiceStub(running.channel)
    error = await refused(stub.PromoteBundle(admin_pb2.PromoteBundleRequest()))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "want --tokens, or a port on loopback" in str(error.details())
    await running.stub.Rerank(PAGE)


async def test_a_log_at_debug_holds_no_token(guarded, caplog):
    caplog.set_level("DEBUG")
    running, (secret,) = await guarded("shop")
    await running.stub.Rerank(PAGE, metadata=with_token(secret))
    await refused(running.stub.Rerank(PAGE, metadata=with_token("not-" + secret)))
    assert secret not in caplog.text
    assert all(secret not in str(vars(record)) for record in caplog.records)
