"""HTTP beside gRPC, in the same process and event loop; needs the extra `http`.

For trying the server with curl and for programs that speak the rerank API of Cohere. gRPC is the
fast way in.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from rerank_server.contract.errors import RerankError
from rerank_server.tls import TlsFiles, server_context

# Connections and requests at the same time; more are answered 503.
MAX_CONCURRENCY = 512
KEEP_ALIVE_S = 15
_LOG = logging.getLogger(__name__)


class HttpAddressError(RerankError):
    """An address that the HTTP door cannot listen on."""


class HttpDoor:
    """Answers an application over HTTP or HTTPS."""

    def __init__(self, app: Starlette, tls: TlsFiles | None) -> None:
        """Prepare; nothing listens yet."""
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONCURRENCY,
                timeout_keep_alive=KEEP_ALIVE_S,
                ssl_context_factory=None if tls is None else _context_factory(tls),
            )
        )
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen and return the port; 0 takes a free one.

        Args:
            host: Address.
            port: Port.
            reuse_port: Whether other processes listen there as well.

        Raises:
            HttpAddressError: When the port is taken or the address is not of this machine.
        """
        name = host.strip("[]")
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        try:
            self._socket = socket.create_server(
                (name, port), family=family, backlog=512, reuse_port=reuse_port
            )
        except OSError as error:
            raise HttpAddressError(
                f"http, {host}:{port}: got {error.strerror or error}, want a free address of this"
                " machine"
            ) from error
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.01)
        return int(self._socket.getsockname()[1])

    async def stop(self, grace: timedelta) -> None:
        """Refuse new calls and let calls in flight finish within `grace`."""
        if self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace.total_seconds()))
        self._server.should_exit = True
        await self._serving
        if self._socket is not None:
            self._socket.close()


class _Connection(H11Protocol):
    """Is closed when nothing comes; uvicorn waits for ever for a connection's first byte."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class _Server(uvicorn.Server):
    """Leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


def _context_factory(
    tls: TlsFiles,
) -> Callable[[uvicorn.Config, Callable[[], ssl.SSLContext]], ssl.SSLContext]:
    def make(config: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:  # noqa: ARG001 - uvicorn passes them
        return server_context(tls)

    return make
