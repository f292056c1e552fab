"""A gateway and a rerank server in threads of their own, and bare HTTP calls to compare answers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rerank_server.gateway.record import SearchRecord
from rerank_server.gateway.serving import RunningGateway, running_gateway
from rerank_server.gateway.settings import GatewaySettings
from rerank_server.reranker import Reranker
from tests.rerank_server.running import tiny_rerank_server

_Open = TypeVar("_Open")


class Records:
    """Keeps the records of searches."""

    def __init__(self) -> None:
        self.all: list[SearchRecord] = []
        self._came = threading.Condition()

    def record(self, search: SearchRecord) -> None:
        with self._came:
            self.all.append(search)
            self._came.notify_all()

    def of(self, *query_ids: str) -> list[SearchRecord]:
        """The records of these searches, in the order they came; each comes after its answer."""

        def found() -> list[SearchRecord]:
            return [search for search in self.all if search.query_id in query_ids]

        with self._came:
            assert self._came.wait_for(lambda: len(found()) >= len(query_ids), 5.0)
            return found()


@dataclass(frozen=True)
class Answer:
    """One answer, read whole."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def hits(self) -> list[dict[str, Any]]:
        hits: list[dict[str, Any]] = self.json["hits"]["hits"]
        return hits

    @property
    def ids(self) -> list[str]:
        return [hit["_id"] for hit in self.hits]

    @property
    def rerank(self) -> dict[str, Any]:
        said: dict[str, Any] = self.json["ext"]["rerank"]
        return said


class Caller:
    """Sends requests byte for byte as told, over one connection that is kept open."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=timeout_s
        )

    def send(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Answer:
        """Send one request; a body that is no bytes goes as JSON."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None and "content-type" not in map(str.lower, sent):
            sent["Content-Type"] = "application/json"
        if chunked:
            half = len(body) // 2
            self._connection.request(
                method, target, iter([body[:half], body[half:]]), sent, encode_chunked=True
            )
        else:
            self._connection.request(method, target, body, sent)
        answer = self._connection.getresponse()
        whole = answer.read()
        return Answer(answer.status, answer.reason, dict(answer.getheaders()), whole)

    def search(self, index: str, body: Any, **headers: str) -> Answer:
        """Send a search."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", f"/{index}/_search", body, named)

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def in_thread(open_: Callable[[], AbstractAsyncContextManager[_Open]]) -> Iterator[_Open]:
    """Hold an asynchronous context open in a thread with an event loop of its own."""
    loop = asyncio.new_event_loop()
    opened = threading.Event()
    held: list[_Open] = []
    failed: list[BaseException] = []
    done = asyncio.Event()

    async def hold() -> None:
        try:
            async with open_() as value:
                held.append(value)
                opened.set()
                await done.wait()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            opened.set()

    def run() -> None:
        with contextlib.suppress(BaseException):
            loop.run_until_complete(hold())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    opened.wait(30.0)
    if failed:
        raise failed[0]
    try:
        yield held[0]
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)
        thread.join(30.0)


@dataclass
class GatewayUnderTest:
    """A gateway, what it counts and what it recorded."""

    running: RunningGateway
    records: Records = field(default_factory=Records)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.port}"


@contextlib.contextmanager
def gateway(settings: GatewaySettings) -> Iterator[GatewayUnderTest]:
    """A gateway for the length of a `with` block."""
    records = Records()
    with in_thread(lambda: running_gateway(settings, records)) as running:
        yield GatewayUnderTest(running, records)


@contextlib.contextmanager
def rerank_server(reranker: Reranker, *, timeout_s: float = 1.0) -> Iterator[str]:
    """A rerank server for the length of a `with` block; gives its address."""

    @asynccontextmanager
    async def serve() -> AsyncIterator[str]:
        server = tiny_rerank_server(reranker, timedelta(seconds=timeout_s))
        port = await server.start("localhost", 0)
        try:
            yield f"localhost:{port}"
        finally:
            await server.stop(timedelta(seconds=1))

    with in_thread(serve) as address:
        yield address
