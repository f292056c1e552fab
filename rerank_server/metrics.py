"""What the server counts, as Prometheus sees it; counting a call costs a few microseconds.

Calls are counted by the event loop alone, into plain lists that the scrape's thread reads;
`prometheus_client` writes the formats. (Its own histograms take a lock for each number.)
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar

from rerank_server.access_log import degraded_reason
from rerank_server.canary import ChallengerFigures
from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.page import Floats
from rerank_server.scorer import Scorer

SECONDS_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
CANDIDATES_BOUNDS = (1.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
STAGES = ("queue", "lookup", "query", "encode", "score", "policy")
_MICRO = 1e-6


class Histogram:
    """Counts numbers by bucket; one thread observes, any reads."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count by `bounds`, ascending, each included, and above the last."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float, trace_id: str | None = None) -> None:
        """Count `value`; the newest trace of each bucket is kept as its exemplar."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._total += value
        if trace_id is not None:
            self._exemplars[bucket] = Exemplar({"trace_id": trace_id}, value, time.time())

    def buckets(self) -> list[tuple[str, float, Exemplar | None]]:
        """Return upper bound, cumulative count and exemplar of each bucket."""
        names = [*(str(bound) for bound in self._bounds), "+Inf"]
        rows = []
        count = 0
        for name, added, exemplar in zip(names, list(self._counts), self._exemplars, strict=True):
            count += added
            rows.append((name, float(count), exemplar))
        return rows

    @property
    def total(self) -> float:
        """The sum of what was counted."""
        return self._total


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served when Prometheus asks.

    Attributes:
        bundle_id: Of the bundle that answers.
        bundle_created: When it was written.
        server_version: Of the server program.
        provider: What runs the scorer.
        products: Products in the store.
        product_change: Number of the newest change of products shown; None where none are taken.
    """

    bundle_id: str
    bundle_created: str
    server_version: str
    provider: str
    products: int
    product_change: int | None = None


@dataclass(frozen=True, slots=True)
class Trying:
    """The challenger when Prometheus asks.

    Attributes:
        bundle_id: Its bundle.
        figures: What was seen of it.
    """

    bundle_id: str
    figures: ChallengerFigures


class Metrics(Collector):
    """Counts calls, pages and scorer calls."""

    def __init__(self) -> None:
        self.serving: Callable[[], Serving] | None = None
        self.trying: Callable[[], Trying | None] | None = None
        self.queued_candidates: Callable[[], int] | None = None
        self.in_flight = 0
        self._calls: Counter[tuple[str, str]] = Counter()
        self._degraded: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._page_seconds = Histogram(SECONDS_BOUNDS)
        self._stages = [(f"{stage}_us", Histogram(SECONDS_BOUNDS)) for stage in STAGES]
        self._candidates = Histogram(CANDIDATES_BOUNDS)
        self._batch_lock = threading.Lock()  # workers call the scorer
        self._batches = Histogram(BATCH_BOUNDS)

    def count_call(self, method: str, code: str) -> None:
        """Count one call that was answered."""
        self._calls[method, code] += 1

    def count_refused(self, reason: str) -> None:
        """Count one call that was not let in."""
        self._refused[reason] += 1

    def observe_page(self, candidates: int, response: Any, trace_id: str | None) -> None:  # noqa: ANN401 - a RerankResponse
        """Count one page that was answered."""
        timings = response.timings
        self._page_seconds.observe(timings.total_us * _MICRO, trace_id)
        self._candidates.observe(candidates)
        if response.degraded:
            self._degraded[degraded_reason(response)] += 1
            return
        for stage, histogram in self._stages:
            histogram.observe(getattr(timings, stage) * _MICRO)

    def observe_batch(self, pages: int) -> None:
        """Count one call of the scorer; from any thread."""
        with self._batch_lock:
            self._batches.observe(pages)

    def registry(self) -> CollectorRegistry:
        """Return a registry of these metrics and of the process: memory, CPU, files."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    def collect(self) -> Iterable[Metric]:
        """Yield every family, for Prometheus."""
        calls = CounterMetricFamily(
            "crossrank_calls", "Calls answered, by method and status", labels=("method", "code")
        )
        for (method, code), count in list(self._calls.items()):
            calls.add_metric((method, code), count)
        yield calls
        yield _counter("crossrank_refused", "Calls not let in", "reason", self._refused)
        yield _counter("crossrank_degraded", "Pages in retrieval order", "reason", self._degraded)
        yield GaugeMetricFamily("crossrank_in_flight", "Calls in flight", value=self.in_flight)
        yield _histogram(
            "crossrank_page_seconds", "From a page's arrival to its answer", self._page_seconds
        )
        stages = HistogramMetricFamily(
            "crossrank_stage_seconds",
            "Time in each stage of a page that was scored",
            labels=("stage",),
        )
        for stage, (_, histogram) in zip(STAGES, self._stages, strict=True):
            stages.add_metric((stage,), _plain(histogram), histogram.total)
        yield stages
        yield _histogram("crossrank_page_candidates", "Candidates of a page", self._candidates)
        yield _histogram("crossrank_scorer_call_pages", "Pages of one scorer call", self._batches)
        if self.queued_candidates is not None:
            yield GaugeMetricFamily(
                "crossrank_queued_candidates",
                "Candidates of the pages that wait",
                value=self.queued_candidates(),
            )
        if self.serving is not None:
            yield from _serving_families(self.serving())
        trying = None if self.trying is None else self.trying()
        if trying is not None:
            yield from _challenger_families(trying)


class MeasuredScorer:
    """A scorer whose calls are counted."""

    def __init__(self, scorer: Scorer, metrics: Metrics) -> None:
        self._scorer = scorer
        self._metrics = metrics

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._scorer.provider

    @property
    def threads(self) -> int:
        """Threads of one call."""
        return self._scorer.threads

    def score(self, pages: Sequence[ScorerPage]) -> list[Floats]:
        """Return probabilities as the scorer does.

        Raises:
            ScorerError: When the pages cannot be scored.
        """
        self._metrics.observe_batch(len(pages))
        return self._scorer.score(pages)


def _serving_families(serving: Serving) -> Iterable[Metric]:
    yield InfoMetricFamily(
        "crossrank_bundle",
        "The bundle that answers",
        value={
            "bundle_id": serving.bundle_id,
            "created": serving.bundle_created,
            "server_version": serving.server_version,
            "provider": serving.provider,
        },
    )
    yield GaugeMetricFamily(
        "crossrank_products", "Products in the product store", value=serving.products
    )
    if serving.product_change is not None:
        yield GaugeMetricFamily(
            "crossrank_product_change",
            "Number of the newest change of products that is shown",
            value=serving.product_change,
        )


def _challenger_families(trying: Trying) -> Iterable[Metric]:
    figures, bundle_id = trying.figures, trying.bundle_id
    pages = CounterMetricFamily(
        "crossrank_challenger_pages",
        "Pages that the challenger answered, or was to rerank beside the current bundle",
        labels=("bundle_id", "role", "outcome"),
    )
    for role, outcome, count in (
        ("canary", "ranked", figures.canary_pages - figures.canary_degraded),
        ("canary", "degraded", figures.canary_degraded),
        ("shadow", "ranked", figures.shadow_pages - figures.shadow_degraded),
        ("shadow", "degraded", figures.shadow_degraded),
        ("shadow", "skipped", figures.shadow_skipped),
    ):
        pages.add_metric((bundle_id, role, outcome), count)
    yield pages
    for name, text, value in (
        (
            "crossrank_challenger_same_first_share",
            "Share of shadow pages where both bundles put the same candidate first",
            figures.same_first_share,
        ),
        (
            "crossrank_challenger_rank_agreement",
            "Mean rank correlation of the two orders of a shadow page",
            figures.rank_agreement,
        ),
    ):
        if not math.isnan(value):  # of pages of one candidate there is no agreement
            gauge = GaugeMetricFamily(name, text, labels=("bundle_id",))
            gauge.add_metric((bundle_id,), value)
            yield gauge
    if figures.shadow_pages == 0:
        return
    seconds = GaugeMetricFamily(
        "crossrank_challenger_shadow_seconds",
        "Time of the newest shadow pages, by bundle and quantile",
        labels=("bundle_id", "bundle", "quantile"),
    )
    for bundle, times in (("current", figures.current_us), ("challenger", figures.challenger_us)):
        for quantile, time_us in zip(("0.5", "0.99"), times, strict=True):
            seconds.add_metric((bundle_id, bundle, quantile), time_us * _MICRO)
    yield seconds


def _counter(name: str, text: str, label: str, counts: Counter[str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in list(counts.items()):
        family.add_metric((value,), count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric((), _plain(histogram), histogram.total)
    return family


def _plain(histogram: Histogram) -> list[Any]:
    """Return buckets as `add_metric` takes them: without the exemplar where there is none."""
    return [
        (name, count) if exemplar is None else (name, count, exemplar)
        for name, count, exemplar in histogram.buckets()
    ]
