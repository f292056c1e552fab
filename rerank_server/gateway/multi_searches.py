"""`_msearch` through the gateway: its searches are widened in place and reranked side by side."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Raw

from rerank_server.gateway.errors import AnswerError, BodyError, RankingError, UpstreamError
from rerank_server.gateway.reranking import Outcome, Timed, since_ms
from rerank_server.gateway.search_answer import window_refusal
from rerank_server.gateway.search_request import SearchPlan, SearchRequest, Widened, plan_search
from rerank_server.gateway.searches import Answered, Call, Searches, may_be_ours
from rerank_server.page import ShopperHistory

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_RAWS = msgspec.json.Decoder(list[Raw])


class _Status(msgspec.Struct):
    status: int = 200


_STATUS = msgspec.json.Decoder(_Status)


@dataclass(frozen=True, slots=True)
class _Inner:
    """One search of an `_msearch`: its line of headers and its plan."""

    head: bytes
    plan: SearchPlan

    @property
    def asks(self) -> bool:
        """Whether its answer gets an `ext.rerank`."""
        return self.plan.widened is not None or bool(self.plan.problem)


@dataclass(frozen=True, slots=True)
class _Begun:
    """What goes on beside Elasticsearch for one search."""

    timed: Timed
    history: asyncio.Task[ShopperHistory] | None


class MultiSearches:
    """Answers `_msearch`."""

    def __init__(self, searches: Searches) -> None:
        """Rerank as `searches` does."""
        self._searches = searches

    async def answer(self, call: Call) -> web.StreamResponse:
        """Answer one `_msearch`.

        Raises:
            UpstreamError: When Elasticsearch gives no answer.
        """
        try:
            inner = self._read(call)
        except BodyError:
            return await self._searches.forward(call)
        if not inner:
            return await self._searches.forward(call)
        for item in inner:
            if item.plan.skipped:
                self._searches.count_skipped(item.plan.skipped)
        if not any(item.asks or item.plan.stripped for item in inner):
            return await self._searches.forward(call)
        begun = {number: self._begin(item, call) for number, item in enumerate(inner) if item.asks}
        try:
            return await self._answer(call, inner, begun)
        except UpstreamError as error:
            problem = RankingError("elasticsearch_failed", str(error))
            outcomes = self._refused(inner, begun, problem, error.status, 0.0)
            self._searches.record(outcomes, call.heard)
            raise
        finally:
            for side in begun.values():
                if side.history is not None:
                    side.history.cancel()

    async def _answer(
        self, call: Call, inner: Sequence[_Inner], begun: Mapping[int, _Begun]
    ) -> web.StreamResponse:
        began = time.perf_counter()
        answered = await self._searches.ask(call, _lines(inner, widened=True), call.query)
        took_ms = since_ms(began)
        outcomes: Sequence[Outcome] = ()
        body = answered.body
        members = _read_answers(answered, len(inner))
        if members is not None:
            replies = _RAWS.decode(members["responses"])
            own = await self._own(call, inner, replies)
            done = [
                self._reply(inner[number], side, replies[number], own.get(number), took_ms)
                for number, side in begun.items()
            ]
            outcomes = await asyncio.gather(*done)
            for number, outcome in zip(begun, outcomes, strict=True):
                replies[number] = Raw(outcome.body)
            members["responses"] = Raw(b"[" + b",".join(map(bytes, replies)) + b"]")
            body = msgspec.json.encode(members)
        elif any(item.asks for item in inner):
            # the whole request was refused, or the caller's filter took its answers away
            problem = RankingError(
                "elasticsearch_refused",
                f"widened searches: got status {answered.status} without their answers, want them",
            )
            answered = await self._searches.ask(call, _lines(inner, widened=False), call.query)
            body = answered.body
            outcomes = self._refused(inner, begun, problem, answered.status, since_ms(began))
        response = self._searches.response(call, answered, body, outcomes)
        await response.prepare(call.request)
        await response.write_eof()
        self._searches.record(outcomes, call.heard)
        return response

    def _refused(
        self,
        inner: Sequence[_Inner],
        begun: Mapping[int, _Begun],
        problem: RankingError,
        status: int,
        took_ms: float,
    ) -> list[Outcome]:
        """Return what became of the searches of a request that failed as a whole."""
        outcomes = []
        for number, side in begun.items():
            side.timed.elasticsearch_status = status
            side.timed.elasticsearch_ms = took_ms
            plan = inner[number].plan
            outcomes.append(self._searches.reranking.refused(plan, b"", problem, side.timed))
        return outcomes

    def _read(self, call: Call) -> list[_Inner]:
        """Return the searches of a body; none where no search can be one to rerank.

        Raises:
            BodyError: When it is not pairs of lines.
        """
        text = self._searches.text_of(call)
        by_rule = self._searches.rules.rerank_some or call.rerank_header is not None
        if not by_rule and b'"rerank"' not in text:
            return []
        lines = text.split(b"\n")
        if lines.pop():
            raise BodyError("lines: got no newline at the end, want one")
        if not lines or len(lines) % 2:
            raise BodyError(f"lines: got {len(lines)}, want pairs of them")
        inner = []
        for head, body in zip(lines[::2], lines[1::2], strict=True):
            index = _index(head, call.index)
            search = SearchRequest(index, body, call.query, call.rerank_header, inner=True)
            plan = plan_search(search, self._searches.rules, self._searches.limit_of(index))
            inner.append(_Inner(head, plan))
        return inner

    def _begin(self, item: _Inner, call: Call) -> _Begun:
        timed = Timed()
        widened = item.plan.widened
        history = self._searches.begin_history(widened, call, timed) if widened else None
        return _Begun(timed, history)

    async def _own(
        self, call: Call, inner: Sequence[_Inner], replies: Sequence[Raw]
    ) -> dict[int, bytes]:
        """Return answers to the callers' own searches where widened ones were refused."""
        refused = []
        for number, item in enumerate(inner):
            reply = bytes(replies[number])
            if item.plan.widened is None or not _is_refused(reply):
                continue
            self._searches.learn_limit(item.plan.index, window_refusal(reply) or reply)
            refused.append(number)
        if not refused:
            return {}
        lines = _lines([inner[number] for number in refused], widened=False)
        again = await self._searches.ask(call, lines, call.query)
        members = _read_answers(again, len(refused))
        if members is None:
            return {}
        own = _RAWS.decode(members["responses"])
        return {number: bytes(reply) for number, reply in zip(refused, own, strict=True)}

    async def _reply(
        self, item: _Inner, side: _Begun, reply: Raw, own: bytes | None, took_ms: float
    ) -> Outcome:
        """Return what one search is answered."""
        timed, widened, reranking = side.timed, item.plan.widened, self._searches.reranking
        timed.elasticsearch_ms = took_ms
        body = bytes(reply) if own is None else own
        timed.elasticsearch_status = _STATUS.decode(body).status
        if widened is None or side.history is None:
            problem = RankingError("invalid_options", item.plan.problem)
            return reranking.refused(item.plan, body, problem, timed)
        if own is not None or timed.elasticsearch_status != HTTPStatus.OK:
            status = _STATUS.decode(reply).status
            problem = RankingError(
                "elasticsearch_refused", f"widened search: got status {status}, want 200"
            )
            return reranking.refused(item.plan, body, problem, timed)
        try:
            return await reranking.reorder(item.plan, widened, body, side.history, timed)
        except AnswerError as error:
            problem = RankingError("unread_answer", str(error))
            return reranking.refused(item.plan, body, problem, timed)


def _is_refused(reply: bytes) -> bool:
    """Return whether the widening may have failed this search, as a whole or on a shard."""
    status = _STATUS.decode(reply).status
    return may_be_ours(status, reply) or window_refusal(reply) != b""


def _index(head: bytes, default: str) -> str:
    """Return the index expression of a line of headers.

    Raises:
        BodyError: When the line cannot be read.
    """
    try:
        said: Any = json.loads(head) if head.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BodyError(f"header: got {error}, want a JSON object") from error
    if not isinstance(said, dict):
        raise BodyError("header: got no object, want a JSON object")
    named = said.get("index", said.get("indices", default))
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        return ",".join(named)
    if not isinstance(named, str):
        raise BodyError("header: got an index that is no text, want one")
    return named


def _lines(inner: Sequence[_Inner], *, widened: bool) -> bytes:
    parts = []
    for item in inner:
        use: Widened | SearchPlan = item.plan
        if widened and item.plan.widened is not None:
            use = item.plan.widened
        parts += [item.head, use.body]
    return b"\n".join(parts) + b"\n"


def _read_answers(answered: Answered, count: int) -> dict[str, Raw] | None:
    """Return the members of a whole answer with `count` replies; None when it is another."""
    if answered.status != HTTPStatus.OK:
        return None
    try:
        members = _MEMBERS.decode(answered.body)
        if "responses" in members and len(_RAWS.decode(members["responses"])) == count:
            return members
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None
