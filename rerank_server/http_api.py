"""The paths of the HTTP door: the native call as JSON, and Cohere's rerank call."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import uuid
from collections.abc import Awaitable, Callable
from time import monotonic, perf_counter_ns
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from rerank_server.cohere_form import (
    UnknownModelError,
    cohere_answer,
    read_cohere_call,
)
from rerank_server.contract.errors import PageError, RerankError
from rerank_server.convert import page_from_pb
from rerank_server.http_docs import SECURITY_POLICY, docs_page
from rerank_server.http_openapi import openapi_page
from rerank_server.interceptors import INTERNAL_DETAIL, status_of
from rerank_server.observer import Call, Observer
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.service import RerankService
from rerank_server.tokens import CALLER, Caller, RateLimitError, TokenGate
from rerank_server.tracing import HEADER as TRACE_HEADER

TIMEOUT_HEADER = "x-timeout-ms"
_BODY_TIMEOUT_S = 10.0
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_TOO_LARGE, _UNSUPPORTED, _INTERNAL = 413, 415, 500
_LOG = logging.getLogger(__name__)

_Answer: TypeAlias = "Callable[[bytes, _HttpContext, Call, Caller | None], Awaitable[Any]]"


class _HttpError(Exception):
    """A request that HTTP itself refuses."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpApi:
    """Answers requests with the service that gRPC calls reach."""

    def __init__(
        self,
        service: RerankService,
        observer: Observer,
        gate: TokenGate | None,
        *,
        bundle_id: Callable[[], str],
        max_body_bytes: int,
    ) -> None:
        """Prepare.

        Args:
            service: What answers.
            observer: Sees every call that is let in.
            gate: Lets callers in by token; None lets in everyone.
            bundle_id: Says which bundle is served.
            max_body_bytes: Largest body accepted.
        """
        self._service = service
        self._observer = observer
        self._gate = gate
        self._bundle_id = bundle_id
        self._max_body_bytes = max_body_bytes

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/v1/pages:rerank", self._native, methods=["POST"]),
                Route("/v1/rerank", self._cohere, methods=["POST"]),
                Route("/v2/rerank", self._cohere, methods=["POST"]),
                Route("/openapi.json", _openapi, methods=["GET"]),
                Route("/docs", _docs, methods=["GET"]),
            ]
        )

    async def _native(self, request: Request) -> Response:
        return await self._call(request, self._answer_native, with_code=True)

    async def _cohere(self, request: Request) -> Response:
        return await self._call(request, self._answer_cohere, with_code=False)

    async def _call(self, request: Request, answer: _Answer, *, with_code: bool) -> Response:
        """Let one call in, answer it, and put whatever goes wrong into the form's own words."""
        try:
            caller = self._admit(request)
        except RerankError as error:
            return _error(error, with_code=with_code)
        with self._observer.watch(request.url.path, request.headers.get(TRACE_HEADER)) as call:
            call.code = "UNKNOWN"
            try:
                body = await self._read_body(request)
                context = _HttpContext(request)
                value = await answer(body, context, call, caller)
                call.code = "OK"
                return JSONResponse(value)
            except RerankError as error:
                call.code = status_of(error).name
                return _error(error, with_code=with_code)
            except _HttpError as error:
                call.code = "INVALID_ARGUMENT"
                return JSONResponse({"message": str(error)}, error.status)
            except ClientDisconnect:
                call.code = "CANCELLED"
                return Response(status_code=400)
            except Exception:  # noqa: BLE001 - the client gets a status, the log the rest
                call.code = "INTERNAL"
                _LOG.exception("call failed", extra={"fields": {"method": request.url.path}})
                return JSONResponse({"message": INTERNAL_DETAIL}, _INTERNAL)

    def _admit(self, request: Request) -> Caller | None:
        if self._gate is None:
            return None
        try:
            caller = self._gate.admit(request.headers.get("authorization"))
        except RerankError as error:
            self._count_refused(error)
            raise
        CALLER.set(caller.token.name)
        return caller

    def _count_refused(self, error: RerankError) -> None:
        if self._observer.metrics is not None:
            self._observer.metrics.count_refused(status_of(error).name)

    def _admit_candidates(self, caller: Caller | None, count: int) -> None:
        if caller is None:
            return
        try:
            caller.admit_candidates(count)
        except RerankError as error:
            self._count_refused(error)
            raise

    async def _answer_native(
        self, body: bytes, context: _HttpContext, call: Call, caller: Caller | None
    ) -> dict[str, Any]:
        arrived = perf_counter_ns()
        message = await asyncio.to_thread(_read_request, body)
        call.request = message
        self._admit_candidates(caller, len(message.candidate_ids))
        page = page_from_pb(message)
        call.response = await self._service.answer(page, cast("Any", context), arrived)
        return json_format.MessageToDict(
            call.response,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    async def _answer_cohere(
        self, body: bytes, context: _HttpContext, call: Call, caller: Caller | None
    ) -> dict[str, Any]:
        arrived = perf_counter_ns()
        asked = await asyncio.to_thread(read_cohere_call, body, self._bundle_id())
        call.request = pb.RerankRequest(candidate_ids=asked.page.candidate_ids)
        self._admit_candidates(caller, asked.page.size)
        response = await self._service.answer(asked.page, cast("Any", context), arrived)
        call.response = response
        return cohere_answer(
            asked,
            response.retrieval_ranks,
            response.scores,
            answer_id=str(uuid.uuid4()),
            warning=response.degraded_detail if response.degraded else "",
        )

    async def _read_body(self, request: Request) -> bytes:
        """Return the body, refused before it is held when it is too large or compressed."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise _HttpError(_UNSUPPORTED, "content-encoding: got a compressed body, want none")
        length = request.headers.get("content-length", "0")
        size = int(length) if length.isdecimal() else 0
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                async for chunk in request.stream():
                    body += chunk
                    size = max(size, len(body))
                    if size > self._max_body_bytes:
                        break
        except TimeoutError:
            raise _HttpError(408, f"body: got none in {_BODY_TIMEOUT_S:g} s, want it") from None
        if size > self._max_body_bytes:
            want = f"at most {self._max_body_bytes}"
            raise _HttpError(_TOO_LARGE, f"body: got {size} bytes or more, want {want}")
        return bytes(body)


class _HttpContext:
    """What the service asks of gRPC's context: the time that is left, and who calls."""

    def __init__(self, request: Request) -> None:
        """Read the timeout header.

        Raises:
            PageError: When it is no number of milliseconds.
        """
        self._peer = f"http:{request.client.host if request.client else ''}:0"
        self._deadline: float | None = None
        header = request.headers.get(TIMEOUT_HEADER)
        if header is not None:
            if not header.isdecimal() or not 0 < int(header[:9]) <= 600_000:  # noqa: PLR2004 - ten minutes
                raise PageError(f"{TIMEOUT_HEADER}: got {header[:16]!r}, want 1 to 600000")
            self._deadline = monotonic() + int(header) / 1_000

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline; None without one."""
        return None if self._deadline is None else self._deadline - monotonic()

    def peer(self) -> str:
        """Return the caller's address."""
        return self._peer


def _read_request(body: bytes) -> pb.RerankRequest:
    try:
        return json_format.Parse(body, pb.RerankRequest())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, json_format.ParseError) else "no JSON"
        raise PageError(f"body: got {reason[:300]}, want a RerankRequest as JSON") from error


def _error(error: RerankError, *, with_code: bool) -> JSONResponse:
    if isinstance(error, UnknownModelError):
        return JSONResponse({"message": str(error)}, 404)
    code = status_of(error)
    status = _HTTP_STATUS.get(code, _INTERNAL)
    if status == _INTERNAL:
        _LOG.error("call failed", exc_info=error)
    value = {"message": INTERNAL_DETAIL if status == _INTERNAL else str(error)}
    headers = {}
    if isinstance(error, RateLimitError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if code is grpc.StatusCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"code": code.name} | value if with_code else value, status, headers)


async def _openapi(request: Request) -> Response:  # noqa: ARG001 - Starlette passes it
    return Response(json.dumps(openapi_page()), media_type="application/json")


async def _docs(request: Request) -> Response:  # noqa: ARG001 - Starlette passes it
    return HTMLResponse(docs_page(), headers={"Content-Security-Policy": SECURITY_POLICY})
