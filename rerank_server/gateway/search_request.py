"""One search as it goes to Elasticsearch: whether it is reranked, how, and the widened body."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, unquote_plus

from rerank_server.gateway.errors import BodyError, OptionsError
from rerank_server.gateway.filter_path import FilterPath
from rerank_server.gateway.json_members import Member, read_members, write_members
from rerank_server.gateway.options import RerankOptions, read_options
from rerank_server.gateway.query_text import find_query_text, fitting_query
from rerank_server.gateway.rules import IndexRules

DEFAULT_SIZE = 10
# Their order, or their set, is not that of a page of results.
_LEFT_ALONE_BODY = ("pit", "search_after", "slice", "rank")
_LEFT_ALONE_URL = ("scroll", "search_after")
# They go into the body of the widened search.
_TAKEN_OUT: dict[str, str | None] = dict.fromkeys(("from", "size", "source", "source_content_type"))
_HIT = "hits.hits"


@dataclass(frozen=True, slots=True)
class Widened:
    """What replaces a search that is reranked.

    Attributes:
        options: How it is reranked.
        query_text: What the shopper typed.
        offset: The caller's `from`.
        size: The caller's `size`.
        asked: How many hits the widened search asks for, from 0.
        body: Of the widened search.
        query: Raw query string of the widened search.
        added: Fields that the caller did not ask for.
        filtered: The caller's `filter_path`.
        total_limit: The caller's `track_total_hits` when it is a number.
        fingerprint: The same for all pages of one search of one shopper.
    """

    options: RerankOptions
    query_text: str
    offset: int
    size: int
    asked: int
    body: bytes
    query: str
    added: tuple[str, ...] = ()
    filtered: FilterPath = field(default_factory=FilterPath)
    total_limit: int | None = None
    fingerprint: bytes = b""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How one search goes on.

    Attributes:
        index: Index expression, decoded.
        body: The caller's body without `ext.rerank`.
        query: The caller's raw query string.
        stripped: Whether body or query string lack an `ext.rerank` that was there.
        wanted: Whether reranking was asked for, by the search or a rule.
        skipped: Why it is left alone although it was; empty when it is not.
        problem: What is wrong with its options; empty when nothing is.
        widened: What replaces it; None when it goes as it came.
    """

    index: str
    body: bytes
    query: str
    stripped: bool = False
    wanted: bool = False
    skipped: str = ""
    problem: str = ""
    widened: Widened | None = None


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search as the caller sent it.

    Attributes:
        index: Index expression, decoded.
        body: JSON text, or nothing.
        query: Raw query string; empty inside an `_msearch`.
        header: Value of the header that asks for reranking; None without it.
        inner: Whether it is one of an `_msearch`.
    """

    index: str
    body: bytes
    query: str = ""
    header: str | None = None
    inner: bool = False


def plan_search(search: SearchRequest, rules: IndexRules, limit: int | None = None) -> SearchPlan:
    """Return how a search goes on.

    Args:
        search: The search.
        rules: Which indices are reranked without asking.
        limit: `index.max_result_window`, where it is known.
    """
    plain = SearchPlan(search.index, search.body, search.query)
    rule = rules.of(search.index)
    in_url = "source=" in search.query
    mentioned = b'"rerank"' in search.body or (in_url and "rerank" in search.query)
    if not (rule.rerank or search.header is not None or mentioned):
        return plain
    url = dict(parse_qsl(search.query, keep_blank_values=True))
    source = url.get("source") if not search.body.strip() else None
    try:
        text = search.body.decode() if source is None else source
        members = read_members(text) if text.strip() else {}
        said = _take_own(members)
    except (BodyError, UnicodeDecodeError):
        return replace(plain, wanted=rule.rerank, skipped="body" if rule.rerank else "")
    if said is not None:
        plain = _without_own(plain, members, in_url=source is not None)
    try:
        wanted, options = _read_wishes(rule.rerank, rule.options, search.header, said)
    except OptionsError as error:
        return replace(plain, wanted=True, problem=str(error))
    if not wanted:
        return plain
    try:
        widened = _widen(search, options, members, url, limit)
    except _LeftAloneError as reason:
        return replace(plain, wanted=True, skipped=str(reason))
    return replace(plain, wanted=True, widened=widened)


class _LeftAloneError(Exception):
    """Why a search is not reranked; one word."""


def _take_own(members: dict[str, Member]) -> Any:  # noqa: ANN401 - JSON
    """Take `ext.rerank` out of the members and return it; None where there is none."""
    if "ext" not in members or not isinstance(members["ext"].value, dict):
        return None
    if "rerank" not in members["ext"].value:
        return None
    ext = read_members(members["ext"].text)
    said = ext.pop("rerank").value
    if ext:
        members["ext"] = Member("ext", None, write_members(ext.values()))
    else:
        del members["ext"]
    return {} if said is None else said


def _without_own(
    plain: SearchPlan,
    members: Mapping[str, Member],
    *,
    in_url: bool,
) -> SearchPlan:
    text = write_members(members.values())
    if not in_url:
        return replace(plain, body=text.encode(), stripped=True)
    return replace(plain, query=_edited(plain.query, {"source": text}), stripped=True)


def _edited(query: str, changes: Mapping[str, str | None]) -> str:
    """Return a raw query string with other values for some names; None takes the name out."""
    parts = []
    for part in query.split("&"):
        name = unquote_plus(part.partition("=")[0])
        value = changes.get(name)
        if name not in changes:
            parts.append(part)
        elif value is not None:
            parts.append(f"{name}={quote(value, safe='')}")
    return "&".join(parts)


def _read_wishes(
    by_rule: bool,  # noqa: FBT001 - the first of three places in order
    options: RerankOptions,
    header: str | None,
    said: Any,  # noqa: ANN401 - JSON
) -> tuple[bool, RerankOptions]:
    """Return whether to rerank and how: the body wins over the header, the header over the rule."""
    wanted = by_rule
    places = (("x-rerank", _header_value(header)), ("ext.rerank", said))
    for where, value in places:
        if value is None:
            continue
        if isinstance(value, bool):
            wanted = value
        elif isinstance(value, dict):
            wanted, options = True, read_options(where, value, options)
        else:
            raise OptionsError(f"{where}: got {str(value)[:40]!r}, want true, false or an object")
    return wanted, options


def _header_value(header: str | None) -> Any:  # noqa: ANN401 - JSON
    if header is None:
        return None
    try:
        return json.loads(header)
    except (ValueError, RecursionError) as error:
        raise OptionsError(f"x-rerank: got {error}, want true, false or a JSON object") from error


def _widen(
    search: SearchRequest,
    options: RerankOptions,
    members: dict[str, Member],
    url: Mapping[str, str],
    limit: int | None,
) -> Widened:
    """Return the widened search.

    Raises:
        _LeftAloneError: When it is not one to rerank.
    """
    values = {name: member.value for name, member in members.items()}
    _check_kind(values, url)
    offset = _number(url.get("from", values.get("from")), 0, "from")
    size = _number(url.get("size", values.get("size")), DEFAULT_SIZE, "size")
    if size == 0:
        raise _LeftAloneError("size_0")
    window = _window(options.window, values, limit)
    if offset >= window:
        raise _LeftAloneError("beyond_window")
    options = replace(options, window=window)
    filtered = _filter(url, options, inner=search.inner)
    added = _fields_to_add(options.fields, values, url)
    changed = dict(members)
    asked = max(window, offset + size)
    changed["from"] = Member("from", 0, "0")
    changed["size"] = Member("size", asked, str(asked))
    if added:
        changed["fields"] = _with_fields(members.get("fields"), added)
    edits = dict(_TAKEN_OUT)
    if not filtered.everything:
        paths = [f"{_HIT}._id", f"{_HIT}._score", *(f"{_HIT}.fields.{name}" for name in added)]
        edits["filter_path"] = filtered.with_paths(paths)
    query = _edited(search.query, edits)
    pages = [item for name, item in changed.items() if name not in {"from", "size"}]
    return Widened(
        options=options,
        query_text=_query_text(options, values, url),
        offset=offset,
        size=size,
        asked=asked,
        body=write_members(changed.values()).encode(),
        query=query,
        added=added,
        filtered=filtered,
        total_limit=_total_limit(url.get("track_total_hits", values.get("track_total_hits"))),
        fingerprint=_fingerprint(search.index, query, write_members(pages), options.fingerprint),
    )


def _fingerprint(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=16).digest()


def _check_kind(values: Mapping[str, Any], url: Mapping[str, str]) -> None:
    """Leave alone what is not a page in the order of its scores."""
    for name in _LEFT_ALONE_BODY:
        if values.get(name) is not None:
            raise _LeftAloneError(name)
    for name in _LEFT_ALONE_URL:
        if name in url:
            raise _LeftAloneError(name)
    if url.get("format", "json") != "json":
        raise _LeftAloneError("format")
    if not _is_by_score(url.get("sort", values.get("sort"))):
        raise _LeftAloneError("sort")
    stored = [values.get("stored_fields"), url.get("stored_fields")]
    if "_none_" in stored or ["_none_"] in stored:
        raise _LeftAloneError("stored_fields")


def _is_by_score(sort: Any) -> bool:  # noqa: ANN401 - JSON
    """Return whether hits come by score first, best first."""
    if sort is None or sort == []:
        return True
    first = sort[0] if isinstance(sort, list) else sort
    if isinstance(first, str):
        first = first.split(",")[0].strip()
        return first in {"_score", "_score:desc"}
    if not isinstance(first, dict) or list(first)[:1] != ["_score"]:
        return False
    order = first["_score"]
    order = order.get("order", "desc") if isinstance(order, dict) else order
    return bool(order == "desc")


def _number(value: Any, default: int, reason: str) -> int:  # noqa: ANN401 - JSON
    """Return `from` or `size`, written as a number or as digits."""
    if value is None:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _LeftAloneError(reason)


def _window(window: int, values: Mapping[str, Any], limit: int | None) -> int:
    """Return the window within what the index and a retriever give."""
    retriever = values.get("retriever")
    if isinstance(retriever, dict) and len(retriever) == 1:
        (inner,) = retriever.values()
        ranked = inner.get("rank_window_size") if isinstance(inner, dict) else None
        if isinstance(ranked, int) and ranked > 0:
            window = min(window, ranked)
    return window if limit is None else min(window, limit)


def _filter(url: Mapping[str, str], options: RerankOptions, *, inner: bool) -> FilterPath:
    filtered = FilterPath.read(url.get("filter_path", ""))
    if inner and not filtered.everything:
        raise _LeftAloneError("filter_path")
    needed = [f"{_HIT}._id", f"{_HIT}._score", *(f"{_HIT}.fields.{n}" for n in options.fields)]
    if any(filtered.leaves_out(path) for path in needed):
        raise _LeftAloneError("filter_path")
    return filtered


def _fields_to_add(
    wanted: Sequence[str], values: Mapping[str, Any], url: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the fields that the caller's own request does not bring."""
    asked = [*_names(values.get("fields")), *_names(values.get("docvalue_fields"))]
    asked += [*_names(url.get("docvalue_fields")), *(values.get("script_fields") or ())]
    collapse = values.get("collapse")
    if isinstance(collapse, dict):  # its field comes with each hit
        asked += _names(collapse.get("field"))
    stored = [*_names(values.get("stored_fields")), *_names(url.get("stored_fields"))]
    added = tuple(n for n in wanted if not any(fnmatchcase(n, pattern) for pattern in asked))
    if any(fnmatchcase(name, pattern) for name in added for pattern in stored):
        raise _LeftAloneError("stored_fields")
    return added


def _names(asked: Any) -> list[str]:  # noqa: ANN401 - JSON
    if isinstance(asked, str):
        return asked.split(",")
    if not isinstance(asked, list):
        return []
    names = [item.get("field") if isinstance(item, dict) else item for item in asked]
    return [name for name in names if isinstance(name, str)]


def _with_fields(asked: Member | None, added: Sequence[str]) -> Member:
    """Return the caller's `fields` and ours; whatever is not a list is not one to rerank."""
    if asked is None:
        return Member("fields", None, json.dumps(list(added)))
    if not isinstance(asked.value, list):
        raise _LeftAloneError("fields")
    ours = json.dumps(list(added))
    if not asked.value:
        return Member("fields", None, ours)
    return Member("fields", None, f"{asked.text.rstrip()[:-1]},{ours[1:]}")


def _query_text(options: RerankOptions, values: Mapping[str, Any], url: Mapping[str, str]) -> str:
    if options.query is not None:
        return options.query
    if "q" in url:
        return fitting_query(url["q"])
    for name in ("query", "retriever", "knn"):
        if text := find_query_text(values.get(name)):
            return text
    return ""


def _total_limit(asked: Any) -> int | None:  # noqa: ANN401 - JSON
    if isinstance(asked, str) and asked.isascii() and asked.isdigit():
        return int(asked)
    return asked if isinstance(asked, int) and not isinstance(asked, bool) else None


def decoded_index(segment: str) -> str:
    """Return the index expression of a raw path segment."""
    return unquote(segment)
