"""What the shopper typed, found in an Elasticsearch query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rerank_server.page import MAX_QUERY_BYTES

_BY_FIELD = {"match", "match_phrase", "match_phrase_prefix", "match_bool_prefix"}
_BY_QUERY = {"multi_match", "combined_fields", "query_string", "simple_query_string"}
# What a document must not be, or must be without a word of the shopper's.
_NOT_TYPED = {"must_not", "filter", "post_filter", "negative"}
_MAX_DEPTH = 24


def find_query_text(query: Any) -> str:  # noqa: ANN401 - JSON
    """Return the text of the first full-text clause, in the order of writing; else nothing.

    Args:
        query: The value of `query`, `retriever` or `knn`.
    """
    return fitting_query(next(_texts(query, 0), ""))


def fitting_query(text: str) -> str:
    """Return as much of `text` as the wire allows, cut between characters."""
    data = text.encode(errors="replace")
    if len(data) <= MAX_QUERY_BYTES:
        return data.decode()
    return data[:MAX_QUERY_BYTES].decode(errors="ignore")


def _texts(node: Any, depth: int) -> Iterator[str]:  # noqa: ANN401 - JSON
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, list):
        for item in node:
            yield from _texts(item, depth + 1)
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _texts_of_clause(name, value, depth + 1)


def _texts_of_clause(name: str, value: Any, depth: int) -> Iterator[str]:  # noqa: ANN401 - JSON
    if name in _NOT_TYPED:
        return
    if name == "model_text" and isinstance(value, str):
        yield value
    elif name in _BY_QUERY and isinstance(value, dict):
        yield from _text_of(value)
    elif name in _BY_FIELD and isinstance(value, dict):
        for clause in value.values():
            yield from _text_of(clause)
    else:
        yield from _texts(value, depth)


def _text_of(clause: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    text = clause.get("query") if isinstance(clause, dict) else clause
    if isinstance(text, str) and text:
        yield text
