"""Takes the records of searches on the event loop and sees to it that they are sent.

A search goes through a bounded queue in memory to the spool on disk (one thread), and from there
to Elasticsearch (another). The event loop does nothing but put it into the queue.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from rerank_server.gateway.record import SearchRecord
from rerank_server.telemetry.bulk import (
    BulkError,
    BulkResult,
    BulkTooLargeError,
    BulkUnreadableError,
)
from rerank_server.telemetry.counts import Backlog, TelemetryCounts
from rerank_server.telemetry.document import Document, DocumentRules, search_document
from rerank_server.telemetry.spool import MAX_RECORD_BYTES, Spool, SpoolError

QUEUE_SEARCHES = 10_000
BATCH_DOCUMENTS = 500
BATCH_BYTES = 4 * 1024 * 1024
_ID_CHARS = 32
_SYNC_EVERY_S = 1.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LOG_EVERY_S = 60.0
_LOG = logging.getLogger(__name__)


class Sender(Protocol):
    """What sends documents."""

    def send(self, documents: Sequence[Document]) -> BulkResult:
        """Send at least one document and return what became of them.

        Raises:
            BulkError: When the request was not carried out.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class TelemetryRecorder:
    """A `SearchRecorder`: takes searches, keeps them on disk, sends them."""

    def __init__(
        self,
        spool: Spool,
        sender: Sender,
        rules: DocumentRules,
        counts: TelemetryCounts,
        *,
        queue_searches: int = QUEUE_SEARCHES,
    ) -> None:
        """Start both threads; what the spool still holds is sent first."""
        self._spool = spool
        self._sender = sender
        self._rules = rules
        self._counts = counts
        self._limit = queue_searches
        self._queue: queue.SimpleQueue[SearchRecord | None] = queue.SimpleQueue()
        self._closing = threading.Event()  # no more searches come
        self._stopped = threading.Event()  # all of them are in the spool
        self._abandoned = threading.Event()  # the spool is closed
        self._filled = threading.Event()
        self._oldest_ms = 0
        self._pending: list[Document] = []  # of the batch that is sent
        self._pending_end = spool.cursor
        self._takes = False  # whether the cluster ever took a document of ours
        self._refused = 0  # documents that it refused one by one meanwhile
        self._part = BATCH_DOCUMENTS
        self._next_log = 0.0
        counts.backlog = self._backlog
        self._threads = [
            threading.Thread(target=work, name=f"telemetry-{name}", daemon=True)
            for name, work in (("spool", self._spool_searches), ("send", self._send_documents))
        ]
        for thread in self._threads:
            thread.start()

    def record(self, search: SearchRecord) -> None:
        """Take one search and return at once; when the queue is full it is lost and counted."""
        self._counts.count_taken()
        if self._queue.qsize() >= self._limit:
            self._counts.count_lost("queue_full")
            return
        self._queue.put(search)

    def close(self, grace_s: float = 2.0) -> None:
        """Write down what is queued, send for `grace_s` at most, and stop.

        What is not sent by then stays in the spool for the next start.
        """
        spooling, sending = self._threads
        self._closing.set()
        self._queue.put(None)
        spooling.join()
        self._stopped.set()
        self._filled.set()
        sending.join(grace_s)
        self._abandoned.set()
        try:
            self._spool.close()
        except (SpoolError, OSError) as error:
            _LOG.warning("telemetry: %s", error)

    def _backlog(self) -> Backlog:
        return Backlog(self._queue.qsize(), self._spool.size_bytes, self._oldest_ms)

    def _spool_searches(self) -> None:
        going_on = True
        synced = time.monotonic()
        while going_on:
            searches, going_on = self._take()
            try:
                self._keep(self._documents(searches))
            except Exception:  # noqa: BLE001 - a thread that ends loses all that follows, unseen
                self._counts.count_lost("failed", len(searches))
                _LOG.exception("telemetry: %d searches could not be kept", len(searches))
            now = time.monotonic()
            if now - synced >= _SYNC_EVERY_S:
                synced = now
                try:
                    self._spool.sync()
                except SpoolError as error:
                    self._warn(error)

    def _take(self) -> tuple[list[SearchRecord], bool]:
        """Wait for searches; the second value is False once there will be no more."""
        searches: list[SearchRecord] = []
        try:
            search = self._queue.get(timeout=_SYNC_EVERY_S)
            while search is not None:
                searches.append(search)
                if len(searches) == BATCH_DOCUMENTS:
                    return searches, True
                search = self._queue.get_nowait()
        except queue.Empty:
            return searches, True
        return searches, False

    def _documents(self, searches: Sequence[SearchRecord]) -> list[bytes]:
        records = []
        for search in searches:
            try:
                document = search_document(search, self._rules)
            except (ValueError, TypeError, AttributeError) as error:
                self._counts.count_lost("unwritable")
                self._warn(error)
                continue
            if len(document.body) + _ID_CHARS > MAX_RECORD_BYTES:
                self._counts.count_lost("too_large")
                continue
            records.append(document.document_id.encode() + document.body)
        return records

    def _keep(self, records: Sequence[bytes]) -> None:
        """Write records to the spool; while the disk refuses, wait and let the queue fill."""
        while records:
            try:
                taken = self._spool.append(records)
            except SpoolError as error:
                self._warn(error)
                if self._closing.wait(_SYNC_EVERY_S):
                    self._counts.count_lost("disk", len(records))
                    return
                continue
            self._filled.set()
            if taken < len(records):
                self._counts.count_lost("spool_full", len(records) - taken)
            return

    def _send_documents(self) -> None:
        pause_s = 0.0
        while not self._stopped.wait(pause_s):
            pause_s = self._send_all(pause_s)
        self._send_all(pause_s)
        self._sender.close()

    def _send_all(self, pause_s: float) -> float:
        """Send until nothing is left or something fails; return how long to pause after it."""
        try:
            while self._send_batch():
                pause_s = 0.0
        except (BulkError, SpoolError) as error:
            self._counts.count_failed(error.cause if isinstance(error, BulkError) else "disk")
            self._warn(error)
            return _longer(pause_s)
        except Exception:  # noqa: BLE001 - the documents stay in the spool, the thread goes on
            self._counts.count_failed("failed")
            _LOG.exception("telemetry: a batch could not be sent")
            return _longer(pause_s)
        self._filled.wait(_SYNC_EVERY_S)
        self._filled.clear()
        return 0.0

    def _send_batch(self) -> bool:
        """Send the oldest batch and commit it; False when there is none, or no more time.

        Raises:
            BulkError: When documents are left; they are sent first the next time.
            SpoolError: When the disk refuses.
        """
        if self._abandoned.is_set():
            return False
        if not self._pending:
            batch = self._spool.read(BATCH_DOCUMENTS, BATCH_BYTES)
            self._oldest_ms = batch.oldest_ms
            self._pending_end = batch.end
            self._pending = [
                Document(record[:_ID_CHARS].decode(), record[_ID_CHARS:])
                for record in batch.records
            ]
            if batch.corrupt:
                self._counts.count_lost("corrupt", batch.corrupt)
            elif not batch.records:
                self._spool.commit(batch.end)
                return False
        while self._pending:
            self._send_part()
        if self._abandoned.is_set():
            return False
        self._part = BATCH_DOCUMENTS
        self._spool.commit(self._pending_end)
        return True

    def _send_part(self) -> None:
        """Send the first of the pending documents, fewer at a time where that is too much.

        Raises:
            BulkError: When the request was not carried out, or not for all of them.
        """
        part, rest = self._pending[: self._part], self._pending[self._part :]
        try:
            result = self._sender.send(part)
        except BulkTooLargeError:
            if len(part) == 1:
                self._counts.count_lost("too_large")
                self._pending = rest
            self._part = max(len(part) // 2, 1)
            return
        except BulkUnreadableError as error:
            self._put_apart(part, rest, error)
            return
        self._takes = True
        self._pending = [*result.again, *rest]
        self._counts.count_sent("created", result.created)
        self._counts.count_sent("known", result.known)
        if result.rejected:
            self._counts.count_lost("rejected", result.rejected)
            self._warn(f"bulk: got {result.reason}, want a document that fits the mapping")
        if result.again:
            raise BulkError("refused", f"bulk: got {result.reason}, want the document stored")

    def _put_apart(
        self, part: Sequence[Document], rest: Sequence[Document], error: BulkUnreadableError
    ) -> None:
        """Find the document for which a request is refused as a whole, and give it up.

        As long as none was taken it may as well be how we ask: then all are kept.

        Raises:
            BulkError: `error`, when no document is left to try.
        """
        if len(part) > 1:
            self._part = len(part) // 2
        elif self._takes:
            self._counts.count_lost("rejected")
            self._warn(error)
            self._pending = list(rest)
        else:
            self._pending = [*rest, *part]
            self._refused += 1
            if self._refused >= len(self._pending):
                self._refused = 0
                raise error

    def _warn(self, error: object) -> None:
        """Log a failure, once a minute at most: each is counted as well."""
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_S
            _LOG.warning("telemetry: %s", error)


def _longer(pause_s: float) -> float:
    """Return the next pause: twice the last within bounds, and up to half of it by chance."""
    longer = min(max(pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
    return longer * random.uniform(0.75, 1.0)
