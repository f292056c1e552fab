"""Fills in the committed search templates as Elasticsearch does, for a node or proxy without them.

The subset that they use, by the rules of Elasticsearch's own engine: `{{name}}` is escaped for a
JSON text, `{{{name}}}` is not, `{{#toJson}}name{{/toJson}}` is the value as JSON, `{{#name}}` and
`{{^name}}` keep what they enclose when the value is there, or is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rerank_server.contract.errors import RerankError

_TAG = re.compile(
    r"\{\{\{\s*(?P<raw>[\w.]+)\s*\}\}\}|\{\{(?P<kind>[#^/]?)\s*(?P<name>[\w.]+)\s*\}\}"
)
_TO_JSON = "toJson"

Parameters = Mapping[str, Any]


class SearchTemplateError(RerankError):
    """A search template that is not whole, or that gives no JSON with the given parameters."""


def render(source: str, parameters: Parameters) -> dict[str, Any]:
    """Return the search that a template makes of its parameters.

    Raises:
        SearchTemplateError: A section that is not closed, or a result that is no JSON object.
    """
    text = "".join(_rendered(_Tags(source), None, parameters, kept=True))
    try:
        body = json.loads(text)
    except ValueError as error:
        raise SearchTemplateError(
            f"search template: got {error} with {sorted(parameters)}, want JSON; "
            "a parameter may be missing"
        ) from error
    if not isinstance(body, dict):
        raise SearchTemplateError(f"search template: got {type(body).__name__}, want an object")
    return body


class _Tags:
    """A template cut into texts and tags, read from the left."""

    def __init__(self, source: str) -> None:
        self._pieces = self._cut(source)

    def __iter__(self) -> Iterator[str | re.Match[str]]:
        return self._pieces

    @staticmethod
    def _cut(source: str) -> Iterator[str | re.Match[str]]:
        end = 0
        for tag in _TAG.finditer(source):
            yield source[end : tag.start()]
            yield tag
            end = tag.end()
        yield source[end:]


def _rendered(
    tags: _Tags, section: str | None, parameters: Parameters, *, kept: bool
) -> Iterator[str]:
    """Yield the texts up to the end of `section`; nothing of them when it is not `kept`."""
    for piece in tags:
        if isinstance(piece, str):
            if kept:
                yield piece
            continue
        name, kind = piece["raw"] or piece["name"], piece["kind"]
        if kind == "/":
            if name != section:
                raise SearchTemplateError(
                    f"search template: got the end of {name!r}, want that of {section!r}"
                )
            return
        if kind:
            yield from _section(tags, kind, name, parameters, kept=kept)
        elif kept:
            yield _text(parameters.get(name), escape=piece["raw"] is None)
    if section is not None:
        raise SearchTemplateError(f"search template: got no end of {section!r}, want it closed")


def _section(
    tags: _Tags, kind: str, name: str, parameters: Parameters, *, kept: bool
) -> Iterator[str]:
    if kind == "#" and name == _TO_JSON:
        inner = "".join(_rendered(tags, name, parameters, kept=True)).strip()
        if kept:
            yield json.dumps(parameters.get(inner), ensure_ascii=False)
        return
    shown = _is_there(parameters.get(name)) == (kind == "#")
    yield from _rendered(tags, name, parameters, kept=kept and shown)


def _is_there(value: object) -> bool:
    return value is not None and value is not False and value not in ("", [])


def _text(value: object, *, escape: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)[1:-1] if escape else str(value)
