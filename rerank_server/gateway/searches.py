"""`_search` through the gateway: left alone, or widened, reranked and cut to the caller's page."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from rerank_server.gateway.errors import AnswerError, BodyError, RankingError, UpstreamError
from rerank_server.gateway.gateway_metrics import GatewayMetrics
from rerank_server.gateway.http_messages import (
    ReadBody,
    kept_headers,
    pass_on,
    plain_body,
    rewritten,
    sends_json,
    takes_json,
)
from rerank_server.gateway.record import SearchRecord, SearchRecorder
from rerank_server.gateway.reranking import Heard, Outcome, Reranking, Timed, finish, since_ms
from rerank_server.gateway.rules import IndexRules
from rerank_server.gateway.search_answer import pretty, window_refusal
from rerank_server.gateway.search_request import SearchPlan, SearchRequest, Widened, plan_search
from rerank_server.gateway.upstream import Upstream, headers_to_send
from rerank_server.page import ShopperHistory
from rerank_server.tracing import read_traceparent

RERANK_HEADER = "X-Rerank"
KEEP_LIMIT_S = 60.0
_MOST_LIMITS = 1_000
_OUR_HEADERS = frozenset((b"x-rerank",))
# The body that the gateway writes has another length and no compression.
_OF_THE_BODY = _OUR_HEADERS | {b"content-length", b"content-encoding", b"accept-encoding"}
_TOO_LARGE = re.compile(rb"from \+ size must be less than or equal to: \[(\d+)\]")
# What the caller's own search would be answered too.
_NOT_OURS = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.SERVICE_UNAVAILABLE,
}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request for `_search` or `_msearch`.

    Attributes:
        request: As it came.
        path: Raw path.
        query: Raw query string.
        index: Index expression, decoded.
        body: Its body.
    """

    request: web.BaseRequest
    path: str
    query: str
    index: str
    body: ReadBody

    @property
    def heard(self) -> Heard:
        """What the headers say."""
        headers = self.request.headers
        trace = read_traceparent(headers.get("traceparent"))
        return Heard(
            authorization=headers.get("Authorization"),
            trace_id=trace.trace_id if trace else "",
            opaque_id=headers.get("X-Opaque-Id", ""),
        )

    @property
    def rerank_header(self) -> str | None:
        """The value of the header that asks for reranking."""
        return self.request.headers.get(RERANK_HEADER)


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer of Elasticsearch."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


class Searches:
    """Answers searches."""

    def __init__(
        self,
        upstream: Upstream,
        reranking: Reranking,
        rules: IndexRules,
        metrics: GatewayMetrics,
        *,
        recorder: SearchRecorder | None,
        timeout_ms: int,
        max_body_bytes: int,
    ) -> None:
        """Ask `upstream`, at most `timeout_ms` for a search that is reranked."""
        self.upstream = upstream
        self.reranking = reranking
        self.rules = rules
        self._metrics = metrics
        self._recorder = recorder
        self._timeout_s = timeout_ms / 1_000
        self._max_body_bytes = max_body_bytes
        self._limits: dict[str, tuple[float, int]] = {}

    async def answer(self, call: Call) -> web.StreamResponse:
        """Answer one `_search`.

        Raises:
            UpstreamError: When Elasticsearch gives no answer.
        """
        plan = self._plan(call)
        if plan.widened is None and not plan.problem:
            return await self._left_alone(call, plan)
        timed = Timed()
        try:
            answered, outcome = await self._reranked(call, plan, timed)
        except UpstreamError as error:
            timed.elasticsearch_status = error.status
            problem = RankingError("elasticsearch_failed", str(error))
            self.record([self.reranking.refused(plan, b"", problem, timed)], call.heard)
            raise
        response = self.response(call, answered, outcome.body, (outcome,))
        await response.prepare(call.request)
        await response.write_eof()
        self.record([outcome], call.heard)
        return response

    def text_of(self, call: Call) -> bytes:
        """Return the body of a call as JSON text.

        Raises:
            BodyError: When the gateway cannot read it.
        """
        headers = call.request.headers
        if call.body.rest is not None:
            raise BodyError(f"body: got more than {self._max_body_bytes} bytes")
        if call.body.begun and not sends_json(headers):
            raise BodyError("content-type: got another than JSON")
        encoding = headers.get("Content-Encoding", "").strip().lower()
        return plain_body(call.body.begun, encoding, self._max_body_bytes)

    async def ask(self, call: Call, body: bytes, query: str) -> Answered:
        """Send a body to Elasticsearch and return the whole answer.

        Raises:
            UpstreamError: When there is none in time.
        """
        headers = self._headers(call, _OF_THE_BODY)
        if "Content-Type" not in headers and body:
            accept = headers.get("Accept", "")
            same = "compatible-with" in accept and "," not in accept
            headers["Content-Type"] = accept if same else "application/json"
        target = f"{call.path}?{query}" if query else call.path
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self.upstream.send(
                    call.request.method, target, headers, body or None, again=True
                ) as answer,
            ):
                whole = await answer.content.read()
                return Answered(answer.status, kept_headers(answer), whole)
        except TimeoutError as error:
            raise UpstreamError(
                504, f"Elasticsearch: got no answer in {self._timeout_s:g} s, want one"
            ) from error
        except aiohttp.ClientError as error:
            raise UpstreamError(
                502, f"Elasticsearch: got {type(error).__name__} within an answer"
            ) from error

    async def forward(self, call: Call, status: str = "") -> web.StreamResponse:
        """Pass a call on as it came."""
        target = f"{call.path}?{call.query}" if call.query else call.path
        whole = call.body.rest is None
        body = call.body.begun if whole else call.body.stream()
        async with self.upstream.send(
            call.request.method,
            target,
            self._headers(call, _OUR_HEADERS),
            body or None,
            again=whole,
        ) as answer:
            return await pass_on(call.request, answer, status)

    def begin_history(
        self, widened: Widened, call: Call, timed: Timed
    ) -> asyncio.Task[ShopperHistory]:
        """Begin to read the shopper's events, beside the search."""
        authorization = call.request.headers.get("Authorization")
        return asyncio.create_task(self.reranking.history(widened.options, authorization, timed))

    def limit_of(self, index: str) -> int | None:
        """Return the window that an index refused to exceed a short time ago."""
        until, limit = self._limits.get(index, (0.0, 0))
        return limit if until > time.monotonic() else None

    def learn_limit(self, index: str, refusal: bytes) -> bool:
        """Keep the `index.max_result_window` that a refusal names; whether it names one."""
        found = _TOO_LARGE.search(refusal)
        if found is None:
            return False
        if len(self._limits) >= _MOST_LIMITS:
            self._limits.clear()
        self._limits[index] = (time.monotonic() + KEEP_LIMIT_S, int(found[1]))
        return True

    def response(
        self, call: Call, answered: Answered, body: bytes, outcomes: Sequence[Outcome]
    ) -> web.Response:
        """Return the response to a caller whose searches ended so; none of them says nothing."""
        reasons = {outcome.record.degraded_reason for outcome in outcomes} - {""}
        status = "reranked" if outcomes else ""
        if reasons:
            status = f"degraded; reason={','.join(sorted(reasons))}"
        if asks_pretty(call.query) and answered.status == HTTPStatus.OK:
            body = pretty(body)
        response = rewritten(call.request, answered.headers, body, status)
        response.set_status(answered.status)
        return response

    def record(self, outcomes: Iterable[Outcome], heard: Heard) -> None:
        """Count searches whose answer was sent, and give them to telemetry."""
        for outcome in outcomes:
            search = finish(outcome, heard)
            self._metrics.count_search(search)
            if search.degraded:
                _log_degraded(search)
            if self._recorder is None:
                continue
            try:
                self._recorder.record(search)
            except Exception:  # noqa: BLE001 - telemetry changes no answer
                _LOG.exception("the recorder of searches failed")

    def count_skipped(self, reason: str) -> None:
        """Count a search that was left alone although reranking was asked for."""
        self._metrics.count_skipped(reason)

    def _plan(self, call: Call) -> SearchPlan:
        wanted = call.rerank_header is not None or self.rules.of(call.index).rerank
        try:
            text = self.text_of(call)
        except BodyError:
            return SearchPlan(
                call.index, b"", call.query, wanted=wanted, skipped="body" if wanted else ""
            )
        search = SearchRequest(call.index, text, call.query, call.rerank_header)
        plan = plan_search(search, self.rules, self.limit_of(call.index))
        if plan.widened is not None and not takes_json(call.request.headers):
            return replace(plan, widened=None, skipped="accept")
        return plan

    async def _left_alone(self, call: Call, plan: SearchPlan) -> web.StreamResponse:
        status = ""
        if plan.skipped:
            status = f"skipped; reason={plan.skipped}"
            self.count_skipped(plan.skipped)
        if not plan.stripped:
            return await self.forward(call, status)
        headers = self._headers(call, _OUR_HEADERS | {b"content-length", b"content-encoding"})
        target = f"{call.path}?{plan.query}" if plan.query else call.path
        async with self.upstream.send(
            call.request.method, target, headers, plan.body or None, again=True
        ) as answer:
            return await pass_on(call.request, answer, status)

    async def _reranked(
        self, call: Call, plan: SearchPlan, timed: Timed
    ) -> tuple[Answered, Outcome]:
        """Ask for the widened search; where that is refused, for the caller's own."""
        began = time.perf_counter()
        widened, history = plan.widened, None
        problem = RankingError("invalid_options", plan.problem)
        if widened is not None:
            history = self.begin_history(widened, call, timed)
            answered = await self.ask(call, widened.body, widened.query)
            refusal = _window_refusal(answered)
            if refusal and self.learn_limit(plan.index, refusal):
                widened = self._plan(call).widened or widened
                answered = await self.ask(call, widened.body, widened.query)
            timed.elasticsearch_ms = since_ms(began)
            timed.elasticsearch_status = answered.status
            if answered.status == HTTPStatus.OK and not _window_refusal(answered):
                try:
                    body = answered.body
                    return answered, await self.reranking.reorder(
                        plan, widened, body, history, timed
                    )
                except AnswerError as error:
                    problem = RankingError("unread_answer", str(error))
            else:
                problem = _refusal(answered)
                if not _is_refused(answered):
                    history.cancel()
                    outcome = self.reranking.refused(plan, answered.body, problem, timed)
                    return answered, outcome
            history.cancel()
        answered = await self.ask(call, plan.body, plan.query)
        timed.elasticsearch_ms = since_ms(began)
        timed.elasticsearch_status = answered.status
        return answered, self.reranking.refused(plan, answered.body, problem, timed)

    def _headers(self, call: Call, left_out: frozenset[bytes]) -> CIMultiDict[str]:
        return headers_to_send(call.request.raw_headers, left_out)


def may_be_ours(status: int, body: bytes) -> bool:
    """Return whether an error may come from the widening, so that the caller's own may work."""
    if status < HTTPStatus.BAD_REQUEST or status in _NOT_OURS:
        return False
    return status != HTTPStatus.TOO_MANY_REQUESTS or b"circuit_breaking_exception" in body


def _window_refusal(answered: Answered) -> bytes:
    if answered.status == HTTPStatus.OK:
        return window_refusal(answered.body)
    return answered.body if may_be_ours(answered.status, answered.body) else b""


def _is_refused(answered: Answered) -> bool:
    return _window_refusal(answered) != b""


def asks_pretty(query: str) -> bool:
    """Return whether a query string asks for an answer to read."""
    return any(part in {"pretty", "pretty=", "pretty=true"} for part in query.split("&"))


def _refusal(answered: Answered) -> RankingError:
    return RankingError(
        "elasticsearch_refused",
        f"widened search: got status {answered.status}, want {HTTPStatus.OK.value}",
    )


def _log_degraded(search: SearchRecord) -> None:
    fields = {
        "query_id": search.query_id,
        "index": search.index,
        "reason": search.degraded_reason,
        "detail": search.degraded_detail,
        "took_ms": round(search.latency.total_ms, 1),
    }
    _LOG.info("search degraded", extra={"fields": fields})
