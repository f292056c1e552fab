"""The OpenAPI page as HTML for people; whole in itself, so that it needs no other server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from typing import Any

from rerank_server.http_openapi import openapi_page

# Nothing is loaded from anywhere and nothing runs.
SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { background: color-mix(in srgb, currentColor 8%, transparent); border-radius: 6px;
      overflow-x: auto; padding: .8rem 1rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent);
         padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
.method { border: 1px solid; border-radius: 4px; font-size: 13px; padding: 0 .4rem; }
"""
_EXAMPLES: dict[str, dict[str, Any]] = {
    "/v1/pages:rerank": {
        "candidate_ids": ["1029743", "995242"],
        "retrieval_scores": [9.1, 8.7],
        "query": "milk",
    },
    "/v1/rerank": {"query": "milk", "documents": ["whole milk 1 l", {"id": "995242"}], "top_n": 2},
    "/v2/rerank": {"model": "crossrank", "query": "milk", "documents": ["whole milk 1 l", "salt"]},
}


@cache
def docs_page() -> str:
    """Return the page."""
    page = openapi_page()
    info = page["info"]
    parts = [*_operations(page["paths"]), *_schemas(page["components"]["schemas"])]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
        "<p>gRPC is the fast way in; this door is for curl and for programs that speak the rerank"
        ' API of Cohere. The same page for programs: <a href="openapi.json">openapi.json</a>. A'
        " server with tokens wants <code>authorization: Bearer TOKEN</code>.</p>"
        f"{''.join(parts)}</main></body></html>\n"
    )


def _operations(paths: dict[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield (
                f'<h2 id="{escape(path)}"><span class="method">{method.upper()}</span>'
                f" <code>{escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>"
            )
            body = json.dumps(_EXAMPLES[path])
            yield f"<pre>curl localhost:8080{escape(path)} -d '{escape(body)}'</pre>"
            rows = [
                (item["name"], f"header, {_kind(item['schema'])}", item["description"])
                for item in operation["parameters"]
            ]
            rows.append(("body", _content(operation["requestBody"]), "required"))
            yield _table("Request", ("name", "kind", ""), rows)
            answers = [
                (status, _content(answer), answer["description"])
                for status, answer in operation["responses"].items()
            ]
            yield _table("Answers", ("status", "body", ""), answers)


def _schemas(schemas: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Bodies</h2>"
    for name, schema in schemas.items():
        required = schema.get("required", ())
        rows = [
            (field + (" (required)" if field in required else ""), _kind(kind), _notes(kind))
            for field, kind in schema["properties"].items()
        ]
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
        yield _table("", ("field", "kind", ""), rows)


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    title = f"<caption><strong>{escape(caption)}</strong></caption>" if caption else ""
    first = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{escape(notes)}</td></tr>"
        for name, kind, notes in rows
    )
    return f"<table>{title}<thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"


def _content(value: dict[str, Any]) -> str:
    return _kind(value["content"]["application/json"]["schema"])


def _kind(schema: dict[str, Any]) -> str:
    """Return a type as HTML, with links to the bodies of this page."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "oneOf" in schema:
        return " or ".join(_kind(item) for item in schema["oneOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    text = " or ".join(escape(kind) for kind in kinds)
    if "items" in schema:
        return f"{text} of {_kind(schema['items'])}"
    values = schema.get("additionalProperties")
    return f"{text} of {_kind(values)} by name" if isinstance(values, dict) else text


def _notes(schema: dict[str, Any]) -> str:
    notes = [schema["description"]] if "description" in schema else []
    if "enum" in schema:
        notes.append(", ".join(schema["enum"]))
    bounds = {
        "minimum": "at least",
        "maximum": "at most",
        "minItems": "at least",
        "maxItems": "at most",
    }
    notes += [f"{words} {schema[bound]}" for bound, words in bounds.items() if bound in schema]
    return "; ".join(notes)
