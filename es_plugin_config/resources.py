"""The files under `elasticsearch/`: a file's path is the path of its API, its text is the body.

`elasticsearch/_index_template/crossrank-products.json` is `PUT
/_index_template/crossrank-products`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from rerank_server.contract.errors import RerankError, nearest

ROOT = Path(__file__).parent / "elasticsearch"
# In this order: index templates name component templates, pipelines may name scripts.
APIS = (
    "_component_template",
    "_scripts",
    "_ingest/pipeline",
    "_index_template",
    "_security/role",
)

Json: TypeAlias = dict[str, Any]


class ConfigurationFileError(RerankError):
    """A file that is no configuration: not JSON, not sorted, or at a path that is no API."""


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
        resources.append(Resource(api, spelled.name, _read_body(file)))
    return sorted(resources, key=lambda resource: APIS.index(resource.api))


def with_components(resources: Sequence[Resource], template: str) -> list[Resource]:
    """One index template of `resources` after the component templates that it is composed of.

    Raises:
        ConfigurationFileError: There is no such index template.
    """
    for resource in resources:
        if resource.api == "_index_template" and resource.name == template:
            named = resource.body.get("composed_of", [])
            components = [
                each
                for each in resources
                if each.api == "_component_template" and each.name in named
            ]
            return [*components, resource]
    names = [each.name for each in resources if each.api == "_index_template"]
    raise ConfigurationFileError(
        f"index template: got {template!r}, want one of {', '.join(names)}"
        f"{nearest(template, names)}"
    )


def data_streams(resources: Sequence[Resource]) -> list[str]:
    """Names of the data streams that the index templates are for: patterns without a `*`."""
    return [
        pattern
        for resource in resources
        if resource.api == "_index_template" and "data_stream" in resource.body
        for pattern in resource.body["index_patterns"]
        if "*" not in pattern
    ]


def format_json(value: object) -> str:
    """The one form in which files are kept and differences shown."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _read_body(file: Path) -> Json:
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
    checked: Json = body
    return checked
