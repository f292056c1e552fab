"""How a cluster's configuration differs from the files, as a unified diff."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any

from elasticsearch import Elasticsearch

from es_plugin_config.cluster import call
from es_plugin_config.resources import Json, Resource, format_json

# Elasticsearch writes these into what it was given; they say the same as their absence.
_DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("enabled", True),
    ("transient_metadata", {"enabled": True}),
)
_OWN_DATES = ("created_date", "modified_date")


@dataclass(frozen=True, slots=True)
class Drift:
    """How the cluster differs from one resource; an empty diff means that it does not."""

    resource: Resource
    diff: str


def resource_diff(client: Elasticsearch, resource: Resource) -> str:
    """Compare one resource with what the cluster has; empty when they say the same.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses to answer.
    """
    want = normalised(resource.body)
    got = read_from_cluster(client, resource)
    kept = None if got is None else _without_defaults(normalised(got), want)
    return diff_of(kept, want, resource.path)


def diff_of(got: Json | None, want: Json, path: str) -> str:
    """The lines that lead from what the cluster has to what is wanted."""
    got_lines = [] if got is None else format_json(got).splitlines(keepends=True)
    want_lines = format_json(want).splitlines(keepends=True)
    return "".join(difflib.unified_diff(got_lines, want_lines, f"cluster{path}", f"file{path}"))


def read_from_cluster(client: Elasticsearch, resource: Resource) -> Json | None:
    """What the cluster holds under the resource's name, in the form in which it was put."""
    answer = call(client, "GET", resource.path)
    if answer is None or (resource.api == "_security/role" and resource.name not in answer):
        return None
    body: Json
    match resource.api:
        case "_component_template":
            body = answer["component_templates"][0]["component_template"]
        case "_index_template":
            body = answer["index_templates"][0]["index_template"]
        case "_scripts":
            body = {"script": answer["script"]}
        case _:
            body = answer[resource.name]
    return body


def normalised(body: Json) -> Json:
    """The form in which Elasticsearch gives back what was put.

    Index settings come back as nested strings under `index`; dates of creation are its own;
    the source of a search template comes back as text.
    """
    kept = {key: value for key, value in body.items() if not key.startswith(_OWN_DATES)}
    template = kept.get("template")
    if isinstance(template, dict):
        kept["template"] = _normalised_template(template)
    script = kept.get("script")
    if isinstance(script, dict):
        kept["script"] = _normalised_script(script)
    return kept


def _normalised_template(template: Json) -> Json:
    template = dict(template)
    if "settings" in template:
        settings = _nested(template["settings"])
        index = {**settings.pop("index", {}), **settings}
        template["settings"] = {"index": index}
    mappings = template.get("mappings")
    if isinstance(mappings, dict) and "dynamic" in mappings:
        dynamic = mappings["dynamic"]
        spelled = json.dumps(dynamic) if isinstance(dynamic, bool) else dynamic
        template["mappings"] = {**mappings, "dynamic": spelled}
    return template


def _normalised_script(script: Json) -> Json:
    source = script.get("source")
    if isinstance(source, dict):
        script = {**script, "source": json.dumps(source, separators=(",", ":"))}
    # Elasticsearch adds the type of a search template's text by itself.
    return {key: value for key, value in script.items() if key != "options"}


def _nested(settings: Json) -> Json:
    """Settings with dotted names spelled out as nested objects, their values as strings."""
    spelled: Json = {}
    for name, value in settings.items():
        *parents, last = name.split(".")
        target = spelled
        for parent in parents:
            target = target.setdefault(parent, {})
        if isinstance(value, dict):
            target.setdefault(last, {}).update(_nested(value))
        elif isinstance(value, list):
            target[last] = [str(entry) for entry in value]
        else:
            target[last] = json.dumps(value) if isinstance(value, bool) else str(value)
    return spelled


def _without_defaults(got: Any, want: Any) -> Any:  # noqa: ANN401 - any JSON value
    """`got` without what Elasticsearch adds by itself where the file says nothing."""
    if isinstance(got, dict) and isinstance(want, dict):
        return {
            key: _without_defaults(value, want.get(key))
            for key, value in got.items()
            if key in want or not _is_default(key, value)
        }
    if isinstance(got, list) and isinstance(want, list) and len(got) == len(want):
        return [_without_defaults(*pair) for pair in zip(got, want, strict=True)]
    return got


def _is_default(key: str, value: object) -> bool:
    return value in ({}, [], False, None) or (key, value) in _DEFAULTS
