"""Around every call: who may come in, the one map from errors to gRPC statuses, what is seen."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from rerank_server import tokens, tracing
from rerank_server.bundle_store import BundleChangeError
from rerank_server.contract.errors import PageError, RerankError
from rerank_server.health_guard import HealthGuard
from rerank_server.metrics import Metrics
from rerank_server.observer import Observer
from rerank_server.product_changes import ChangeLogError, NoChangesError
from rerank_server.product_overlay import StoreFullError
from rerank_server.product_records import ProductError
from rerank_server.tokens import (
    Caller,
    ForbiddenError,
    RateLimitError,
    TokenGate,
    UnauthenticatedError,
)

# The first entry that fits decides.
STATUS_OF_ERROR: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (PageError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (RateLimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (BundleChangeError, grpc.StatusCode.FAILED_PRECONDITION),
    (ProductError, grpc.StatusCode.INVALID_ARGUMENT),
    (StoreFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ChangeLogError, grpc.StatusCode.UNAVAILABLE),
    (NoChangesError, grpc.StatusCode.FAILED_PRECONDITION),
    (RerankError, grpc.StatusCode.INTERNAL),
)
_ADMIN_METHODS = "/rerank.v1.AdminService/"
_HEALTH_METHODS = "/grpc.health.v1.Health/"
INTERNAL_DETAIL = "internal error, see the server's log"
_UNREADABLE = object()
_UNREADABLE_DETAIL = "message: got bytes that are no message of this method, want protobuf"
_LOG = logging.getLogger(__name__)

# Texts, because grpc's classes are generic in the stubs only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]"
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Behaviour: TypeAlias = "Callable[[Message, _Context], Awaitable[Message]]"
_Deserializer: TypeAlias = Callable[[bytes], Any] | None


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns errors into statuses; the text of an unexpected error stays in the log."""

    async def intercept_service(
        self,
        continuation: _Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the behaviour of unary calls; streams pass untouched."""
        method = handler_call_details.method

        def wrap(behaviour: _Behaviour) -> _Behaviour:
            async def answer(request: Message, context: _Context) -> Message:
                if request is _UNREADABLE:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _UNREADABLE_DETAIL)
                try:
                    return await behaviour(request, context)
                except RerankError as error:
                    if status_of(error) is grpc.StatusCode.INTERNAL:
                        return await _abort_internal(context, method)
                    return await _abort(context, error)
                except grpc.aio.AbortError:
                    raise
                except Exception:  # noqa: BLE001 - the client gets a status, the log the rest
                    return await _abort_internal(context, method)

            return answer

        handler = await continuation(handler_call_details)
        return _wrap_unary(handler, wrap, deserializer=_careful)


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Reports every unary call to the observer; streams pass untouched."""

    def __init__(self, observer: Observer) -> None:
        """Report to `observer`."""
        self._observer = observer

    async def intercept_service(
        self,
        continuation: _Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the behaviour of unary calls; streams pass untouched."""
        method = handler_call_details.method
        traceparent = _header(handler_call_details, tracing.HEADER)

        def wrap(behaviour: _Behaviour) -> _Behaviour:
            async def answer(request: Message, context: _Context) -> Message:
                with self._observer.watch(method, traceparent) as call:
                    call.request = request
                    try:
                        call.response = await behaviour(request, context)
                        return cast("Message", call.response)
                    except asyncio.CancelledError:  # the client went away
                        call.code = "CANCELLED"
                        raise
                    finally:
                        if call.code == "OK":
                            # 0, not a StatusCode, until one is set
                            call.code = getattr(context.code(), "name", "OK")

            return answer

        return _wrap_unary(await continuation(handler_call_details), wrap)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets calls in by bearer token, before their message is read; health checks need none.

    Without tokens only calls that change what is served are refused.
    """

    def __init__(self, gate: TokenGate | None, metrics: Metrics | None) -> None:
        """Ask `gate`; count refusals in `metrics` unless they are off."""
        self._gate = gate
        self._metrics = metrics
        self._health = HealthGuard()

    async def intercept_service(
        self,
        continuation: _Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Refuse the call, or let it in and count the candidates of its page."""
        if handler_call_details.method.startswith(_HEALTH_METHODS):
            handler = await continuation(handler_call_details)
            return None if handler is None else self._health.guard(handler)
        try:
            caller = self._admit(handler_call_details)
        except RerankError as error:
            self._count(error)
            return _refusal(error)
        handler = await continuation(handler_call_details)
        if caller is None or caller.candidates is None:
            return handler

        def wrap(behaviour: _Behaviour) -> _Behaviour:
            async def answer(request: Message, context: _Context) -> Message:
                try:
                    caller.admit_candidates(len(getattr(request, "candidate_ids", ())))
                except RerankError as error:
                    self._count(error)
                    raise
                return await behaviour(request, context)

            return answer

        return _wrap_unary(handler, wrap)

    def _admit(self, details: grpc.HandlerCallDetails) -> Caller | None:
        admin = details.method.startswith(_ADMIN_METHODS)
        if self._gate is None:
            if admin:
                raise ForbiddenError(
                    "admin: got a call on a port without tokens that other machines reach, want"
                    " --tokens, or a port on loopback"
                )
            return None
        caller = self._gate.admit(_header(details, tokens.HEADER))
        if admin:
            caller.check_admin()
        tokens.CALLER.set(caller.token.name)
        return caller

    def _count(self, error: RerankError) -> None:
        if self._metrics is not None:
            self._metrics.count_refused(status_of(error).name)


def status_of(error: RerankError) -> grpc.StatusCode:
    """Return the gRPC status of an error."""
    return next(code for kind, code in STATUS_OF_ERROR if isinstance(error, kind))


def _careful(deserialize: _Deserializer) -> _Deserializer:
    """Return `deserialize` with `_UNREADABLE` for what it cannot read; gRPC would tell callers."""
    if deserialize is None:
        return None

    def read(data: bytes) -> Any:  # noqa: ANN401 - any message
        try:
            return deserialize(data)
        except DecodeError:
            return _UNREADABLE

    return read


async def _abort(context: _Context, error: RerankError) -> NoReturn:
    trailing: tuple[tuple[str, str], ...] = ()
    if isinstance(error, RateLimitError):  # clients of gRPC wait that long before a retry
        trailing = (("grpc-retry-pushback-ms", str(math.ceil(error.retry_after_s * 1_000))),)
    await context.abort(status_of(error), str(error), trailing)


def _refusal(error: RerankError) -> _Handler:
    """Return a handler that ends any call at once, its messages unread."""

    async def refuse(requests: object, context: _Context) -> None:  # noqa: ARG001 - gRPC passes it
        await _abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _header(details: grpc.HandlerCallDetails, name: str) -> str | None:
    """Return the text of a header of a call, by its name in lower case."""
    for key, value in details.invocation_metadata or ():
        if key == name:
            return value if isinstance(value, str) else None
    return None


async def _abort_internal(context: _Context, method: str) -> NoReturn:
    _LOG.exception("call failed", extra={"fields": {"method": method}})
    await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_DETAIL)


def _wrap_unary(
    handler: _Handler | None,
    wrap: Callable[[_Behaviour], _Behaviour],
    deserializer: Callable[[_Deserializer], _Deserializer] = lambda read: read,
) -> _Handler | None:
    """Return the handler of a unary call with its behaviour wrapped.

    Streams pass untouched, and so does None: a method that nobody answers.
    """
    if handler is None or handler.unary_unary is None:
        return handler
    return grpc.unary_unary_rpc_method_handler(
        wrap(cast("_Behaviour", handler.unary_unary)),
        request_deserializer=deserializer(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )
