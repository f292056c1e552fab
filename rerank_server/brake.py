"""Slows the acceptance of calls down when more come than can be answered.

Accepting a call and turning it away costs Python about a fifth of reranking a page, so that a
server which turns away two calls for each one that it answers would answer less and less. gRPC's
own threads can do it for a tenth of that, without Python: they end calls that nobody has accepted
yet, beyond `ServingLimits.unread_calls`. For that the event loop must let calls lie, which it would
never do by itself. gRPC hands them over oldest first, so this pays only where those that lie are
few enough to be fresh still.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from rerank_server.admission import Admission

# No call in flight is answered later than this because of the brake.
_LONGEST_S = 0.005
# Calls may lie for this share of the time that callers give.
_FRESH_SHARE = 0.75
# Health checks are never slowed down.
_METHODS = "/rerank.v1.RerankService/"

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]"


class Brake:
    """Holds the event loop back until a worker is done, for 5 ms at most."""

    def __init__(self) -> None:
        self._done = threading.Event()

    def page_done(self) -> None:
        """Say that a worker is done with a page; from its thread."""
        self._done.set()

    def hold(self) -> None:
        """Wait for the next page that is done; in the event loop's thread."""
        self._done.clear()
        self._done.wait(_LONGEST_S)


class BrakeInterceptor(grpc.aio.ServerInterceptor):
    """Holds back before a call is looked at, while pages wait and others are refused."""

    def __init__(self, brake: Brake, admission: Admission, unread_calls: int) -> None:
        """Hold `brake` as `admission` needs it, where at most `unread_calls` lie."""
        self._brake = brake
        self._admission = admission
        self._unread_calls = unread_calls

    async def intercept_service(
        self,
        continuation: _Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Hold back, then go on."""
        if handler_call_details.method.startswith(_METHODS) and self._pays:
            self._brake.hold()
        return await continuation(handler_call_details)

    @property
    def _pays(self) -> bool:
        admission = self._admission
        fresh_s = _FRESH_SHARE * admission.allowed_s
        return admission.pressed and admission.drain_s(self._unread_calls) < fresh_s
