"""Every request of the gateway: searches to `searches`, all else straight to Elasticsearch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from rerank_server.gateway.errors import UpstreamError
from rerank_server.gateway.gateway_metrics import GatewayMetrics
from rerank_server.gateway.http_messages import error_answer, pass_on, read_body
from rerank_server.gateway.multi_searches import MultiSearches
from rerank_server.gateway.search_request import decoded_index
from rerank_server.gateway.searches import Call, Searches
from rerank_server.gateway.upstream import Upstream, headers_to_send

_SEARCH, _MULTI_SEARCH, _PASSED = "search", "msearch", "passed"
_KINDS = {"_search": _SEARCH, "_msearch": _MULTI_SEARCH}
_WITH_INDEX = 2
_LOG = logging.getLogger(__name__)

_Answer = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """What a request is for.

    Attributes:
        kind: `search` or `msearch`.
        path: Raw path.
        query: Raw query string.
        index: Index expression, decoded; empty means all.
    """

    kind: str
    path: str
    query: str
    index: str


def find_route(method: str, raw_path: str) -> Route | None:
    """Return the route of a search; None for every other request."""
    if method not in {"GET", "POST"} or "search" not in raw_path:
        return None
    path, _, query = raw_path.partition("?")
    segments = path.strip("/").split("/")
    kind = _KINDS.get(segments[-1])
    if kind is None or len(segments) > _WITH_INDEX:
        return None
    index = decoded_index(segments[0]) if len(segments) == _WITH_INDEX else ""
    return Route(kind, path, query, index)


class Gateway:
    """Answers requests; `handle` is the handler of an `aiohttp.web.Server`."""

    def __init__(
        self,
        upstream: Upstream,
        searches: Searches,
        metrics: GatewayMetrics,
        *,
        max_body_bytes: int,
    ) -> None:
        """Pass requests to `upstream`, searches through `searches`."""
        self._upstream = upstream
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._answers: dict[str, _Answer] = {
            _SEARCH: searches.answer,
            _MULTI_SEARCH: MultiSearches(searches).answer,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        route = find_route(request.method, request.raw_path)
        kind = _PASSED if route is None else route.kind
        self._metrics.in_flight += 1
        status = 500
        try:
            await _let_body_come(request)
            response = await (
                self._pass(request) if route is None else self._search(request, route)
            )
            status = response.status
        except (ConnectionError, asyncio.CancelledError):
            status = 499  # the caller went away
            raise
        except (UpstreamError, aiohttp.ClientError) as error:
            status, reason = _told(error)
            response = error_answer(status, "crossrank_gateway_exception", reason)
            fields = {"kind": kind, "status": status, "reason": reason}
            _LOG.warning("Elasticsearch gave no answer", extra={"fields": fields})
        finally:
            self._metrics.in_flight -= 1
            self._metrics.count_request(kind, status)
        return response

    async def _search(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        body = await read_body(request, self._max_body_bytes)
        call = Call(request, route.path, route.query, route.index, body)
        return await self._answers[route.kind](call)

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        body = request.content if request.body_exists else None
        headers = headers_to_send(request.raw_headers, frozenset())
        method, target = request.method, request.raw_path
        async with self._upstream.send(method, target, headers, body) as answer:
            return await pass_on(request, answer)


def _told(error: UpstreamError | aiohttp.ClientError) -> tuple[int, str]:
    """Return the status that a caller is told, and why."""
    if isinstance(error, UpstreamError):
        return error.status, str(error)
    return 502, f"Elasticsearch: got {type(error).__name__} within an answer"


async def _let_body_come(request: web.BaseRequest) -> None:
    """Answer a caller that waits for leave to send its body (RFC 9110, section 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # so that the answer proper has its headers
