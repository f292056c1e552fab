"""Errors become statuses in one place, and their texts stay inside where they must."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from rerank_server.contract.errors import BundleError, PageError
from rerank_server.interceptors import status_of
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.scorer import ScorerError
from rerank_server.tokens import ForbiddenError, RateLimitError, UnauthenticatedError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PageError("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (BundleError("x"), grpc.StatusCode.INTERNAL),
        (ScorerError("x"), grpc.StatusCode.INTERNAL),
        (UnauthenticatedError("x"), grpc.StatusCode.UNAUTHENTICATED),
        (ForbiddenError("x"), grpc.StatusCode.PERMISSION_DENIED),
        (RateLimitError("x", 1.0), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_each_error_has_one_status(error, code):
    assert status_of(error) is code


@pytest.mark.parametrize("error", [ValueError("secret"), BundleError("secret")])
async def test_a_defect_is_internal_and_its_text_stays_in_the_log(
    tiny_server, monkeypatch, caplog, error
):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr("rerank_server.service.page_from_pb", broken)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tiny_server.stub.Rerank(pb.RerankRequest(candidate_ids=["a"]))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error, see the server's log"
    assert "secret" in caplog.text


async def test_a_refused_call_is_logged_with_its_status(tiny_server, caplog):
    caplog.set_level("INFO", "rerank_server")
    with pytest.raises(grpc.aio.AioRpcError):
        await tiny_server.stub.Rerank(pb.RerankRequest())
    fields = []
    for _ in range(100):  # the line may follow the answer
        fields = [record.fields for record in caplog.records if record.message == "call"]
        if fields:
            break
        await asyncio.sleep(0.01)
    assert [(item["method"], item["code"]) for item in fields] == [
        ("/rerank.v1.RerankService/Rerank", "INVALID_ARGUMENT")
    ]


async def test_bytes_that_are_no_message_are_refused_without_an_exceptions_text(
    tiny_server, caplog
):
    send = tiny_server.channel.unary_unary("/rerank.v1.RerankService/Rerank")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(b"\xff" * 100)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        "message: got bytes that are no message of this method, want protobuf"
    )
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
