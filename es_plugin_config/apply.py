"""Applies the files under `elasticsearch/` to a cluster: a file's path is the path of its API.

`elasticsearch/_index_template/crossrank-products.json` is `PUT
/_index_template/crossrank-products`. Applying is safe to repeat: what is equal already is left
alone. `--check` shows what differs and exits with 1; `--dry-run` says what would be put.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from elasticsearch import ApiError, Elasticsearch, TransportError

from rerank_server.contract.errors import RerankError, nearest

ROOT = Path(__file__).parent / "elasticsearch"
# In this order: index templates name component templates, pipelines may name scripts.
APIS = ("_component_template", "_scripts", "_ingest/pipeline", "_index_template")
HTTP_NOT_FOUND = 404

Json: TypeAlias = dict[str, Any]


class ConfigurationFileError(RerankError):
    """A file that is no configuration: not JSON, not sorted, or at a path that is no API."""


class ConfigurationClusterError(RerankError):
    """A cluster that cannot be reached or refuses the configuration."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One file: the API it belongs to, its name there, and what it says."""

    api: str
    name: str
    body: Json

    @property
    def path(self) -> str:
        """The path of the API call, such as `/_index_template/crossrank-products`."""
        return f"/{self.api}/{quote(self.name, safe='@')}"


@dataclass(frozen=True, slots=True)
class Drift:
    """How the cluster differs from one resource; an empty diff means that it does not."""

    resource: Resource
    diff: str


def read_resources(root: Path = ROOT) -> list[Resource]:
    """Read every file under `root`, in the order in which they must be applied.

    Raises:
        ConfigurationFileError: A path that spells no known API, or a file that is not formatted
            JSON with sorted keys.
    """
    resources = []
    for file in sorted(root.rglob("*.json")):
        spelled = file.relative_to(root).with_suffix("")
        api = spelled.parent.as_posix()
        if api not in APIS:
            raise ConfigurationFileError(
                f"folder of {file}: got {api}, want one of {', '.join(APIS)}{nearest(api, APIS)}"
            )
        text = file.read_text(encoding="utf-8")
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ConfigurationFileError(f"{file}: got {error}, want JSON") from error
        if not isinstance(body, dict) or text != format_json(body):
            raise ConfigurationFileError(
                f"{file}: got JSON in another form, want an object with sorted keys, "
                "indented by two, with a newline at the end"
            )
        resources.append(Resource(api, spelled.name, body))
    return sorted(resources, key=lambda resource: APIS.index(resource.api))


def format_json(value: object) -> str:
    """The one form in which files are kept and differences shown."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def find_drift(client: Elasticsearch, resources: Sequence[Resource]) -> list[Drift]:
    """Compare each resource with what the cluster has, in the order given.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses to answer.
    """
    return [Drift(resource, _diff(client, resource)) for resource in resources]


def apply(client: Elasticsearch, resources: Sequence[Resource]) -> list[Resource]:
    """Put the resources that the cluster has not, or has otherwise; return those.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses one of them.
    """
    applied = []
    for resource in resources:
        if _diff(client, resource):
            _call(client, "PUT", resource.path, resource.body)
            applied.append(resource)
    return applied


def _diff(client: Elasticsearch, resource: Resource) -> str:
    got = _read(client, resource)
    want_lines = format_json(_normalised(resource.body)).splitlines(keepends=True)
    got_lines = [] if got is None else format_json(_normalised(got)).splitlines(keepends=True)
    return "".join(
        difflib.unified_diff(
            got_lines, want_lines, f"cluster{resource.path}", f"file{resource.path}"
        )
    )


def _read(client: Elasticsearch, resource: Resource) -> Json | None:
    """What the cluster holds under the resource's name, in the form in which it was put."""
    answer = _call(client, "GET", resource.path)
    if answer is None:
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


def _call(client: Elasticsearch, method: str, path: str, body: Json | None = None) -> Json | None:
    """One request; None when there is nothing under that path."""
    headers = {"accept": "application/json", "content-type": "application/json"}
    try:
        answer: Json = client.perform_request(method, path, headers=headers, body=body).body
    except ApiError as error:
        if method == "GET" and error.status_code == HTTP_NOT_FOUND:
            return None
        raise ConfigurationClusterError(
            f"{method} {path}: got status {error.status_code} ({_reason(error)}), want 200"
        ) from error
    except TransportError as error:
        raise ConfigurationClusterError(
            f"{method} {path}: got {error}, want an answer from Elasticsearch"
        ) from error
    return answer


def _reason(error: ApiError) -> str:
    try:
        return str(error.body["error"]["reason"])
    except (KeyError, TypeError):
        return error.message


def _normalised(body: Json) -> Json:
    """The form in which Elasticsearch gives back what was put.

    Index settings come back as nested strings under `index`; dates of creation are its own.
    """
    kept = {
        key: value
        for key, value in body.items()
        if not key.startswith(("created_date", "modified_date"))
    }
    template = kept.get("template")
    if isinstance(template, dict) and "settings" in template:
        settings = _nested(template["settings"])
        index = {**settings.pop("index", {}), **settings}
        kept["template"] = {**template, "settings": {"index": index}}
    return kept


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply, check, or say what would be applied; the exit status is 0, 1 (drift) or 2 (error)."""
    parser = argparse.ArgumentParser(
        prog="python -m es_plugin_config.apply", description="Apply the search configuration."
    )
    parser.add_argument(
        "--url",
        default="http://localhost:9200",
        help="address of Elasticsearch, with user:password@ where it wants them",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="show what differs; exit 1 if any does")
    mode.add_argument("--dry-run", action="store_true", help="say what would be put; put nothing")
    parsed = parser.parse_args(arguments)
    try:
        with Elasticsearch(parsed.url, request_timeout=30, max_retries=0) as client:
            return _run(client, check=parsed.check, dry_run=parsed.dry_run)
    except (RerankError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _run(client: Elasticsearch, *, check: bool, dry_run: bool) -> int:
    resources = read_resources()
    if check:
        drifts = [drift for drift in find_drift(client, resources) if drift.diff]
        for drift in drifts:
            sys.stdout.write(drift.diff)
        sys.stdout.write(f"{len(drifts)} of {len(resources)} differ\n")
        return 1 if drifts else 0
    if dry_run:
        for drift in find_drift(client, resources):
            sys.stdout.write(
                f"{'would put' if drift.diff else 'unchanged'} {drift.resource.path}\n"
            )
        return 0
    applied = apply(client, resources)
    for resource in resources:
        sys.stdout.write(f"{'put' if resource in applied else 'unchanged'} {resource.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
