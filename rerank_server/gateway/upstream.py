"""Elasticsearch as the gateway's other side: nodes, connections, headers passed on unchanged."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from rerank_server.gateway.errors import GatewaySettingsError, UpstreamError

# Of one connection, not of the message (RFC 9110, section 7.6.1).
HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade"),
    )
)
_NOT_SENT = HOP_BY_HOP | {b"host", b"expect"}
_KEEP_ALIVE_S = 15.0
_DOWN_S = 2.0
_IN_PIECES = 256 * 1024
# aiohttp would add these where the caller sent none.
_NOT_ADDED = ("user-agent", "accept", "accept-encoding", "content-type")

Body = bytes | AsyncIterable[bytes] | None


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """How Elasticsearch is reached.

    Attributes:
        nodes: Addresses, `http://host:9200`; a node that cannot be reached is passed over.
        authority: PEM file of who signed their certificates; None asks the system's.
        connect_timeout_ms: Longest time to connect.
    """

    nodes: Sequence[str]
    authority: Path | None = None
    connect_timeout_ms: int = 1_000


class Upstream:
    """Sends requests to the nodes in turn; open it inside the event loop."""

    def __init__(self, settings: UpstreamSettings) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            GatewaySettingsError: When an address or the authority's file cannot be used.
        """
        self._nodes = [_node(address) for address in settings.nodes]
        self._down_until = [0.0] * len(self._nodes)
        self._next = 0
        tls: ssl.SSLContext | bool = True
        if settings.authority is not None:
            try:
                tls = ssl.create_default_context(cafile=str(settings.authority))
            except (OSError, ValueError) as error:
                raise GatewaySettingsError(
                    f"elasticsearch_ca: got {error} for {settings.authority}, want a PEM file"
                ) from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, ssl=tls),
            auto_decompress=False,
            skip_auto_headers=_NOT_ADDED,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout_ms / 1_000
            ),
            read_bufsize=256 * 1024,
            max_line_size=16 * 1024,
            max_field_size=64 * 1024,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    @asynccontextmanager
    async def send(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: Body,
        *,
        again: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give its answer, whose body is still to be read.

        Args:
            method: HTTP method.
            target: Raw path and query string.
            headers: As they are to be sent.
            body: Its body.
            again: Whether it may be sent twice when a connection breaks off: it only reads, and
                the body is bytes.

        Raises:
            UpstreamError: When no node answered.
        """
        answer = await self._answer(method, target, headers, body, again=again)
        try:
            yield answer
        finally:
            # an answer that was not read to its end closes its connection, which cancels a search
            answer.release() if answer.content.at_eof() else answer.close()

    async def _answer(
        self, method: str, target: str, headers: CIMultiDict[str], body: Body, *, again: bool
    ) -> aiohttp.ClientResponse:
        problem = "no node"
        broken = 0
        for number in self._turn():
            url = URL(f"{self._nodes[number]}{target}", encoded=True)
            while True:
                try:
                    return await self._session.request(
                        method, url, headers=headers, data=_payload(body), allow_redirects=False
                    )
                except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
                    self._down_until[number] = monotonic() + _DOWN_S
                    problem = _reason(error)
                except (aiohttp.ClientError, OSError) as error:
                    broken += 1
                    problem = _reason(error)
                    if not again:
                        raise UpstreamError(502, f"Elasticsearch: got {problem}") from error
                    if broken == 1:
                        continue
                break
        raise UpstreamError(502, f"Elasticsearch: got {problem}, want an answer")

    def _turn(self) -> Iterable[int]:
        """Return the nodes in the order to try: the next in turn first, those down last."""
        count = len(self._nodes)
        first, self._next = self._next, (self._next + 1) % count
        numbers = [(first + step) % count for step in range(count)]
        now = monotonic()
        return sorted(numbers, key=lambda number: self._down_until[number] > now)


def headers_to_send(
    raw: Iterable[tuple[bytes, bytes]], left_out: frozenset[bytes]
) -> CIMultiDict[str]:
    """Return a request's headers for Elasticsearch: as they came, without those of a connection."""
    names = _listed(raw)
    return CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in raw
        if name.lower() not in _NOT_SENT
        and name.lower() not in left_out
        and name.lower() not in names
    )


def headers_to_return(
    raw: Iterable[tuple[bytes, bytes]], left_out: frozenset[bytes] = frozenset()
) -> CIMultiDict[str]:
    """Return an answer's headers for the caller, likewise."""
    names = _listed(raw)
    return CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in raw
        if name.lower() not in HOP_BY_HOP
        and name.lower() not in left_out
        and name.lower() not in names
    )


def _payload(body: Body) -> bytes | io.BytesIO | AsyncIterable[bytes] | None:
    """Return a body as it is best written: a large one in pieces."""
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > _IN_PIECES else body


def _listed(raw: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return the headers that `Connection` names as its own."""
    names: list[bytes] = []
    for name, value in raw:
        if name.lower() == b"connection":
            names += (part.strip().lower() for part in value.split(b","))
    return frozenset(names)


def _node(address: str) -> str:
    try:
        url = URL(address)
    except ValueError:
        url = URL()
    wrong = url.scheme not in {"http", "https"} or not url.host or url.query_string
    if wrong or url.user is not None:
        raise GatewaySettingsError(f"elasticsearch: got {url.host!r}, want http(s)://host:port")
    return str(url).rstrip("/")


def _reason(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no connection in time"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "a closed connection"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or type(error.os_error).__name__
    return type(error).__name__
