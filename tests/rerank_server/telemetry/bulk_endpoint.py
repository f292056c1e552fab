"""A server that takes bulk requests as Elasticsearch does, and fails as it is told to."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

# What a fault returns: an HTTP status for the request; 200 lets it in.
Fault = Callable[[list[str]], int]


class BulkEndpoint:
    """Keeps the documents that were created, by id.

    Attributes:
        documents: Document id -> body.
        item_status: Document id -> the status it gets in the place of 201.
        fault: What each request meets.
        requests: Path and headers of each request.
    """

    def __init__(self, port: int = 0) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.item_status: dict[str, int] = {}
        self.fault: Fault = lambda _: 200
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def port(self) -> int:
        return self._server.server_port

    def __enter__(self) -> BulkEndpoint:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, ids: list[str], bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        items = []
        for document_id, body in zip(ids, bodies, strict=True):
            status = self.item_status.get(document_id, 201)
            if status == 201:
                status = 409 if document_id in self.documents else 201
                self.documents.setdefault(document_id, body)
            items.append({"create": {"_id": document_id, "status": status}})
        return items


def _handler(endpoint: BulkEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            endpoint.requests.append((self.path, dict(self.headers)))
            content = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            lines = [json.loads(line) for line in content.splitlines()]
            ids = [line["create"]["_id"] for line in lines[::2]]
            status = endpoint.fault(ids)
            answer: dict[str, Any] = {"error": "as told"}
            if status == 200:
                answer = {"items": endpoint.take(ids, lines[1::2])}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


def wait_until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Return once it is true.

    Raises:
        AssertionError: When it is not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
