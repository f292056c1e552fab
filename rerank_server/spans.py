"""OpenTelemetry spans of the calls whose caller records its trace, sent by OTLP over gRPC.

Needs the extra `otlp`. A span is made after its call, from the times that were measured anyway,
so calls without a recorded trace cost nothing.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from rerank_server.metrics import STAGES
from rerank_server.tracing import TraceParent
from rerank_server.version import server_version

_TIMEOUT_S = 5.0
_MAX_QUEUED = 2_048
_MICRO_NS = 1_000
_SENT_EVERY_MS = 2_000.0


class SpanExport:
    """Sends spans in the background; those that cannot be sent are dropped and logged."""

    def __init__(self, endpoint: str) -> None:
        """Send to a collector: `http://host:port` in clear text, `https://host:port` by TLS."""
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
        resource = Resource.create(
            {"service.name": "crossrank", "service.version": server_version()}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, max_queue_size=_MAX_QUEUED, schedule_delay_millis=_SENT_EVERY_MS
            )
        )
        self._tracer = self._provider.get_tracer("rerank_server", server_version())

    def record(
        self,
        method: str,
        code: str,
        took_us: int,
        *,
        parent: TraceParent,
        request: Any,  # noqa: ANN401 - any message
        response: Any,  # noqa: ANN401 - any message; None when the call failed
    ) -> None:
        """Make the span of a call that ends now, with a child for each stage of a page."""
        ended = time.time_ns()
        began = ended - took_us * _MICRO_NS
        span = self._tracer.start_span(
            method.removeprefix("/"),
            set_span_in_context(NonRecordingSpan(_context(parent))),
            SpanKind.SERVER,
            start_time=began,
        )
        span.set_attribute("rpc.response.status_code", code)
        if code != "OK":
            span.set_status(Status(StatusCode.ERROR))
        if hasattr(response, "timings"):
            span.set_attributes(
                {
                    "crossrank.candidates": len(request.candidate_ids),
                    "crossrank.bundle_id": response.bundle_id,
                    "crossrank.degraded": response.degraded,
                }
            )
            self._record_stages(span, began, response.timings)
        span.end(ended)

    def close(self) -> None:
        """Send what is queued and stop; takes a few seconds at most when nobody answers."""
        self._provider.shutdown()

    def _record_stages(self, span: Span, began: int, timings: Any) -> None:  # noqa: ANN401 - a message
        inside = set_span_in_context(span)
        for stage in STAGES:
            took_us = getattr(timings, f"{stage}_us")
            if took_us:
                child = self._tracer.start_span(stage, inside, start_time=began)
                began += took_us * _MICRO_NS
                child.end(began)


def _context(parent: TraceParent) -> SpanContext:
    return SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
