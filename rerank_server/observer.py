"""What is seen of every call, whichever door it came through: access log, metrics, spans."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from rerank_server.access_log import AccessLog
from rerank_server.metrics import Metrics
from rerank_server.tracing import read_traceparent

if TYPE_CHECKING:  # needs an extra
    from rerank_server.spans import SpanExport


class Call:
    """One call while it is answered; who answers it sets `code`, `request` and `response`."""

    __slots__ = ("code", "request", "response")

    def __init__(self) -> None:
        self.code = "OK"
        self.request: Any = None
        self.response: Any = None


class Observer:
    """Sees calls begin and end."""

    def __init__(
        self, access_log: AccessLog, metrics: Metrics | None, spans: SpanExport | None = None
    ) -> None:
        """Write to `access_log`; count in `metrics` and export `spans` unless they are off."""
        self._access_log = access_log
        self.metrics = metrics
        self._spans = spans

    @contextmanager
    def watch(self, method: str, traceparent: str | None) -> Generator[Call]:
        """Time one call and report it when the block ends, however it ends."""
        call = Call()
        metrics = self.metrics
        start = perf_counter_ns()
        if metrics is not None:
            metrics.in_flight += 1
        try:
            yield call
        finally:
            trace = read_traceparent(traceparent)
            took_us = (perf_counter_ns() - start) // 1_000
            if metrics is not None:
                metrics.in_flight -= 1
                metrics.count_call(method, call.code)
                if hasattr(call.response, "timings"):
                    metrics.observe_page(
                        len(call.request.candidate_ids),
                        call.response,
                        None if trace is None else trace.trace_id,
                    )
            if self._spans is not None and trace is not None and trace.sampled:
                self._spans.record(
                    method,
                    call.code,
                    took_us,
                    parent=trace,
                    request=call.request,
                    response=call.response,
                )
            self._access_log.write(
                method,
                call.code,
                took_us,
                trace=trace,
                request=call.request,
                response=call.response,
            )
