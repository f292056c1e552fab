"""What the gateway counts, as Prometheus sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from rerank_server.gateway.record import SearchRecord
from rerank_server.metrics import SECONDS_BOUNDS, Histogram

STAGES = ("total", "elasticsearch", "events", "rerank")
_MILLI = 1e-3


@dataclass(slots=True)
class _Stage:
    name: str
    seconds: Histogram


class GatewayMetrics(Collector):
    """Counts requests and searches; the event loop counts, the scrape's thread reads."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.in_flight = 0
        self._requests: Counter[tuple[str, str]] = Counter()
        self._searches: Counter[tuple[str, str]] = Counter()
        self._skipped: Counter[str] = Counter()
        self._stages = [_Stage(name, Histogram(SECONDS_BOUNDS)) for name in STAGES]

    def count_request(self, kind: str, status: int) -> None:
        """Count one request that was answered."""
        self._requests[kind, str(status)] += 1

    def count_skipped(self, reason: str) -> None:
        """Count a search that was left alone although reranking was asked for."""
        self._skipped[reason] += 1

    def count_search(self, search: SearchRecord) -> None:
        """Count one search that was reranked or should have been."""
        outcome = "degraded" if search.degraded else "reranked"
        self._searches[outcome, search.degraded_reason] += 1
        for stage in self._stages:
            took_ms = getattr(search.latency, f"{stage.name}_ms")
            if took_ms:
                stage.seconds.observe(took_ms * _MILLI, search.trace_id or None)

    def registry(self) -> CollectorRegistry:
        """Return a registry of these metrics and of the process."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    def collect(self) -> Iterable[Metric]:
        """Yield every family, for Prometheus."""
        requests = CounterMetricFamily(
            "crossrank_gateway_requests",
            "Requests answered, by kind and HTTP status",
            labels=("kind", "status"),
        )
        for labels, count in list(self._requests.items()):
            requests.add_metric(labels, count)
        yield requests
        searches = CounterMetricFamily(
            "crossrank_gateway_searches",
            "Searches that asked for reranking, by outcome and reason",
            labels=("outcome", "reason"),
        )
        for labels, count in list(self._searches.items()):
            searches.add_metric(labels, count)
        yield searches
        skipped = CounterMetricFamily(
            "crossrank_gateway_skipped",
            "Searches left alone although reranking was asked for",
            labels=("reason",),
        )
        for reason, count in list(self._skipped.items()):
            skipped.add_metric((reason,), count)
        yield skipped
        yield GaugeMetricFamily(
            "crossrank_gateway_in_flight", "Requests in flight", value=self.in_flight
        )
        stages = HistogramMetricFamily(
            "crossrank_gateway_stage_seconds",
            "Time of reranked searches by stage",
            labels=("stage",),
        )
        for stage in self._stages:
            rows = [
                (name, count) if exemplar is None else (name, count, exemplar)
                for name, count, exemplar in stage.seconds.buckets()
            ]
            stages.add_metric((stage.name,), rows, stage.seconds.total)
        yield stages
