"""Bulk writes that slow down when Elasticsearch says so, and stop only when it is no use."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError

from es_plugin_config.cluster import ConfigurationClusterError, failure, refuse
from rerank_server.contract.errors import RerankError

MAX_BYTES = 5_000_000
SMALLEST_BATCH = 10
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
PATIENCE_S = 300.0
_GROWTH = 1.5
# Passing states of a node: busy, short of memory, without a master, behind a restarting proxy.
_PASSING = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class DocumentRefusedError(RerankError):
    """A document that the index's mapping does not take."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a batch came to.

    Attributes:
        created: Documents that were new.
        updated: Documents whose id was there already.
        pauses: How often Elasticsearch asked to wait.
    """

    created: int = 0
    updated: int = 0
    pauses: int = 0

    def __add__(self, other: Written) -> Written:
        """Both together."""
        return Written(
            self.created + other.created,
            self.updated + other.updated,
            self.pauses + other.pauses,
        )


@dataclass(slots=True)
class BulkWriter:
    """Writes documents to one index.

    Attributes:
        client: Of the cluster.
        index: Where they go.
        batch: Documents of one request at most; smaller after it was asked to wait.
        patience_s: How long to wait without any progress before giving up.
        sleep: Waits; tests put a clock of their own here.
    """

    client: Elasticsearch
    index: str
    batch: int
    patience_s: float = PATIENCE_S
    sleep: Callable[[float], None] = time.sleep
    _size: float = 0.0

    def write(self, documents: Sequence[tuple[str, Any]]) -> Written:
        """Write documents, each an id and a body, until every one is in.

        Raises:
            DocumentRefusedError: The mapping does not take one of them.
            ClusterReadOnlyError: The index takes no writes.
            ConfigurationClusterError: The cluster refuses, or made no progress for too long.
        """
        pending = [(name, _encoded(name, body)) for name, body in documents]
        done, pause_s, waited_s = Written(), FIRST_PAUSE_S, 0.0
        self._size = self._size or float(self.batch)
        while pending:
            part = pending[: self._part_length(pending)]
            written, busy, reason = self._send(part)
            done += written
            pending = busy + pending[len(part) :]
            if not busy:
                pause_s, waited_s = FIRST_PAUSE_S, 0.0
                self._size = min(self._size * _GROWTH, float(self.batch))
                continue
            if written.created + written.updated:
                waited_s = 0.0
            if waited_s >= self.patience_s:
                raise ConfigurationClusterError(
                    f"index {self.index}: got {reason} for {waited_s:.0f} s, "
                    f"want {len(pending)} documents taken; the same command resumes"
                )
            self._size = max(self._size / 2, SMALLEST_BATCH)
            self.sleep(pause_s)
            waited_s += pause_s
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            done += Written(pauses=1)
        return done

    def _part_length(self, pending: Sequence[tuple[str, bytes]]) -> int:
        total = 0
        for count, (_, encoded) in enumerate(pending[: int(self._size)]):
            total += len(encoded)
            if total > MAX_BYTES and count:
                return count
        return min(int(self._size), len(pending))

    def _send(
        self, part: Sequence[tuple[str, bytes]]
    ) -> tuple[Written, list[tuple[str, bytes]], str]:
        """One request; what was written, what has to be sent again, and why."""
        headers = {"accept": "application/json", "content-type": "application/x-ndjson"}
        body = b"".join(encoded for _, encoded in part)
        try:
            answer = self.client.perform_request(
                "POST", f"/{self.index}/_bulk", headers=headers, body=body
            ).body
        except ApiError as error:
            kind, reason = failure(error.body)
            too_large = error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            if kind != "cluster_block_exception" and (
                error.status_code in _PASSING or (too_large and len(part) > SMALLEST_BATCH)
            ):
                return Written(), list(part), f"status {error.status_code} ({reason})"
            refuse(f"index {self.index}", error.status_code, error.body)
        except TransportError as error:
            return Written(), list(part), str(error)
        return self._read_items(part, answer)

    def _read_items(
        self,
        part: Sequence[tuple[str, bytes]],
        answer: Any,  # noqa: ANN401 - any JSON value
    ) -> tuple[Written, list[tuple[str, bytes]], str]:
        created = updated = 0
        busy: list[tuple[str, bytes]] = []
        why = ""
        for sent, (item,) in zip(part, map(dict.values, answer["items"]), strict=True):
            if item["status"] in (HTTPStatus.OK, HTTPStatus.CREATED):
                created += item["result"] == "created"
                updated += item["result"] != "created"
                continue
            kind, reason = failure(item["error"])
            if kind == "cluster_block_exception":
                refuse(f"index {self.index}", item["status"], {"error": item["error"]})
            if item["status"] not in _PASSING:
                raise DocumentRefusedError(
                    f"document {sent[0]!r} of index {self.index}: got {kind} ({reason}), "
                    "want one that the mapping takes"
                )
            busy.append(sent)
            why = f"status {item['status']} ({reason})"
        return Written(created, updated), busy, why


def in_batches(documents: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` of what comes, the last one shorter."""
    batch: list[Any] = []
    for document in documents:
        batch.append(document)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoded(name: str, body: Any) -> bytes:  # noqa: ANN401 - any JSON value
    action = json.dumps({"index": {"_id": name}}, ensure_ascii=False)
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)
    return f"{action}\n{text}\n".encode("utf-8", "replace")  # lone surrogates have no UTF-8
