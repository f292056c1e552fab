"""The members of a JSON object as parsed values and as the text they were written in.

A body is forwarded with what was between its quotes, so that numbers, order, escapes and nested
duplicate keys reach Elasticsearch as the caller wrote them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rerank_server.gateway.errors import BodyError

_VALUE = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object.

    Attributes:
        key: Its name.
        value: What its text says.
        text: Its value as written.
    """

    key: str
    value: Any
    text: str


def read_members(text: str) -> dict[str, Member]:
    """Return the members of the object that is all of `text`, in order.

    Raises:
        BodyError: When it is no object, not JSON, or has a key twice at this level.
    """
    members: dict[str, Member] = {}
    try:
        for member in _scan(text):
            if member.key in members:
                raise BodyError(f"body: got {member.key!r} twice, want each key once")
            members[member.key] = member
    except (ValueError, IndexError, RecursionError) as error:
        raise BodyError(f"body: got {error}, want a JSON object") from error
    return members


def write_members(members: Iterable[Member]) -> str:
    """Return the object of `members`."""
    return "{" + ",".join(f"{json.dumps(item.key)}:{item.text}" for item in members) + "}"


def _scan(text: str) -> Iterator[Member]:
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise BodyError("body: got no object, want a JSON object")
    at = _skip(text, at + 1)
    closed = text[at : at + 1] == "}"
    while not closed:
        if text[at] != '"':
            raise BodyError("body: got no quoted key, want a JSON object")
        key, at = _VALUE(text, at)
        at = _skip(text, at)
        if text[at] != ":":
            raise BodyError(f"body: got no colon after {key!r}, want a JSON object")
        begin = _skip(text, at + 1)
        value, end = _VALUE(text, begin)
        yield Member(key, value, text[begin:end])
        at = _skip(text, end)
        if text[at] not in ",}":
            raise BodyError(f"body: got no comma after {key!r}, want a JSON object")
        closed = text[at] == "}"
        at = at if closed else _skip(text, at + 1)
    if _skip(text, at + 1) != len(text):
        raise BodyError("body: got more after the object, want one JSON object")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
