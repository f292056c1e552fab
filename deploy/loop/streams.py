"""The streams of searches and events, in files of JSON lines or in Elasticsearch.

Documents are named by the hash of their body in both, so that writing twice stores once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from elasticsearch import ApiError, Elasticsearch, TransportError

from deploy.loop.errors import StreamError
from es_plugin_config.cluster import Login, connect
from rerank_server.telemetry.bulk import BulkError, BulkSender
from rerank_server.telemetry.document import Document

_BATCH = 1_000
_TRIES = 5
_KEEP_ALIVE = "2m"

Json = dict[str, Any]


class Streams(Protocol):
    """Where documents are written and read, stream by stream."""

    def append(self, stream: str, documents: Sequence[Document]) -> None:
        """Store documents; those that are there already stay as they are."""
        ...

    def read(self, stream: str, start: datetime, end: datetime) -> Iterator[Json]:
        """Yield the documents of `start` <= @timestamp < `end`, oldest first."""
        ...

    def first(self, stream: str) -> datetime | None:
        """Return the time of the oldest document; None of an empty or absent stream."""
        ...


@contextmanager
def open_streams(login: Login) -> Iterator[Streams]:
    """Open what `login.url` names: a cluster by http:// or https://, else a folder.

    Raises:
        ConfigurationClusterError: The address is none, or a file cannot be read.
    """
    if not login.url.startswith(("http://", "https://")):
        yield JsonLineStreams(Path(login.url))
        return
    with connect(login) as client:
        yield ElasticsearchStreams(client, login)


class JsonLineStreams:
    """One file of JSON lines a stream and day, `<stream>/2018-01-02.jsonl`, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, stream: str, documents: Sequence[Document]) -> None:
        """Store documents; those that are there already stay as they are."""
        by_day: dict[str, list[bytes]] = {}
        for document in documents:
            day = json.loads(document.body)["@timestamp"][:10]
            by_day.setdefault(day, []).append(document.body)
        for day, bodies in by_day.items():
            path = self._folder / stream / f"{day}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_bytes() if path.exists() else b""
            known = set(before.splitlines())
            added = b"".join(body + b"\n" for body in bodies if body not in known)
            whole = path.with_suffix(".unfinished")
            whole.write_bytes(before + added)
            whole.replace(path)  # a kill leaves the file of before

    def read(self, stream: str, start: datetime, end: datetime) -> Iterator[Json]:
        """Yield the documents of `start` <= @timestamp < `end`, oldest first.

        Raises:
            StreamError: When a line is no JSON object with an `@timestamp`.
        """
        for path in self._files(stream):
            if not start.date().isoformat() <= path.stem <= end.date().isoformat():
                continue
            rows = [row for row in _lines(path) if start <= parse_time(row["@timestamp"]) < end]
            yield from sorted(rows, key=lambda row: str(row["@timestamp"]))

    def first(self, stream: str) -> datetime | None:
        """Return the time of the oldest document; None of an empty or absent stream."""
        for path in self._files(stream):
            times = [parse_time(row["@timestamp"]) for row in _lines(path)]
            if times:
                return min(times)
        return None

    def _files(self, stream: str) -> list[Path]:
        return sorted((self._folder / stream).glob("*.jsonl"))


class ElasticsearchStreams:
    """Data streams of a cluster that `crossrank es apply` has prepared."""

    def __init__(self, client: Elasticsearch, login: Login) -> None:
        """Prepare to read with a client and to write by the bulk API of the same cluster."""
        self._client = client
        self._login = login

    def append(self, stream: str, documents: Sequence[Document]) -> None:
        """Store documents; those that are there already stay as they are.

        Raises:
            StreamError: When the cluster cannot be reached or refuses some for good.
        """
        login = self._login
        key = None
        if login.api_key_file is not None:
            key = login.api_key_file.read_text(encoding="utf-8").strip()
        sender = BulkSender(login.url, stream, key, login.ca_file)
        try:
            for start in range(0, len(documents), _BATCH):
                waiting: Sequence[Document] = documents[start : start + _BATCH]
                reason = ""
                for _ in range(_TRIES):
                    result = sender.send(waiting)
                    if result.rejected:
                        raise StreamError(f"{stream}: got {result.reason}, want it stored")
                    waiting, reason = result.again, result.reason
                    if not waiting:
                        break
                else:
                    raise StreamError(
                        f"{stream}: got {len(waiting)} documents refused {_TRIES} times"
                        f" ({reason}), want them stored"
                    )
        except BulkError as error:
            raise StreamError(f"{stream}: {error}") from error
        finally:
            sender.close()

    def read(self, stream: str, start: datetime, end: datetime) -> Iterator[Json]:
        """Yield the documents of `start` <= @timestamp < `end`, oldest first.

        All of one point in time are read, whatever is written meanwhile.

        Raises:
            StreamError: When the cluster cannot be reached or refuses.
        """
        try:
            if not self._client.indices.exists(index=stream):
                return
            self._client.indices.refresh(index=stream)
            pit = self._client.open_point_in_time(index=stream, keep_alive=_KEEP_ALIVE)["id"]
            after: list[Any] | None = None
            try:
                while True:
                    answer = self._client.search(
                        pit={"id": pit, "keep_alive": _KEEP_ALIVE},
                        query={"range": {"@timestamp": {"gte": _text(start), "lt": _text(end)}}},
                        sort=[{"@timestamp": "asc"}],
                        search_after=after,
                        size=_BATCH,
                        track_total_hits=False,
                    )
                    hits = answer["hits"]["hits"]
                    yield from (hit["_source"] for hit in hits)
                    if len(hits) < _BATCH:
                        return
                    after = hits[-1]["sort"]
            finally:
                self._client.close_point_in_time(id=pit)
        except (ApiError, TransportError) as error:
            raise StreamError(f"{stream}: got {error}, want its documents") from error

    def first(self, stream: str) -> datetime | None:
        """Return the time of the oldest document; None of an empty or absent stream."""
        try:
            if not self._client.indices.exists(index=stream):
                return None
            self._client.indices.refresh(index=stream)
            answer = self._client.search(index=stream, sort=[{"@timestamp": "asc"}], size=1)
        except (ApiError, TransportError) as error:
            raise StreamError(f"{stream}: got {error}, want its documents") from error
        hits = answer["hits"]["hits"]
        return parse_time(hits[0]["_source"]["@timestamp"]) if hits else None


def parse_time(text: str) -> datetime:
    """Return an ISO 8601 time as UTC.

    Raises:
        StreamError: When it is none.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError) as error:
        raise StreamError(f"@timestamp: got {text!r}, want an ISO 8601 time") from error


def _lines(path: Path) -> Iterator[Json]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise StreamError(f"{path}:{number}: got {error}, want JSON") from error
            if not isinstance(row, dict) or "@timestamp" not in row:
                raise StreamError(f"{path}:{number}: got no @timestamp, want one")
            yield row


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
