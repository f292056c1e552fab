from __future__ import annotations

from typing import Any

from rerank_server.processes.merged_metrics import MergedMetrics


def calls(**counts: float) -> list[dict[str, Any]]:
    samples = [["calls_total", {"code": code}, count, None] for code, count in counts.items()]
    return [{"name": "calls", "documentation": "Calls", "type": "counter", "samples": samples}]


def values(merged: MergedMetrics) -> dict[str, float]:
    (family,) = merged.collect()
    return {sample.labels["code"]: sample.value for sample in family.samples}


def test_counters_of_all_processes_add_up():
    merged = MergedMetrics(lambda: {0: calls(OK=2, FAILED=1), 1: calls(OK=3)})
    assert values(merged) == {"OK": 5, "FAILED": 1}


def test_what_only_an_ended_process_counted_is_counted_on():
    running = {0: calls(OK=2), 1: calls(OK=3, FAILED=1)}
    merged = MergedMetrics(lambda: running)
    merged.retire(running.pop(1))
    assert values(merged) == {"OK": 5, "FAILED": 1}
    running[1] = calls(OK=4)
    assert values(merged) == {"OK": 9, "FAILED": 1}
