from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from elasticsearch import Elasticsearch

from es_plugin_config.kibana.alerts import (
    ALERTS,
    Alert,
    kibana_rule,
    prometheus_rules,
    rule_fires,
    rule_search,
)
from es_plugin_config.kibana.kql import kql_fields
from es_plugin_config.kibana.mapping import require_field, stream_fields
from rerank_server.gateway.gateway_metrics import GatewayMetrics
from rerank_server.telemetry.counts import Backlog, TelemetryCounts
from rerank_server.telemetry.document import Document, DocumentRules, search_document
from tests.es_plugin_config.kibana.sample_streams import make_stream, store
from tests.rerank_server.telemetry.searches import search_record

IN_KIBANA = [alert for alert in ALERTS if alert.stream]
NOW = datetime.now(UTC).replace(microsecond=0)


def by_id(alert_id: str) -> Alert:
    (found,) = (alert for alert in ALERTS if alert.alert_id == alert_id)
    return found


@pytest.mark.parametrize("alert", IN_KIBANA, ids=lambda alert: alert.alert_id)
def test_every_field_of_a_rule_is_in_the_mapping_of_its_stream(alert: Alert) -> None:
    fields = stream_fields(alert.stream)
    for name in {*kql_fields(alert.where), *([alert.field] if alert.field else [])}:
        require_field(fields, name)


def real_names() -> set[str]:
    """Names of the samples that the gateway and its telemetry export."""
    gateway, counts = GatewayMetrics(), TelemetryCounts()
    gateway.count_request("search", 200)
    gateway.count_search(search_record())
    counts.backlog = lambda: Backlog(0, 0, 0)
    counts.count_lost("disk")
    names = set()
    for collector in (gateway, counts):
        for family in collector.collect():
            names |= {sample.name for sample in family.samples}
    return names


def test_every_metric_of_the_prometheus_rules_is_exported() -> None:
    rules = yaml.safe_load(prometheus_rules())["groups"][0]["rules"]
    used = {name for rule in rules for name in re.findall(r"crossrank_\w+", rule["expr"])}
    assert len(rules) == 7
    assert used <= real_names(), used - real_names()


def test_every_label_of_the_prometheus_rules_has_that_value() -> None:
    metrics = GatewayMetrics()
    metrics.count_search(search_record(degraded_reason="deadline"))
    metrics.count_search(search_record())
    exported = {
        (name, value)
        for family in metrics.collect()
        for sample in family.samples
        for name, value in sample.labels.items()
    }
    for name, value in re.findall(r'(\w+)="([^"]+)"', prometheus_rules().replace('\\"', '"')):
        assert (name, value) in exported, (name, value)


def test_both_forms_of_an_alert_have_one_threshold() -> None:
    rules = {
        rule["alert"]: rule for rule in yaml.safe_load(prometheus_rules())["groups"][0]["rules"]
    }
    assert rules["CrossrankDegraded"]["expr"].endswith(" > 0.02")
    assert kibana_rule(by_id("crossrank-degraded"))["params"]["threshold"] == [0.02]
    assert rules["CrossrankSlow"]["expr"].endswith(" > 0.25")  # seconds
    assert kibana_rule(by_id("crossrank-slow"))["params"]["threshold"] == [250.0]  # milliseconds
    assert rules["CrossrankSilent"]["expr"].endswith(" or vector(0)) < 1")


def searches(count: int, **changes: Any) -> list[Document]:
    started = NOW - timedelta(minutes=1)
    return [
        search_document(search_record(f"q-{number}", started=started, **changes), DocumentRules())
        for number in range(count)
    ]


def figure(stream: str, number: int, **fields: Any) -> Document:
    key = {"crossrank-learning": "run_id", "crossrank-experiments": "experiment"}[stream]
    body = {"@timestamp": (NOW - timedelta(minutes=1)).isoformat(), key: "r", **fields}
    return Document(f"{number:032d}", json.dumps(body).encode())


def slow(total_ms: float, rerank_ms: float) -> dict[str, Any]:
    latency = search_record().latency
    return {"latency": type(latency)(total_ms=total_ms, rerank_ms=rerank_ms)}


# Documents with which a rule is silent, and documents that make it fire.
CASES: dict[str, tuple[list[Document], list[Document]]] = {
    "crossrank-degraded": (
        searches(99) + searches(1, degraded_reason="deadline"),
        searches(97) + searches(3, degraded_reason="deadline"),
    ),
    "crossrank-slow": (searches(5, **slow(240, 50)), searches(5, **slow(260, 50))),
    "crossrank-slow-tail": (searches(50, **slow(501, 50)), searches(51, **slow(501, 50))),
    "crossrank-reranker-slow": (searches(5, **slow(240, 99)), searches(5, **slow(240, 101))),
    "crossrank-silent": (searches(1), searches(0)),
    "crossrank-drift": (
        [figure("crossrank-learning", 1, drift={"psi": 0.2})],
        [figure("crossrank-learning", n, drift={"psi": 0.1 * n}) for n in (1, 3)],
    ),
    "crossrank-sample-ratio": (
        [figure("crossrank-experiments", 1, sample_ratio={"p_value": 0.01})],
        [figure("crossrank-experiments", 1, sample_ratio={"p_value": 0.0001})],
    ),
}


@pytest.mark.elasticsearch
@pytest.mark.parametrize("alert", IN_KIBANA, ids=lambda alert: alert.alert_id)
def test_a_rule_fires_beyond_its_threshold_and_not_before(
    alert: Alert, elasticsearch_url: str
) -> None:
    rule = kibana_rule(alert)
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        for kind, documents in zip(("silent", "firing"), CASES[alert.alert_id], strict=True):
            prefix = f"alerts-{kind}-{NOW.timestamp():.0f}-{alert.alert_id}-"
            stream = make_stream(client, prefix, alert.stream)
            if documents:
                store(client, elasticsearch_url, stream, documents)
            answer = client.search(
                index=stream, body=rule_search(rule, NOW), ignore_unavailable=True
            )
            assert rule_fires(rule, answer.body) is (kind == "firing")


def test_rules_are_written_disabled_and_without_actions() -> None:
    for alert in IN_KIBANA:
        rule = kibana_rule(alert)
        assert (rule["enabled"], rule["actions"]) == (False, [])
        assert rule["rule_type_id"] == ".es-query"
