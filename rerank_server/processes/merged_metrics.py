"""The metrics of several processes as one scrape: counters add up, gauges keep their process."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar

# Name, documentation, type, and samples: name, labels, value, exemplar or None.
Family: TypeAlias = "Mapping[str, Any]"
_ADDED = {"counter", "histogram"}
_Key: TypeAlias = "tuple[str, tuple[tuple[str, str], ...]]"


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return the families of a registry as JSON values."""
    return [
        {
            "name": family.name,
            "documentation": family.documentation,
            "type": family.type,
            "samples": [
                [sample.name, sample.labels, sample.value, _exemplar_to_json(sample.exemplar)]
                for sample in family.samples
            ],
        }
        for family in registry.collect()
    ]


class MergedMetrics(Collector):
    """The families of all processes; one that has ended is counted on, so no counter falls."""

    def __init__(self, read: Callable[[], Mapping[int, Sequence[Family]]]) -> None:
        """Collect what `read` returns: the families of each process, by its number."""
        self._read = read
        self._ended: defaultdict[str, Counter[_Key]] = defaultdict(Counter)  # by family

    def retire(self, families: Sequence[Family]) -> None:
        """Keep the counts of a process that has ended."""
        for family in families:
            if family["type"] in _ADDED:
                for name, labels, value, _ in family["samples"]:
                    self._ended[family["name"]][name, _key(labels)] += value

    def collect(self) -> Iterable[Metric]:
        """Yield every family, for Prometheus."""
        by_process = self._read()
        merged: dict[str, Metric] = {}
        for number in sorted(by_process):
            for family in by_process[number]:
                metric = merged.get(family["name"])
                if metric is None:
                    metric = Metric(family["name"], family["documentation"], family["type"])
                    merged[metric.name] = metric
                if family["type"] not in _ADDED:
                    _keep(metric, family, number)
        for metric in merged.values():
            if metric.type in _ADDED:
                self._add_up(metric, by_process)
            yield metric

    def _add_up(self, metric: Metric, by_process: Mapping[int, Sequence[Family]]) -> None:
        # what only an ended process counted stays as well
        totals: dict[_Key, float] = dict(self._ended[metric.name])
        exemplars: dict[_Key, Exemplar | None] = {}
        for families in by_process.values():
            for family in families:
                if family["name"] != metric.name:
                    continue
                for name, labels, value, exemplar in family["samples"]:
                    key = (name, _key(labels))
                    totals[key] = totals.get(key, 0.0) + value
                    exemplars[key] = _exemplar_from_json(exemplar) or exemplars.get(key)
        for key, total in totals.items():
            name, labels = key
            metric.add_sample(name, dict(labels), total, exemplar=exemplars.get(key))


def _keep(metric: Metric, family: Family, number: int) -> None:
    for name, labels, value, _ in family["samples"]:
        metric.add_sample(name, {**labels, "process": str(number)}, value)


def _key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return labels as a key; `le` last, ascending order is that of the samples."""
    return tuple(labels.items())


def _exemplar_to_json(exemplar: Exemplar | None) -> list[Any] | None:
    if exemplar is None:
        return None
    return [dict(exemplar.labels), exemplar.value, exemplar.timestamp]


def _exemplar_from_json(value: list[Any] | None) -> Exemplar | None:
    return None if value is None else Exemplar(value[0], value[1], value[2])
