"""Health checks of callers without a token, bounded in number and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

# Health checks and watches under way: a quarter of the calls that a server keeps.
MAX_CALLS = 256
# A call whose message does not come in this time would keep its place for ever.
MESSAGE_TIMEOUT_S = 5.0

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class HealthGuard:
    """Counts the health calls of one server."""

    def __init__(self) -> None:
        """Begin with none."""
        self._calls = 0

    def guard(self, handler: _Handler) -> _Handler:
        """Return the handler of a health method that waits for its message a short time only.

        It is a streaming one, for gRPC reads the message of a unary handler before anyone is asked.
        """
        # the stubs know the behaviours of servers with threads only
        check: Any = handler.unary_unary
        watch: Any = handler.unary_stream

        async def answer(requests: AsyncIterator[Any], context: _Context) -> None:
            if self._calls >= MAX_CALLS:
                detail = f"health: got more than {MAX_CALLS} calls at once, want fewer"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, detail)
            self._calls += 1
            try:
                request = await _first(requests, context)
                if check is not None:
                    await context.write(await check(request, context))
                else:
                    await watch(request, context)
            finally:
                self._calls -= 1

        return grpc.stream_stream_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


async def _first(requests: AsyncIterator[Any], context: _Context) -> Any:  # noqa: ANN401 - a message
    try:
        async with asyncio.timeout(MESSAGE_TIMEOUT_S):
            return await anext(requests)
    except TimeoutError:
        detail = f"health: got no message in {MESSAGE_TIMEOUT_S:g} s, want one"
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, detail)
    except (StopAsyncIteration, DecodeError):
        detail = "health: got bytes that are no message, want a HealthCheckRequest"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, detail)
