"""Around every unary call: the one map from errors to gRPC statuses, and the access log."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.message import Message

from rerank_server.contract.errors import PageError, RerankError

# The first entry that fits decides.
STATUS_OF_ERROR: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (PageError, grpc.StatusCode.INVALID_ARGUMENT),
    (RerankError, grpc.StatusCode.INTERNAL),
)
_INTERNAL_DETAIL = "internal error, see the server's log"
_LOG = logging.getLogger(__name__)

# Texts, because grpc's classes are generic in the stubs only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]"
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Behaviour: TypeAlias = "Callable[[Message, _Context], Awaitable[Message]]"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns errors into statuses; the text of an unexpected error stays in the log."""

    async def intercept_service(
        self,
        continuation: _Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the behaviour of unary calls; streams pass untouched."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        behaviour = cast("_Behaviour", handler.unary_unary)
        method = handler_call_details.method

        async def answer(request: Message, context: _Context) -> Message:
            try:
                return await behaviour(request, context)
            except RerankError as error:
                code = status_of(error)
                if code is grpc.StatusCode.INTERNAL:
                    return await _abort_internal(context, method)
                return await context.abort(code, str(error))
            except grpc.aio.AbortError:
                raise
            except Exception:  # noqa: BLE001 - the client gets a status, the log the rest
                return await _abort_internal(context, method)

        return _replace_behaviour(handler, answer)


class AccessLogInterceptor(grpc.aio.ServerInterceptor):
    """Writes one line per unary call: method, status, duration; no ids, no texts."""

    async def intercept_service(
        self,
        continuation: _Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the behaviour of unary calls; streams pass untouched."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        behaviour = cast("_Behaviour", handler.unary_unary)
        method = handler_call_details.method

        async def answer(request: Message, context: _Context) -> Message:
            start = perf_counter_ns()
            degraded = False
            try:
                response = await behaviour(request, context)
                degraded = getattr(response, "degraded", False)
                return response
            finally:
                # 0, not a StatusCode, until one is set
                code = getattr(context.code(), "name", "OK")
                level = logging.DEBUG if code == "OK" and not degraded else logging.INFO
                if _LOG.isEnabledFor(level):
                    fields = {
                        "method": method,
                        "code": code,
                        "degraded": degraded,
                        "took_us": (perf_counter_ns() - start) // 1_000,
                    }
                    _LOG.log(level, "call", extra={"fields": fields})

        return _replace_behaviour(handler, answer)


def status_of(error: RerankError) -> grpc.StatusCode:
    """Return the gRPC status of an error."""
    return next(code for kind, code in STATUS_OF_ERROR if isinstance(error, kind))


async def _abort_internal(context: _Context, method: str) -> NoReturn:
    _LOG.exception("call failed", extra={"fields": {"method": method}})
    await context.abort(grpc.StatusCode.INTERNAL, _INTERNAL_DETAIL)


def _replace_behaviour(handler: _Handler, behaviour: _Behaviour) -> _Handler:
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
