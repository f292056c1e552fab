"""Compose, the chart, the units and the rules, by the programs that read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.tools import DEPLOY, checked_by

CHART = DEPLOY / "helm" / "crossrank"
COMPOSE = DEPLOY / "compose.yaml"
LEAST = ("--set", "bundle.existingClaim=bundles", "--set", "gateway.elasticsearch=http://es:9200")
EVERYTHING = """
bundle: {image: "registry.example/bundle:7"}
image: {server: registry.example/server-gpu, pullSecrets: [{name: registry}]}
server:
  gpus: 1
  settings: {timeout_ms: 200, otlp_endpoint: "http://collector:4317"}
  policy: "format_version = 1"
  tlsSecret: server-tls
  tokensSecret: tokens
  shopperKeySecret: shopper
  autoscaling: {enabled: true}
gateway:
  elasticsearch: https://es-0:9200,https://es-1:9200
  rules: "[[index]]"
  tlsSecret: gateway-tls
  elasticsearchCaSecret: es-ca
  rerankerCaSecret: server-ca
  rerankerTokenSecret: token
  shopperKeySecret: shopper
  telemetry: {enabled: true, apiKeySecret: telemetry, storageClass: fast}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
"""


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def test_compose_accepts_its_file() -> None:
    shown = checked_by(
        "docker-compose", "-f", COMPOSE, "--profile", "*", "config", "--format", "json"
    )
    assert set(json.loads(shown)["services"]) == set(compose()["services"])


def test_every_container_of_ours_is_locked_down_and_every_port_is_local() -> None:
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
        if "build" in service:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert (DEPLOY.parent / service["build"]["dockerfile"]).is_file(), name
        else:
            assert re.search(r":(\$\{STACK_VERSION:-)?v?\d+\.\d+\.\d+", service["image"]), name


def test_every_mounted_file_of_ours_is_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source


def rendered(*arguments: object) -> list[dict[str, Any]]:
    text = checked_by("helm", "template", "shop", CHART, "--namespace", "search", *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def check_kubernetes(documents: list[dict[str, Any]]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for document in documents:
        if document["kind"] != "ServiceMonitor":
            validate.validate(document, "1.30", strict=True)


def test_the_chart_renders_what_kubernetes_accepts(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(EVERYTHING)
    for arguments in (LEAST, ("--values", str(values))):
        documents = rendered(*arguments)
        check_kubernetes(documents)
        names = [(document["kind"], document["metadata"]["name"]) for document in documents]
        assert len(names) == len(set(names))


def test_a_pod_mounts_each_volume_it_has_and_names_no_other(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(EVERYTHING)
    for document in rendered("--values", values):
        if document["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        pod = document["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        claims = document["spec"].get("volumeClaimTemplates", [])
        volumes |= {claim["metadata"]["name"] for claim in claims}
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == volumes
        paths = [item["value"] for item in container["env"] if item["value"].startswith("/")]
        for path in paths:
            assert any(path.startswith(f"{mount}/") for mount in mounts.values()), path
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


PORTS = """
server: {port: 50062, httpPort: 8081, settings: {otlp_endpoint: "http://collector:4318"}}
gateway: {port: 9281, settings: {telemetry_otlp: "http://collector:4318"}}
networkPolicy: {dnsPort: 5353, otlpPort: 4318, elasticsearchPort: 9201}
"""


def test_other_ports_are_those_of_every_object_that_names_them(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(PORTS)
    documents = rendered(*LEAST, "--values", values)
    text = yaml.safe_dump_all(documents)
    assert not re.search(r"\b(50061|9280|4317|9200|53)\b", text.replace("http://es:9200", ""))
    of = {(each["kind"], each["metadata"]["name"]): each["spec"] for each in documents}
    services = [of["Service", f"shop-{part}"]["ports"] for part in ("server", "gateway")]
    assert [[each["port"] for each in ports] for ports in services] == [
        [50062, 8081, 9090],
        [9281, 9091],
    ]
    policies = [of["NetworkPolicy", f"shop-{part}"] for part in ("server", "gateway")]
    assert [rule["ports"] for rule in policies[0]["ingress"]] == [
        [{"port": "grpc"}, {"port": "http"}],
        [{"port": "metrics"}],
    ]
    egress = [
        [each["port"] for rule in policy["egress"] for each in rule["ports"]] for policy in policies
    ]
    assert egress == [[5353, 5353, 4318], [5353, 5353, 50062, 9201, 4318]]
    (server,) = of["Deployment", "shop-server"]["template"]["spec"]["containers"]
    told = {item["name"]: item["value"] for item in server["env"]}
    assert (told["RERANK_PORT"], told["RERANK_HTTP_PORT"]) == ("50062", "8081")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "gateway.elasticsearch=http://es:9200"), "got neither existingClaim nor image"),
        (("--set", "bundle.existingClaim=b"), "gateway.elasticsearch: got none"),
        ((*LEAST, "--set", "server.tlsSecret=t"), "gateway.rerankerCaSecret: got none"),
        ((*LEAST, "--set", "server.replica=3"), "replica"),
        ((*LEAST, "--set", "server.settings.http_port=8081"), "want server.httpPort"),
    ],
)
def test_a_chart_that_cannot_work_says_why(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        rendered(*arguments)


def test_the_values_keep_their_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.check_schema(schema)
    validator.validate(yaml.safe_load((CHART / "values.yaml").read_text()))
    validator.validate(yaml.safe_load(EVERYTHING))
    validator.validate(yaml.safe_load(PORTS))
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        validator.validate({"server": {"replica": 3}})


def test_every_unit_is_hardened() -> None:
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        text = unit.read_text()
        assert "NoNewPrivileges=yes" in text
        assert "ProtectSystem=strict" in text


def test_systemd_analyze_accepts_the_units(tmp_path: Path) -> None:
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/crossrank/bin/crossrank", "/bin/true"))
        assert checked_by("systemd-analyze", "verify", "--man=no", copy) == ""


def test_prometheus_accepts_the_rules_and_they_fire_when_they_should() -> None:
    monitoring = DEPLOY / "monitoring"
    checked_by("promtool", "check", "rules", "server-rules.yaml", cwd=monitoring)
    checked_by("promtool", "test", "rules", "server-rules.test.yaml", cwd=monitoring)
    checked_by("promtool", "check", "config", "--syntax-only", "prometheus.yaml", cwd=monitoring)
