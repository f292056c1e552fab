from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from rerank_server.telemetry.settings import Telemetry, TelemetrySettings
from tests.rerank_server.telemetry.searches import STARTED, search_record

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(ThreadPoolExecutor(1))
    collecting = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collecting, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield collecting, f"http://localhost:{port}"
    server.stop(0).wait()


def test_a_search_is_a_span_of_its_trace_with_its_stages(
    collector: tuple[Collector, str],
) -> None:
    collecting, endpoint = collector
    telemetry = Telemetry(TelemetrySettings(telemetry_otlp=endpoint))
    telemetry.record(search_record(trace_id=TRACE))
    telemetry.record(search_record(degraded_reason="deadline", elasticsearch_status=503))
    telemetry.close()
    searches = [span for span in collecting.spans if span.name == "search"]
    joined, own = searches
    assert joined.trace_id.hex() == TRACE
    assert own.trace_id.hex() != TRACE
    assert own.parent_span_id == b""
    assert (joined.status.code, own.status.code) == (0, 2)  # unset, error
    began = int(STARTED.timestamp() * 1_000_000) * 1_000
    assert joined.start_time_unix_nano == began
    assert joined.end_time_unix_nano - began == 20_000_000
    stages = [span for span in collecting.spans if span.parent_span_id == joined.span_id]
    assert [span.name for span in stages] == ["retrieval", "rerank"]
    assert stages[1].start_time_unix_nano - began == 12_000_000


def test_spans_hold_no_query_no_product_and_no_shopper(collector: tuple[Collector, str]) -> None:
    collecting, endpoint = collector
    telemetry = Telemetry(TelemetrySettings(telemetry_otlp=endpoint))
    telemetry.record(search_record(query="secret words", candidate_ids=("product-7",)))
    telemetry.close()
    text = str(collecting.spans)
    for hidden in ("secret words", "product-7", "0123456789abcdef"):
        assert hidden not in text
