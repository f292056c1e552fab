"""Alerts: conditions over the streams as Kibana rules, and over the metrics for Prometheus.

A rule that both can express has the same condition in both. What only one of them can see is
there alone: losses of telemetry in Prometheus, drift and experiments in Kibana. The rules are
`.es-query` rules, which the Basic licence has; they are written disabled and without actions.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from es_plugin_config.kibana.kql import kql_query

Json: TypeAlias = dict[str, Any]
Comparator: TypeAlias = Literal[">", "<"]
_COMPARED: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt}
_GATEWAY = "crossrank_gateway"
_TELEMETRY = "crossrank_telemetry"


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition that somebody should hear of.

    Attributes:
        alert_id: Stable, in small letters with hyphens.
        summary: What is the matter.
        threshold: Beyond which it is.
        comparator: On which side of it.
        window_m: Minutes that are looked at.
        stream: The data stream; empty where Kibana cannot see it.
        where: KQL of the documents.
        field: Whose average, least or largest value is compared; empty counts documents.
        aggregation: Which of them.
        promql: The same over metrics, without comparator and threshold; empty where Prometheus
            cannot see it.
        scale: One unit of the stream in units of the metric: 0.001 for milliseconds in seconds.
        severity: `page` wakes somebody up, `ticket` waits for the day.
    """

    alert_id: str
    summary: str
    threshold: float
    comparator: Comparator = ">"
    window_m: int = 5
    stream: str = ""
    where: str = ""
    field: str = ""
    aggregation: Literal["count", "avg", "min", "max"] = "count"
    promql: str = ""
    scale: float = 1.0
    severity: Literal["page", "ticket"] = "ticket"


ALERTS = (
    Alert(
        "crossrank-degraded",
        "More than 2 % of the searches come in retrieval order because reranking failed.",
        threshold=0.02,
        stream="crossrank-searches",
        field="degraded",
        aggregation="avg",
        promql=(
            f'sum(rate({_GATEWAY}_searches_total{{outcome="degraded"}}[5m]))'
            f" / sum(rate({_GATEWAY}_searches_total[5m]))"
        ),
        severity="page",
    ),
    Alert(
        "crossrank-slow",
        "The mean search takes more than 250 ms, from request to answer.",
        threshold=250.0,
        stream="crossrank-searches",
        field="latency.total_ms",
        aggregation="avg",
        promql=(
            f'sum(rate({_GATEWAY}_stage_seconds_sum{{stage="total"}}[5m]))'
            f' / sum(rate({_GATEWAY}_stage_seconds_count{{stage="total"}}[5m]))'
        ),
        scale=0.001,
        severity="page",
    ),
    Alert(
        "crossrank-slow-tail",
        "More than 50 searches in five minutes took more than half a second.",
        threshold=50,
        stream="crossrank-searches",
        where="latency.total_ms > 500",
        promql=(
            f'sum(increase({_GATEWAY}_stage_seconds_count{{stage="total"}}[5m]))'
            f' - sum(increase({_GATEWAY}_stage_seconds_bucket{{stage="total",le="0.5"}}[5m]))'
        ),
    ),
    Alert(
        "crossrank-reranker-slow",
        "The mean call of the reranker takes more than 100 ms.",
        threshold=100.0,
        stream="crossrank-searches",
        where="latency.rerank_ms > 0",
        field="latency.rerank_ms",
        aggregation="avg",
        promql=(
            f'sum(rate({_GATEWAY}_stage_seconds_sum{{stage="rerank"}}[5m]))'
            f' / sum(rate({_GATEWAY}_stage_seconds_count{{stage="rerank"}}[5m]))'
        ),
        scale=0.001,
    ),
    Alert(
        "crossrank-silent",
        "No search was recorded for ten minutes: no traffic, or no telemetry.",
        threshold=1,
        comparator="<",
        window_m=10,
        stream="crossrank-searches",
        promql=f"sum(increase({_GATEWAY}_searches_total[10m])) or vector(0)",
        severity="page",
    ),
    Alert(
        "crossrank-telemetry-lost",
        "Searches were lost for the dashboards and for learning; shoppers noticed nothing.",
        threshold=0,
        window_m=15,
        promql=f"sum by (reason) (increase({_TELEMETRY}_lost_total[15m]))",
    ),
    Alert(
        "crossrank-telemetry-late",
        "Searches wait for more than ten minutes to be stored: Elasticsearch is away or refuses.",
        threshold=600,
        promql=f"max({_TELEMETRY}_delay_seconds)",
    ),
    Alert(
        "crossrank-drift",
        "A feature, the scores, the categories or the queries drifted: PSI above 0.25.",
        threshold=0.25,
        window_m=24 * 60,
        stream="crossrank-learning",
        where="drift.psi: *",
        field="drift.psi",
        aggregation="max",
    ),
    Alert(
        "crossrank-sample-ratio",
        "The arms of an experiment do not get the shares they should: its figures mean nothing.",
        threshold=0.001,
        comparator="<",
        window_m=24 * 60,
        stream="crossrank-experiments",
        where="sample_ratio.p_value: *",
        field="sample_ratio.p_value",
        aggregation="min",
    ),
)


def kibana_rule(alert: Alert) -> Json:
    """Return the body of `POST /api/alerting/rule/<alert_id>` of an alert with a stream."""
    parameters: Json = {
        "aggType": alert.aggregation,
        "esQuery": json.dumps({"query": kql_query(alert.where)}, sort_keys=True),
        "excludeHitsFromPreviousRun": False,
        "groupBy": "all",
        "index": [alert.stream],
        "searchType": "esQuery",
        "size": 0,
        "threshold": [alert.threshold],
        "thresholdComparator": alert.comparator,
        "timeField": "@timestamp",
        "timeWindowSize": alert.window_m,
        "timeWindowUnit": "m",
    }
    if alert.field:
        parameters["aggField"] = alert.field
    return {
        "actions": [],
        "consumer": "stackAlerts",
        "enabled": False,
        "name": f"CrossRank: {alert.summary}",
        "params": parameters,
        "rule_type_id": ".es-query",
        "schedule": {"interval": "1m"},
        "tags": ["crossrank", alert.severity],
    }


def rule_search(rule: Json, now: datetime) -> Json:
    """Return the body of the `_search` that Kibana makes of a rule when it runs it at `now`."""
    parameters = rule["params"]
    start = now - timedelta(minutes=parameters["timeWindowSize"])
    span = {"gte": start.isoformat(), "lte": now.isoformat()}
    query = json.loads(parameters["esQuery"])["query"]
    body: Json = {
        "size": parameters["size"],
        "track_total_hits": True,
        "query": {
            "bool": {"filter": [query, {"range": {parameters["timeField"]: span}}]},
        },
    }
    if "aggField" in parameters:
        metric = {parameters["aggType"]: {"field": parameters["aggField"]}}
        body["aggs"] = {"metricAgg": metric}
    return body


def rule_fires(rule: Json, answer: Json) -> bool:
    """Say whether the answer to `rule_search` is beyond the rule's threshold."""
    value = answer["hits"]["total"]["value"]
    if "aggregations" in answer:
        value = answer["aggregations"]["metricAgg"]["value"]
    parameters = rule["params"]
    compared = _COMPARED[parameters["thresholdComparator"]]
    return value is not None and compared(value, parameters["threshold"][0])


def prometheus_rules() -> str:
    """Return the rule file of every alert that Prometheus can see, as YAML."""
    lines = ["# Written by `python -m es_plugin_config.kibana`; change `alerts.py`.", "groups:"]
    lines += ["  - name: crossrank", "    rules:"]
    for alert in ALERTS:
        if not alert.promql:
            continue
        name = "".join(word.capitalize() for word in alert.alert_id.split("-"))
        left = f"({alert.promql})" if " or " in alert.promql else alert.promql
        expression = f"{left} {alert.comparator} {alert.threshold * alert.scale:g}"
        lines += [
            f"      - alert: {name}",
            f"        expr: {json.dumps(expression)}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
        ]
    return "\n".join(lines) + "\n"
