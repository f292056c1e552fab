"""OpenTelemetry spans of searches, in place of documents or beside them; needs the extra `otlp`.

One span a search with a child for each stage that was reached. A search that belongs to a trace
(`traceparent`) becomes part of it; any other begins a trace of its own. Spans carry no query, no
product and no shopper. They are sent in the background and dropped when the collector is away.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from rerank_server.gateway.record import SearchRecord
from rerank_server.version import server_version

_TIMEOUT_S = 5.0
_MAX_QUEUED = 2_048
_SENT_EVERY_MS = 2_000.0
_SERVER_ERROR = 500


class SearchSpans:
    """A `SearchRecorder` that makes spans."""

    def __init__(self, endpoint: str) -> None:
        """Send to a collector: `http://host:port` in clear text, `https://host:port` by TLS."""
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
        resource = Resource.create(
            {"service.name": "crossrank-gateway", "service.version": server_version()}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, max_queue_size=_MAX_QUEUED, schedule_delay_millis=_SENT_EVERY_MS
            )
        )
        self._tracer = self._provider.get_tracer("rerank_server.telemetry", server_version())

    def record(self, search: SearchRecord) -> None:
        """Make the span of one search; returns at once."""
        parent = None
        if search.trace_id:
            # The record keeps the trace and not the caller's span, so a made-up id stands for it.
            context = SpanContext(
                trace_id=int(search.trace_id, 16),
                span_id=random.getrandbits(64) or 1,
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
            parent = set_span_in_context(NonRecordingSpan(context))
        span = self._tracer.start_span(
            "search", parent, SpanKind.SERVER, start_time=_nanoseconds(search.started)
        )
        span.set_attributes(
            {
                "crossrank.index": search.index,
                "crossrank.surface": search.surface,
                "crossrank.candidates": len(search.candidate_ids),
                "crossrank.bundle_id": search.bundle_id,
                "crossrank.variant": search.variant,
                "crossrank.degraded": search.degraded,
                "crossrank.degraded_reason": search.degraded_reason,
                "http.response.status_code": search.elasticsearch_status,
            }
        )
        if search.elasticsearch_status >= _SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        began = search.started
        for stage, took_ms in (
            ("retrieval", search.latency.elasticsearch_ms),
            ("rerank", search.latency.rerank_ms),
        ):
            if took_ms:
                child = self._tracer.start_span(stage, inside, start_time=_nanoseconds(began))
                began += timedelta(milliseconds=took_ms)
                child.end(_nanoseconds(began))
        span.end(_nanoseconds(search.finished))

    def close(self) -> None:
        """Send what is queued and stop; takes a few seconds at most when nobody answers."""
        self._provider.shutdown()


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
