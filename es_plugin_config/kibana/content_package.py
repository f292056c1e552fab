"""The dashboards as a content package of Elastic's, for Elastic's own rules to look at.

`package-spec` is the validator that every integration of Elastic has to pass. The package is made
for that check; Kibana takes the NDJSON file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from es_plugin_config.kibana.alerts import ALERTS, Alert, kibana_rule
from es_plugin_config.kibana.saved_objects import CORE_VERSION, saved_objects

Json: TypeAlias = dict[str, Any]
NAME = "crossrank"
_RULE_TEMPLATE_VERSION = "10.1.0"
_MANIFEST = """\
format_version: 3.5.0
name: crossrank
title: CrossRank
description: Dashboards of searches that CrossRank reranks.
version: 0.1.0
type: content
source:
  license: Apache-2.0
conditions:
  kibana:
    version: '^8.19.0 || ^9.0.0'
  elastic:
    subscription: basic
discovery:
  fields:
    - name: query_id
owner:
  github: crossrank/crossrank
  type: community
"""
_CHANGELOG = """\
- version: 0.1.0
  changes:
    - description: Dashboards for searches, quality, experiments and learning.
      type: enhancement
      link: https://example.org/crossrank
"""
_README = "# CrossRank\n\nDashboards of searches that CrossRank reranks.\n"


def write_content_package(folder: Path) -> None:
    """Write the package into `folder`, which is made if need be."""
    files = {"manifest.yml": _MANIFEST, "changelog.yml": _CHANGELOG, "docs/README.md": _README}
    for saved in saved_objects():
        if saved["type"] in {"dashboard", "search"}:
            files[f"kibana/{saved['type']}/{saved['id']}.json"] = _text(saved)
    for alert in ALERTS:
        if alert.stream:
            files[f"kibana/alerting_rule_template/{alert.alert_id}.json"] = _text(_template(alert))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _template(alert: Alert) -> Json:
    rule = kibana_rule(alert)
    return {
        "attributes": {
            "name": rule["name"],
            "params": rule["params"],
            "ruleTypeId": rule["rule_type_id"],
            "schedule": rule["schedule"],
            "tags": rule["tags"],
        },
        "coreMigrationVersion": CORE_VERSION,
        "id": alert.alert_id,
        "managed": False,
        "references": [],
        "type": "alerting_rule_template",
        "typeMigrationVersion": _RULE_TEMPLATE_VERSION,
    }


def _text(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
