"""HTTP as the gateway reads and writes it: bodies, compression, answers passed on as they come."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict

from rerank_server.gateway.errors import BodyError
from rerank_server.gateway.upstream import headers_to_return

STATUS_HEADER = "X-Rerank-Status"
_READ_WHOLE = 64 * 1024
_WORTH_COMPRESSING = 1_024
_COMPRESS_LEVEL = 1
_CHANGED = frozenset((b"content-length", b"content-encoding"))


@dataclass(frozen=True, slots=True)
class ReadBody:
    """A request's body, read as far as the limit.

    Attributes:
        begun: What was read.
        rest: What follows; None when all was read.
    """

    begun: bytes
    rest: aiohttp.StreamReader | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield all of it."""
        yield self.begun
        if self.rest is not None:
            async for chunk in self.rest.iter_any():
                yield chunk


async def read_body(request: web.BaseRequest, limit: int) -> ReadBody:
    """Read a body of at most `limit` bytes, or its beginning."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            return ReadBody(b"".join(parts), request.content)
    return ReadBody(b"".join(parts))


def plain_body(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its compression.

    Raises:
        BodyError: When it is broken, larger than `limit`, or compressed in another way than
            gzip or deflate.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate"}:
        raise BodyError(f"content-encoding: got {encoding!r}, want gzip or deflate")
    inflater = zlib.decompressobj(32 + zlib.MAX_WBITS)  # 32: gzip or zlib, as the data says
    try:
        plain = inflater.decompress(body, limit)
    except zlib.error as error:
        raise BodyError(f"body: got {error}, want {encoding}") from error
    if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
        raise BodyError(f"body: got more than {limit} bytes or half of it, want {encoding}")
    return plain


async def pass_on(
    request: web.BaseRequest,
    answer: aiohttp.ClientResponse,
    status: str = "",
) -> web.StreamResponse:
    """Send an answer of Elasticsearch as it comes; `status` says why a search was left alone."""
    headers = headers_to_return(answer.raw_headers)
    if status:
        headers[STATUS_HEADER] = status
    length = answer.content_length
    if request.method != "HEAD" and length is not None and length <= _READ_WHOLE:
        whole = web.Response(
            status=answer.status,
            reason=answer.reason,
            headers=headers,
            body=await answer.content.read(),
        )
        await whole.prepare(request)
        await whole.write_eof()
        return whole
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except aiohttp.ClientError:
        # the caller must see that the answer is not whole
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


def rewritten(
    request: web.BaseRequest, raw_headers: CIMultiDict[str], body: bytes, status: str
) -> web.Response:
    """Return an answer whose body the gateway wrote, compressed if the caller takes that."""
    headers = CIMultiDict(raw_headers)
    if status:
        headers[STATUS_HEADER] = status
    if takes_gzip(request.headers) and len(body) >= _WORTH_COMPRESSING:
        body = gzip.compress(body, _COMPRESS_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return web.Response(headers=headers, body=body)


def kept_headers(answer: aiohttp.ClientResponse) -> CIMultiDict[str]:
    """Return the headers of an answer whose body will be another."""
    return headers_to_return(answer.raw_headers, _CHANGED)


def takes_gzip(headers: Mapping[str, str]) -> bool:
    """Return whether the caller reads gzip."""
    for part in headers.get("Accept-Encoding", "").split(","):
        name, _, weight = part.partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def takes_json(headers: Mapping[str, str]) -> bool:
    """Return whether the caller reads JSON."""
    accept = headers.get("Accept", "*/*").lower()
    return "json" in accept or "*/*" in accept or "application/*" in accept


def sends_json(headers: Mapping[str, str]) -> bool:
    """Return whether the body says that it is JSON, or says nothing."""
    return "json" in headers.get("Content-Type", "json").lower()


def error_answer(status: int, kind: str, reason: str) -> web.Response:
    """Return an error in Elasticsearch's form, so that its clients read it."""
    cause = {"type": kind, "reason": reason}
    body = {"error": {"root_cause": [cause], **cause}, "status": status}
    return web.Response(
        status=status,
        reason=HTTPStatus(status).phrase,
        headers={"Content-Type": "application/json", "X-elastic-product": "Elasticsearch"},
        body=msgspec.json.encode(body),
    )
