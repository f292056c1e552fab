"""The fields of a data stream, read from the templates that are applied to the cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rerank_server.contract.errors import RerankError, nearest

StreamFields: TypeAlias = dict[str, str]  # full name -> type in the mapping
Json: TypeAlias = dict[str, Any]
TEMPLATES = Path(__file__).parents[1] / "elasticsearch"


class StreamFieldError(RerankError):
    """A field that the mapping of a stream has not, or has with a type that does not fit."""


def stream_template(stream: str, root: Path = TEMPLATES) -> Json:
    """Return the index template of a stream with its component templates merged into it.

    Raises:
        StreamFieldError: When no template is there for the stream.
    """
    path = root / "_index_template" / f"{stream}.json"
    if not path.exists():
        known = [file.stem for file in path.parent.glob("*.json")]
        raise StreamFieldError(
            f"stream: got {stream!r}, want one with a template{nearest(stream, known)}"
        )
    body: Json = json.loads(path.read_text(encoding="utf-8"))
    template: Json = {}
    for name in body.get("composed_of", []):
        part = root / "_component_template" / f"{name}.json"
        _merge(template, json.loads(part.read_text(encoding="utf-8"))["template"])
    _merge(template, body.get("template", {}))
    return body | {"composed_of": [], "template": template}


def stream_fields(stream: str, root: Path = TEMPLATES) -> StreamFields:
    """Return every field of a stream that can be searched, sub-fields included.

    Raises:
        StreamFieldError: When no template is there for the stream.
    """
    mappings = stream_template(stream, root)["template"]["mappings"]
    return _flat(mappings["properties"], "")


def require_field(fields: Mapping[str, str], name: str, types: set[str] | None = None) -> None:
    """Check that a stream has a field, of one of the types where some are given.

    Raises:
        StreamFieldError: When it has not.
    """
    if name not in fields:
        raise StreamFieldError(
            f"field: got {name!r}, want one of the mapping{nearest(name, fields)}"
        )
    if types is not None and fields[name] not in types:
        raise StreamFieldError(
            f"field {name}: got type {fields[name]}, want {' or '.join(sorted(types))}"
        )


def _flat(properties: Json, prefix: str) -> StreamFields:
    fields: StreamFields = {}
    for name, field in properties.items():
        if "properties" in field:
            fields |= _flat(field["properties"], f"{prefix}{name}.")
            continue
        if field.get("index", True):
            fields[prefix + name] = field["type"]
        fields |= _flat(field.get("fields", {}), f"{prefix}{name}.")
    return fields


def _merge(target: Json, source: Json) -> None:
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif isinstance(value, dict):
            target[key] = {}
            _merge(target[key], value)
        else:
            target[key] = value
