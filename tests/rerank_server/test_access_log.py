"""The access log through a real channel: what is in a line, and what never is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest

from rerank_server.access_log import (
    DEGRADED_PER_S,
    AccessLog,
    AccessLogError,
    hash_shopper,
    read_shopper_key,
)
from rerank_server.doors import Doors
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.scorer import ScorerError
from rerank_server.tokens import TokenBucket, TokenGate
from tests.rerank_server.scorers import FailingScorer, with_scorer
from tests.rerank_server.token_files import write_tokens

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
KEY = b"0123456789abcdef"
REQUEST = pb.RerankRequest(
    candidate_ids=["milk-1", "dog-1"], query="secret words", shopper_id="shopper-7"
)


async def lines(caplog, count: int = 1) -> list[dict[str, Any]]:
    """The fields of the calls logged, once there are as many."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        found = [vars(record)["fields"] for record in caplog.records if record.message == "call"]
        if len(found) >= count:
            break
        await asyncio.sleep(0.01)
    return found


async def test_a_line_says_what_an_operator_needs(serving, tiny_reranker, tmp_path, caplog):
    caplog.set_level("INFO", "rerank_server")
    (secret,) = write_tokens(tmp_path / "tokens.toml", "shop")
    gate = TokenGate(tmp_path / "tokens.toml")
    running = await serving(
        tiny_reranker, doors=Doors(gate=gate, access_log=AccessLog(1.0, shopper_key=KEY))
    )
    metadata = (
        ("authorization", f"Bearer {secret}"),
        ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),
    )
    await running.stub.Rerank(REQUEST, metadata=metadata)
    (line,) = await lines(caplog)
    assert line["method"] == "/rerank.v1.RerankService/Rerank"
    assert (line["code"], line["degraded"], line["candidates"]) == ("OK", False, 2)
    assert (line["trace_id"], line["parent_span_id"]) == (TRACE, "00f067aa0ba902b7")
    assert line["caller"] == "shop"
    assert line["bundle_id"] == tiny_reranker.bundle.manifest.bundle_id[:12]
    assert line["shopper"] == hash_shopper("shopper-7", KEY)
    assert line["took_us"] >= line["score_us"] > 0
    for hidden in ("secret words", "shopper-7", "milk-1", secret, KEY.decode()):
        assert hidden not in json.dumps(line)


async def test_without_a_key_no_line_says_anything_of_the_shopper(serving, tiny_reranker, caplog):
    caplog.set_level("INFO", "rerank_server")
    running = await serving(tiny_reranker, doors=Doors(access_log=AccessLog(1.0)))
    await running.stub.Rerank(REQUEST)
    (line,) = await lines(caplog)
    assert "shopper" not in line
    assert "trace_id" not in line
    assert "caller" not in line


async def test_by_default_only_what_went_wrong_is_written(serving, tiny_reranker, caplog):
    caplog.set_level("INFO", "rerank_server")
    good = await serving(tiny_reranker)
    await good.stub.Rerank(REQUEST)
    bad = await serving(with_scorer(tiny_reranker, FailingScorer(ValueError("x"))))
    assert (await bad.stub.Rerank(REQUEST)).degraded
    (line,) = await lines(caplog)
    assert (line["degraded"], line["degraded_reason"]) == (True, "scorer_failed")
    with pytest.raises(grpc.aio.AioRpcError):
        await good.stub.Rerank(pb.RerankRequest())
    assert [line["code"] for line in await lines(caplog, 2)] == ["OK", "INVALID_ARGUMENT"]


async def test_of_many_degraded_calls_20_a_second_are_written(serving, tiny_reranker, caplog):
    caplog.set_level("INFO", "rerank_server")
    now = [0.0]
    log = AccessLog(degraded_lines=TokenBucket(DEGRADED_PER_S, DEGRADED_PER_S, lambda: now[0]))
    failing = with_scorer(tiny_reranker, FailingScorer(ScorerError("x")))
    bad = await serving(failing, doors=Doors(access_log=log))
    for _ in range(30):
        assert (await bad.stub.Rerank(REQUEST)).degraded
    assert len(await lines(caplog, 20)) == 20
    now[0] = 0.5
    for _ in range(30):
        assert (await bad.stub.Rerank(REQUEST)).degraded
    assert len(await lines(caplog, 30)) == 30


def test_the_hash_of_a_shopper_depends_on_the_key_alone():
    assert hash_shopper("a", KEY) == hash_shopper("a", KEY)
    assert hash_shopper("a", KEY) != hash_shopper("a", KEY[::-1])
    assert hash_shopper("a", KEY) != hash_shopper("b", KEY)
    assert len(hash_shopper("", KEY)) == 16


def test_a_key_is_read_and_a_weak_one_refused(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    assert read_shopper_key(path) == KEY
    path.write_bytes(b"short\n")
    with pytest.raises(AccessLogError, match="got a key of 5 bytes, want 16 to 64"):
        read_shopper_key(path)
    with pytest.raises(AccessLogError, match="got No such file"):
        read_shopper_key(tmp_path / "none")


def test_the_key_is_in_no_repr():
    assert KEY.decode() not in repr(AccessLog(1.0, KEY))
