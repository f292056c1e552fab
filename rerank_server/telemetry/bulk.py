"""Documents to Elasticsearch by its bulk API, with the standard library alone.

Every document is created under its own id, so one that was sent before is refused with a
conflict (409) and nothing is stored twice. `require_data_stream` makes a cluster without the
index template refuse the documents, where it would guess a mapping otherwise.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rerank_server.contract.errors import RerankError
from rerank_server.telemetry.document import Document

TIMEOUT_S = 30.0
_GZIP_LEVEL = 1
_HTTP_OK = 200
_HTTP_CREATED = 201
_HTTP_BAD_REQUEST = 400
_HTTP_CONFLICT = 409
_HTTP_TOO_LARGE = 413
# What no later try mends: the document itself is wrong. All else waits: somebody adds a key,
# applies a template, frees a disk.
_FINAL = (_HTTP_BAD_REQUEST, _HTTP_TOO_LARGE)
_SHOWN_CHARS = 200


class BulkError(RerankError):
    """A bulk request that was not carried out.

    Attributes:
        cause: In one word, for metrics.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class BulkTooLargeError(BulkError):
    """A bulk request that is larger than the cluster takes."""


class BulkUnreadableError(BulkError):
    """A bulk request that the cluster refuses as a whole, of one document or of how it is asked."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of the documents of one request.

    Attributes:
        created: How many are new.
        known: How many had been stored before.
        again: Those to send again.
        rejected: How many are refused for good.
        reason: What Elasticsearch said of one that it did not take.
    """

    created: int = 0
    known: int = 0
    again: tuple[Document, ...] = ()
    rejected: int = 0
    reason: str = ""


@dataclass(slots=True)
class BulkSender:
    """Sends documents to one data stream over one connection; of one thread.

    Attributes:
        url: `http://` or `https://`, host, port, and `user:password@` where it wants them.
        stream: The data stream.
        api_key: Elasticsearch's, encoded as it gives it out; none sends none.
        certificates: PEM file of who signs the server's certificate; none asks the system's.
        timeout_s: For each step of a request.
    """

    url: str
    stream: str
    api_key: str | None = field(default=None, repr=False)
    certificates: Path | None = None
    timeout_s: float = TIMEOUT_S
    _connection: http.client.HTTPConnection | None = field(default=None, init=False, repr=False)

    def send(self, documents: Sequence[Document]) -> BulkResult:
        """Send documents, of which there is at least one, and return what became of them.

        Raises:
            BulkTooLargeError: When the cluster takes no request of this size.
            BulkUnreadableError: When it refuses the whole request as wrong.
            BulkError: When it cannot be reached or refuses the request.
        """
        status, answer = self._post(_body(documents))
        if status == _HTTP_TOO_LARGE:
            raise BulkTooLargeError(
                "too_large", f"bulk: got 413 for {len(documents)} documents, want fewer"
            )
        if status != _HTTP_OK:
            kind = BulkUnreadableError if status == _HTTP_BAD_REQUEST else BulkError
            raise kind(f"http_{status}", f"bulk: got HTTP {status}, want 200: {_shown(answer)}")
        try:
            items = json.loads(answer)["items"]
            return _result(documents, items)
        except (ValueError, KeyError, TypeError) as error:
            raise BulkError(
                "answer", f"bulk: got {_shown(answer)}, want an answer of Elasticsearch"
            ) from error

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes) -> tuple[int, bytes]:
        address = urlsplit(self.url)
        path = f"{address.path.rstrip('/')}/{self.stream}/_bulk?require_data_stream=true"
        headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
            **_authorization(self.url, self.api_key),
        }
        try:
            connection = self._connection
            if connection is None:
                connection = _connect(self.url, self.certificates, self.timeout_s)
                self._connection = connection
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BulkError(
                "connection",
                f"{address.hostname}: got {str(error) or type(error).__name__},"
                " want an answer of Elasticsearch",
            ) from error


def _connect(url: str, certificates: Path | None, timeout_s: float) -> http.client.HTTPConnection:
    address = urlsplit(url)
    host = address.hostname or "localhost"
    if address.scheme == "https":
        context = ssl.create_default_context(cafile=certificates)
        return http.client.HTTPSConnection(
            host, address.port or 443, timeout=timeout_s, context=context
        )
    return http.client.HTTPConnection(host, address.port or 80, timeout=timeout_s)


def _authorization(url: str, api_key: str | None) -> dict[str, str]:
    if api_key:
        return {"Authorization": f"ApiKey {api_key}"}
    address = urlsplit(url)
    if address.username is None:
        return {}
    login = f"{unquote(address.username)}:{unquote(address.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _body(documents: Sequence[Document]) -> bytes:
    lines = bytearray()
    for document in documents:
        lines += b'{"create":{"_id":"' + document.document_id.encode() + b'"}}\n'
        lines += document.body + b"\n"
    return gzip.compress(bytes(lines), _GZIP_LEVEL)


def _result(documents: Sequence[Document], items: Sequence[dict[str, Any]]) -> BulkResult:
    created = known = rejected = 0
    again: list[Document] = []
    reason = ""
    for document, item in zip(documents, items, strict=True):
        done = item["create"]
        status = done["status"]
        if status in (_HTTP_OK, _HTTP_CREATED):
            created += 1
        elif status == _HTTP_CONFLICT:
            known += 1
        else:
            reason = f"{status} {json.dumps(done.get('error'))}"[:_SHOWN_CHARS]
            if status in _FINAL:
                rejected += 1
            else:
                again.append(document)
    return BulkResult(created, known, tuple(again), rejected, reason)


def _shown(answer: bytes) -> str:
    return answer[:_SHOWN_CHARS].decode("utf-8", errors="replace")
