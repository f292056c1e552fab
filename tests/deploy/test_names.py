"""Settings, commands, flags and metrics that deployment files name exist."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from es_plugin_config.kibana.alerts import ALERTS
from rerank_server.commands.root import app
from rerank_server.gateway.gateway_metrics import GatewayMetrics
from rerank_server.gateway.settings import GatewaySettings
from rerank_server.metrics import Metrics, Serving
from rerank_server.settings import Settings
from rerank_server.telemetry.counts import Backlog, TelemetryCounts
from rerank_server.telemetry.settings import TelemetrySettings
from tests.deploy.tools import DEPLOY, ROOT

OTHERS = {"demo", "examples", "loop"}
FILES = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file()
    and path.relative_to(DEPLOY).parts[0] not in OTHERS
    and path.suffix not in {".py", ".pyc"}
)
GATEWAY_RULES = ROOT / "es_plugin_config" / "kibana" / "prometheus-rules.yaml"
SERVER_RULES = DEPLOY / "monitoring" / "server-rules.yaml"
DASHBOARD = DEPLOY / "monitoring" / "grafana" / "dashboards" / "crossrank.json"


def names_of(prefix: str, *settings: Any) -> set[str]:
    return {prefix + item.name.upper() for of in settings for item in fields(of)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_is_a_setting(path: Path) -> None:
    known = names_of("RERANK_", Settings)
    known |= names_of("RERANK_GATEWAY_", GatewaySettings, TelemetrySettings)
    used = set(re.findall(r"\bRERANK_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    used -= {"RERANK_NAME", "RERANK_GATEWAY_NAME", "RERANK_GATEWAY"}
    assert used <= known, used - known


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that `words` begin with, and what is left of them."""
    command: Any = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_command_and_flag_exists(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    for line in re.findall(r"(?:^|[`/ ])crossrank ([a-z]+[^`\n#;|&]*)", text, re.MULTILINE):
        command, rest = command_of(line.split())
        if command is get_command(app) or command.name is None:
            continue  # a sentence that begins with the name
        known = {flag for item in command.params for flag in item.opts} | {"--help"}
        used = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert used <= known, f"crossrank {line}: {used - known}"


def test_every_command_of_an_image_exists() -> None:
    for name, command in (("server", "serve"), ("server-gpu", "serve"), ("gateway", "gateway")):
        assert f'CMD ["{command}"]' in (DEPLOY / f"{name}.Dockerfile").read_text()
        assert command_of([command])[0].name == command


@cache
def exported() -> frozenset[str]:
    """Names of the samples that server, gateway and telemetry export, and of the process."""
    server, gateway, counts = Metrics(), GatewayMetrics(), TelemetryCounts()
    server.serving = lambda: Serving("b", "2026-01-01", "0", "cpu", 1, 1)
    server.queued_candidates = lambda: 0
    server.count_call("Rerank", "OK")
    server.count_refused("UNAUTHENTICATED")
    server._degraded["overloaded"] += 1
    gateway.count_request("search", 200)
    gateway.count_skipped("body")
    gateway._searches["reranked", ""] += 1
    counts.backlog = lambda: Backlog(0, 0, 0)
    for count in (counts.count_lost, counts.count_failed, counts.count_sent):
        count("any")
    names = {
        sample.name
        for registry in (server.registry(), gateway.registry())
        for family in registry.collect()
        for sample in family.samples
    }
    names |= {sample.name for family in counts.collect() for sample in family.samples}
    return frozenset(names)


def expressions() -> dict[str, str]:
    found = {}
    for path in (SERVER_RULES, GATEWAY_RULES):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                found[rule.get("alert") or rule["record"]] = rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("of", expressions())
def test_every_metric_of_rules_and_dashboard_is_exported(of: str) -> None:
    used = set(re.findall(r"\b(?:crossrank|process)_[a-z_]+\b", expressions()[of]))
    used -= {"process"}
    unknown = {name for name in used if name not in exported() and f"{name}_sum" not in exported()}
    assert unknown == set()


def test_the_autoscaler_asks_for_what_the_adapter_gives_and_the_rules_record() -> None:
    adapter = yaml.safe_load((DEPLOY / "monitoring" / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    chart = (DEPLOY / "helm" / "crossrank" / "templates" / "server.yaml").read_text()
    assert f"metric: {{name: {rule['name']['as']}}}" in chart
    assert rule["seriesQuery"].split("{")[0] in expressions()


def alert_names() -> list[str]:
    names = []
    for path in (SERVER_RULES, GATEWAY_RULES):
        for group in yaml.safe_load(path.read_text())["groups"]:
            names += [rule["alert"] for rule in group["rules"] if "alert" in rule]
    in_kibana = [alert.alert_id for alert in ALERTS if not alert.promql]
    return [*names, *in_kibana]


def test_the_run_book_has_one_entry_for_each_alert() -> None:
    text = (DEPLOY / "RUNBOOK.md").read_text()
    entries = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert sorted(entries) == sorted(alert_names())
    for name, entry in entries.items():
        for part in ("**You see**", "**Why**", "**Do**"):
            assert part in entry, f"{name}: {part}"
