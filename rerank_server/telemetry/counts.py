"""What telemetry counts, as Prometheus sees it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_MS = 1e-3


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be sent.

    Attributes:
        queued: Searches in memory.
        spool_bytes: Bytes in the spool.
        oldest_ms: Unix milliseconds of the oldest search in the spool; 0 when all were sent.
    """

    queued: int
    spool_bytes: int
    oldest_ms: int


class TelemetryCounts(Collector):
    """Counts searches taken, documents sent and searches lost; from any thread."""

    def __init__(self) -> None:
        self.backlog: Callable[[], Backlog] | None = None
        self._lock = threading.Lock()
        self._taken = 0
        self._sent: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Searches that were taken."""
        return self._taken

    @property
    def sent(self) -> dict[str, int]:
        """Documents by outcome: `created`, or `known` when they had been sent before."""
        return dict(self._sent)

    @property
    def lost(self) -> dict[str, int]:
        """Searches by the reason for which their documents will never be there."""
        return dict(self._lost)

    @property
    def failed(self) -> dict[str, int]:
        """Bulk requests that will be tried again, by cause."""
        return dict(self._failed)

    def count_taken(self) -> None:
        """Count one search."""
        self._taken += 1  # the event loop alone takes searches

    def count_sent(self, outcome: str, documents: int = 1) -> None:
        """Count documents that Elasticsearch has."""
        with self._lock:
            self._sent[outcome] += documents

    def count_lost(self, reason: str, searches: int = 1) -> None:
        """Count searches whose documents are given up."""
        with self._lock:
            self._lost[reason] += searches

    def count_failed(self, cause: str) -> None:
        """Count one bulk request that will be tried again."""
        with self._lock:
            self._failed[cause] += 1

    def collect(self) -> Iterable[Metric]:
        """Yield every family, for Prometheus."""
        yield CounterMetricFamily(
            "crossrank_telemetry_searches", "Searches taken by telemetry", value=self._taken
        )
        for name, text, label, counts in (
            ("documents", "Documents that Elasticsearch has", "outcome", self._sent),
            ("lost", "Searches whose documents are given up", "reason", self._lost),
            ("failed_requests", "Bulk requests to be tried again", "cause", self._failed),
        ):
            family = CounterMetricFamily(f"crossrank_telemetry_{name}", text, labels=(label,))
            for value, count in list(counts.items()):
                family.add_metric((value,), count)
            yield family
        if self.backlog is not None:
            yield from _backlog_families(self.backlog())


def _backlog_families(backlog: Backlog) -> Iterable[Metric]:
    oldest_s = time.time() - backlog.oldest_ms * _MS if backlog.oldest_ms else 0.0
    yield GaugeMetricFamily("crossrank_telemetry_queue", "Searches in memory", value=backlog.queued)
    yield GaugeMetricFamily(
        "crossrank_telemetry_spool_bytes", "Bytes that wait on disk", value=backlog.spool_bytes
    )
    yield GaugeMetricFamily(
        "crossrank_telemetry_delay_seconds",
        "Age of the oldest search that was not sent",
        value=max(oldest_s, 0.0),
    )
