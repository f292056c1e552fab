"""Metrics and the three probes over HTTP, on a port of their own and in a thread of their own.

Started before the bundle is read, so that "still starting" can be told from "dead"; and a thread,
so that a stuck event loop is seen from outside.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from rerank_server.contract.errors import RerankError

BEAT_EVERY_S = 1.0
STUCK_AFTER_S = 15.0
_READ_TIMEOUT_S = 5.0
_LOG = logging.getLogger(__name__)


class ProbeAddressError(RerankError):
    """An address that metrics and probes cannot listen on."""


class Probes:
    """Whether the process is alive, has started, and takes calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin alive, not started, not ready."""
        self._clock = clock
        self._beat_at: float | None = None
        self.started = False
        self.ready = False

    def beat(self) -> None:
        """Say that the event loop turns; expected every second once it began."""
        self._beat_at = self._clock()

    @property
    def alive(self) -> bool:
        """False once the event loop has not turned for 15 seconds: restart the process."""
        return self._beat_at is None or self._clock() - self._beat_at < STUCK_AFTER_S

    def answer(self, path: str) -> bool | None:
        """Return the answer to the probe of a path; None for any other path."""
        answers = {
            "/livez": self.alive,
            "/readyz": self.ready and self.alive,
            "/startupz": self.started,
        }
        return answers.get(path)


class ProbeServer:
    """Answers /metrics, /livez, /readyz and /startupz until it is closed."""

    def __init__(self, host: str, port: int, probes: Probes, registry: CollectorRegistry) -> None:
        """Listen; `port` 0 takes a free one.

        Raises:
            ProbeAddressError: When the port is taken or the address is not of this machine.
        """

        class Handler(_Handler):
            pass

        Handler.probes, Handler.registry = probes, registry
        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise ProbeAddressError(
                f"metrics, {host}:{port}: got {error.strerror or error}, want a free address of"
                " this machine"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="probes", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    probes: Probes
    registry: CollectorRegistry
    timeout = _READ_TIMEOUT_S
    server_version = "crossrank"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one path."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._send(HTTPStatus.OK, encode(self.registry), kind)
            return
        answer = self.probes.answer(path)
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, b"want /metrics, /livez, /readyz or /startupz\n")
        elif answer:
            self._send(HTTPStatus.OK, b"ok\n")
        else:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"no\n")

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log at debug only: a probe comes every second."""
        _LOG.debug(format, *args)
