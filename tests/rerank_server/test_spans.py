"""Spans as a collector gets them: joined to the caller's trace, with a child for each stage."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from rerank_server.doors import Doors
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.spans import SpanExport

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PAGE = pb.RerankRequest(candidate_ids=["milk-1", "dog-1"], query="secret", shopper_id="shopper-7")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Export(self, request, context):  # noqa: N802 - gRPC's name
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector():
    """A collector on a free port; returns it and its address."""
    server = grpc.server(ThreadPoolExecutor(1))
    collecting = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collecting, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield collecting, f"http://localhost:{port}"
    server.stop(0).wait()


def traceparent(flags: str) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{TRACE}-{SPAN}-{flags}"),)


async def test_a_recorded_trace_gets_the_call_and_its_stages(serving, tiny_reranker, collector):
    collecting, endpoint = collector
    spans = SpanExport(endpoint)
    running = await serving(tiny_reranker, doors=Doors(spans=spans))
    await running.stub.Rerank(PAGE, metadata=traceparent("01"))
    await running.stub.Rerank(PAGE, metadata=traceparent("00"))
    await running.stub.Rerank(PAGE)
    with pytest.raises(grpc.aio.AioRpcError):
        await running.stub.Rerank(pb.RerankRequest(), metadata=traceparent("01"))
    await asyncio.sleep(0.05)  # a span may follow the answer
    await asyncio.to_thread(spans.close)
    found = collecting.spans()
    assert {span.trace_id.hex() for span in found} == {TRACE}
    calls = [span for span in found if span.name == "rerank.v1.RerankService/Rerank"]
    assert [call.parent_span_id.hex() for call in calls] == [SPAN, SPAN]
    good, bad = calls
    assert (good.status.code, bad.status.code) == (0, 2)  # unset, error
    children = [span for span in found if span.parent_span_id == good.span_id]
    assert {"lookup", "encode", "score"} <= {span.name for span in children}
    for child in children:
        assert good.start_time_unix_nano <= child.start_time_unix_nano
        assert child.end_time_unix_nano <= good.end_time_unix_nano
    text = str(collecting.requests)
    assert "crossrank" in text
    assert "secret" not in text
    assert "shopper-7" not in text


async def test_a_collector_that_is_away_delays_no_call(serving, tiny_reranker):
    spans = SpanExport("http://localhost:1")
    running = await serving(tiny_reranker, doors=Doors(spans=spans))
    for _ in range(3):
        await running.stub.Rerank(PAGE, metadata=traceparent("01"), timeout=5)
    started = monotonic()
    await asyncio.to_thread(spans.close)
    assert monotonic() - started < 15
