"""The hits of an answer, and the page that the caller gets of them.

What is not changed keeps the bytes that Elasticsearch wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from rerank_server.gateway.errors import AnswerError
from rerank_server.gateway.search_request import Widened

FIRST_PASS_SCORE = "_first_pass_score"
_Members = dict[str, Raw]
_MEMBERS = msgspec.json.Decoder(_Members)
_RAWS = msgspec.json.Decoder(list[Raw])
_NULL = b"null"
_WINDOW_SETTING = b"index.max_result_window"


class _Head(msgspec.Struct):
    """What reranking reads of a hit."""

    index: str = msgspec.field(name="_index", default="")
    id: str | None = msgspec.field(name="_id", default=None)
    score: float | None = msgspec.field(name="_score", default=None)
    fields: dict[str, Raw] = {}


class _Total(msgspec.Struct):
    value: int
    relation: str = "eq"


_HEAD = msgspec.json.Decoder(_Head)
_TOTAL = msgspec.json.Decoder(_Total | int)


@dataclass(frozen=True, slots=True)
class Hit:
    """One hit.

    Attributes:
        raw: As Elasticsearch wrote it.
        index: Its index; empty when the caller's filter leaves it out.
        id: Its document id.
        score: Its first-pass score; NaN without one.
        fields: Values of the fields that reranking asked for, first ones only.
    """

    raw: Raw
    index: str
    id: str
    score: float
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """A whole answer.

    Attributes:
        members: Of the answer.
        outer: Members of `hits`.
        hits: In retrieval order.
    """

    members: Mapping[str, Raw]
    outer: Mapping[str, Raw]
    hits: Sequence[Hit]

    @property
    def took_ms(self) -> float:
        """`took`; 0 when the caller's filter leaves it out."""
        return float(bytes(self.members["took"])) if "took" in self.members else 0.0

    @property
    def total(self) -> tuple[int | None, bool]:
        """`hits.total` and whether it is exact; None where it is not counted."""
        if "total" not in self.outer:
            return None, True
        total = _TOTAL.decode(self.outer["total"])
        if isinstance(total, int):
            return (total, True) if total >= 0 else (None, True)
        return total.value, total.relation == "eq"


@dataclass(frozen=True, slots=True)
class Shown:
    """One place of the page: which hit, and its new score.

    Attributes:
        hit: Place in retrieval order, from 0.
        score: Of the reranker; None leaves the first-pass score where it is.
    """

    hit: int
    score: float | None = None


def read_answer(body: bytes, wanted_fields: Sequence[str]) -> SearchAnswer:
    """Read the answer of a search.

    Raises:
        AnswerError: When it has no list of hits.
    """
    try:
        members = _MEMBERS.decode(body)
        outer = _MEMBERS.decode(members["hits"]) if "hits" in members else {}
        raws = _RAWS.decode(outer["hits"]) if "hits" in outer else []
        hits = [_read_hit(raw, wanted_fields) for raw in raws]
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise AnswerError(f"answer: got {error}, want hits") from error
    return SearchAnswer(members, outer, hits)


def _read_hit(raw: Raw, wanted_fields: Sequence[str]) -> Hit:
    head = _HEAD.decode(raw)
    fields = {}
    for name in wanted_fields:
        if name in head.fields:
            values = msgspec.json.decode(head.fields[name])
            fields[name] = values[0] if isinstance(values, list) and values else None
    score = math.nan if head.score is None else head.score
    return Hit(raw, head.index, head.id or "", score, fields)


def write_page(
    answer: SearchAnswer,
    shown: Sequence[Shown],
    widened: Widened,
    *,
    max_score: float | None,
    said: Mapping[str, Any],
) -> bytes:
    """Return the answer with the hits of one page.

    Args:
        answer: Of the widened search.
        shown: The page.
        widened: The search.
        max_score: Replaces a `max_score` that is not null; None leaves it.
        said: Becomes `ext.rerank`, where the caller's filter keeps that.
    """
    hits = [_write_hit(answer.hits[place.hit], place.score, widened) for place in shown]
    outer = dict(answer.outer)
    if "hits" in outer:
        if widened.filtered.everything:
            outer["hits"] = _array(hits)
        else:
            _set_filtered(outer, [hit for hit in hits if hit != b"{}"])
    if max_score is not None and bytes(outer.get("max_score", Raw(_NULL))) != _NULL:
        outer["max_score"] = Raw(_number(max_score))
    if widened.total_limit is not None and "total" in outer:
        outer["total"] = _limited(outer["total"], widened.total_limit)
    members = dict(answer.members)
    if outer or widened.filtered.everything:
        members["hits"] = _object(outer)
    else:
        members.pop("hits", None)
    if widened.filtered.keeps("ext.rerank"):
        return with_status(members, said)
    return bytes(_object(members))


def with_status(members: Mapping[str, Raw], said: Mapping[str, Any]) -> bytes:
    """Return an answer's members with `ext.rerank`, beside what else `ext` holds."""
    ext = _MEMBERS.decode(members["ext"]) if "ext" in members else {}
    # in ASCII: an error may quote a name with half of a surrogate pair, which UTF-8 cannot carry
    ext["rerank"] = Raw(json.dumps(said, separators=(",", ":")).encode())
    return bytes(_object({**members, "ext": _object(ext)}))


def window_refusal(body: bytes) -> bytes:
    """Return what shards say that refused the size of a search; nothing when none did.

    A search of several indices is answered, without the hits of those that refuse it.
    """
    if _WINDOW_SETTING not in body:
        return b""
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return b""
    shards = bytes(members.get("_shards", b""))
    return shards if _WINDOW_SETTING in shards else b""


def add_status(body: bytes, said: Mapping[str, Any]) -> bytes:
    """Return any JSON answer with `ext.rerank`; what is no object stays as it is."""
    try:
        return with_status(_MEMBERS.decode(body), said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body


def pretty(body: bytes) -> bytes:
    """Return JSON as the parameter `pretty` asks for it."""
    text = json.dumps(json.loads(body), ensure_ascii=False, indent=2, separators=(",", " : "))
    return f"{text}\n".encode(errors="replace")  # half of a surrogate pair has no UTF-8


def _set_filtered(outer: dict[str, Raw], hits: Sequence[bytes]) -> None:
    """Leave out empty hits and lists, as Elasticsearch does in a filtered answer."""
    if hits:
        outer["hits"] = _array(hits)
    else:
        del outer["hits"]


def _write_hit(hit: Hit, score: float | None, widened: Widened) -> bytes:
    """Return a hit without the fields that the caller did not ask for, with its new score."""
    filtered = not widened.filtered.everything
    if score is None and not widened.added and not filtered:
        return bytes(hit.raw)
    members = _MEMBERS.decode(hit.raw)
    fields = _MEMBERS.decode(members.pop("fields")) if "fields" in members else {}
    for name in widened.added:
        fields.pop(name, None)
    if score is not None:
        if not math.isnan(hit.score):
            fields[FIRST_PASS_SCORE] = Raw(b"[%b]" % bytes(members["_score"]))
        members["_score"] = Raw(_number(score))
    if filtered:
        _keep_filtered(members, fields, widened)
    if fields:
        members["fields"] = _object(fields)
    return bytes(_object(members))


def _keep_filtered(members: dict[str, Raw], fields: dict[str, Raw], widened: Widened) -> None:
    for name in ("_id", "_score"):
        if not widened.filtered.keeps(f"hits.hits.{name}"):
            members.pop(name, None)
    if not widened.filtered.keeps(f"hits.hits.fields.{FIRST_PASS_SCORE}"):
        fields.pop(FIRST_PASS_SCORE, None)


def _limited(total: Raw, limit: int) -> Raw:
    """Return the total that the caller's own size would have given: at most its limit."""
    counted = _TOTAL.decode(total)
    if isinstance(counted, int) or counted.value <= limit:
        return total
    return Raw(b'{"value":%d,"relation":"gte"}' % limit)


def _number(score: float) -> bytes:
    """Return the shortest text that gives the same 32-bit float."""
    return f"{score:.9g}".encode()


def _array(items: Sequence[bytes]) -> Raw:
    return Raw(b"[" + b",".join(items) + b"]")


def _object(members: Mapping[str, Raw]) -> Raw:
    inner = b",".join(msgspec.json.encode(name) + b":" + bytes(v) for name, v in members.items())
    return Raw(b"{" + inner + b"}")
