"""The part of the Kibana Query Language that the dashboards use, as Elasticsearch queries.

`field: value`, `field: *`, `field >= number` and its like, `and`, `or`, `not`, parentheses. The
translation is Kibana's own (`@kbn/es-query`, `toElasticsearchQuery`): a value is a `match`, a
text in quotes a `match_phrase`, `*` an `exists`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from rerank_server.contract.errors import RerankError

Json: TypeAlias = dict[str, Any]
_TOKEN = re.compile(r'\s*(?:(<=|>=|<|>|:|\(|\))|"((?:[^"\\]|\\.)*)"|([^\s:<>()"]+))')
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_WORDS = {"and", "or", "not"}


class KqlError(RerankError):
    """A query that is not in the part of KQL that is known here."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison: `operator` is `:` or `<`, `<=`, `>`, `>=`; `*` as value asks for any."""

    field: str
    operator: str
    value: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Junction:
    """`and`, `or`, or `not` of one."""

    word: str
    parts: tuple[Node, ...]


Node: TypeAlias = "Condition | Junction"


def read_kql(text: str) -> Node | None:
    """Read a query; None for an empty one, which everything matches.

    Raises:
        KqlError: When it is not of the known part.
    """
    tokens = _tokens(text)
    if not tokens:
        return None
    node, rest = _read_or(tokens, text)
    if rest:
        raise KqlError(f"KQL {text!r}: got {rest[0][1]!r}, want the end")
    return node


def kql_query(text: str) -> Json:
    """Return the Elasticsearch query of a KQL text.

    Raises:
        KqlError: When it is not of the known part.
    """
    node = read_kql(text)
    return {"match_all": {}} if node is None else _query(node)


def kql_fields(text: str) -> set[str]:
    """Return the fields that a KQL text compares.

    Raises:
        KqlError: When it is not of the known part.
    """
    node = read_kql(text)
    return set() if node is None else _fields(node)


def _query(node: Node) -> Json:
    if isinstance(node, Junction):
        parts = [_query(part) for part in node.parts]
        match node.word:
            case "and":
                return {"bool": {"filter": parts}}
            case "or":
                return {"bool": {"should": parts, "minimum_should_match": 1}}
            case _:
                return {"bool": {"must_not": parts[0]}}
    if node.operator in _RANGES:
        inner: Json = {"range": {node.field: {_RANGES[node.operator]: node.value}}}
    elif node.value == "*" and not node.quoted:
        inner = {"exists": {"field": node.field}}
    else:
        inner = {"match_phrase" if node.quoted else "match": {node.field: node.value}}
    return {"bool": {"should": [inner], "minimum_should_match": 1}}


def _fields(node: Node) -> set[str]:
    if isinstance(node, Condition):
        return {node.field}
    return set().union(*(_fields(part) for part in node.parts))


_Tokens: TypeAlias = list[tuple[str, str]]  # kind ("sign", "text", "word") and what it says


def _tokens(text: str) -> _Tokens:
    tokens: _Tokens = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise KqlError(f"KQL {text!r}: got {text[at:]!r}, want a field or a value")
        sign, quoted, word = match.groups()
        if sign:
            tokens.append(("sign", sign))
        elif quoted is not None:
            tokens.append(("text", re.sub(r"\\(.)", r"\1", quoted)))
        else:
            tokens.append(("word", word))
        at = match.end()
    return tokens


def _read_or(tokens: _Tokens, text: str) -> tuple[Node, _Tokens]:
    return _read_joined("or", tokens, text)


def _read_joined(word: str, tokens: _Tokens, text: str) -> tuple[Node, _Tokens]:
    parts: list[Node] = []
    while True:
        part, tokens = (
            _read_joined("and", tokens, text) if word == "or" else _read_not(tokens, text)
        )
        parts.append(part)
        if not tokens or tokens[0] != ("word", word):
            return (parts[0] if len(parts) == 1 else Junction(word, tuple(parts))), tokens
        tokens = tokens[1:]


def _read_not(tokens: _Tokens, text: str) -> tuple[Node, _Tokens]:
    if tokens[:1] == [("word", "not")]:
        part, rest = _read_not(tokens[1:], text)
        return Junction("not", (part,)), rest
    if tokens[:1] == [("sign", "(")]:
        part, rest = _read_or(tokens[1:], text)
        if rest[:1] != [("sign", ")")]:
            raise KqlError(f"KQL {text!r}: got no closing parenthesis, want one")
        return part, rest[1:]
    return _read_condition(tokens, text)


def _read_condition(tokens: _Tokens, text: str) -> tuple[Node, _Tokens]:
    match tokens[:3]:
        case [("word", field), ("sign", operator), (kind, value)] if (
            kind != "sign" and operator not in "()" and field not in _WORDS
        ):
            return Condition(field, operator, value, quoted=kind == "text"), tokens[3:]
    raise KqlError(f"KQL {text!r}: got no `field: value` where one is wanted")
