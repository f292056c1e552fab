"""Records in files, between a thread that appends them and one that sends them.

A folder of numbered segments, each a magic word and then records: length, CRC-32 and time of
writing, then the bytes. Nothing written is ever changed, so a process killed in the middle of a
write leaves a torn record at the end of its segment and nothing else; each start opens a new
segment. The cursor says up to where everything was sent. When it is lost, records are sent again,
which their ids make harmless.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rerank_server.contract.errors import RerankError

MAGIC = b"CRSPOOL1"
SEGMENT_BYTES = 4 * 1024 * 1024
MAX_RECORD_BYTES = 1024 * 1024
_HEADER = struct.Struct("<IIQ")
_LOG = logging.getLogger(__name__)


class SpoolError(RerankError):
    """A spool that cannot be opened, written or read."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the spool: the segment's number and the bytes before it in there."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that were read together.

    Attributes:
        records: Their bytes, oldest first.
        end: Where the next batch begins; commit it when all of them were sent.
        corrupt: Records before `end` that are lost because their bytes changed on the disk.
        oldest_ms: Unix milliseconds when the first was written; 0 without one.
    """

    records: tuple[bytes, ...]
    end: Position
    corrupt: int
    oldest_ms: int


class Spool:
    """A bounded queue on disk; one thread appends, one reads and commits."""

    def __init__(self, folder: Path, max_bytes: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open the spool in `folder`, which is made if need be and belongs to one process.

        Raises:
            SpoolError: When the folder cannot be used or another process has it.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._written: int | None = None  # descriptor of the segment that is written
        self._writing = -1  # its number
        self._unsynced = False
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._owner = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._owner)
                raise SpoolError(
                    f"{folder}: got a spool that another process uses, want one of its own"
                ) from error
            self._sizes = {int(path.stem): path.stat().st_size for path in folder.glob("*.segment")}
        except OSError as error:
            raise SpoolError(
                f"{folder}: got {error.strerror or error}, want a folder to write to"
            ) from error
        self._cursor = self._read_cursor()
        self._next = max([*self._sizes, self._cursor.segment]) + 1
        self._remove_sent()

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def cursor(self) -> Position:
        """Up to where everything was sent."""
        return self._cursor

    def append(self, records: Sequence[bytes]) -> int:
        """Write records and return how many, from the first on, found room.

        Raises:
            SpoolError: When the disk refuses; then none of them is written.
        """
        with self._lock:
            room = self._max_bytes - sum(self._sizes.values())
        now_ms = time.time_ns() // 1_000_000
        framed = bytearray()
        taken = 0
        for record in records:
            if len(framed) + len(record) + _HEADER.size > room:
                break
            framed += _HEADER.pack(len(record), zlib.crc32(record), now_ms)
            framed += record
            taken += 1
        if taken:
            self._write(bytes(framed))
        return taken

    def sync(self) -> None:
        """Flush to disk what was appended, against a loss of power.

        Raises:
            SpoolError: When the disk refuses.
        """
        if self._written is None or not self._unsynced:
            return
        try:
            os.fdatasync(self._written)
        except OSError as error:
            raise SpoolError(f"{self._folder}: got {error.strerror}, want to flush it") from error
        self._unsynced = False

    def read(self, max_records: int, max_bytes: int) -> Batch:
        """Return the oldest records that were not committed; at least one where there is any.

        Raises:
            SpoolError: When a segment cannot be read.
        """
        with self._lock:
            sizes = dict(sorted(self._sizes.items()))
        position = self._cursor
        for number, size in sizes.items():
            if number < position.segment:
                continue
            start = position.offset if number == position.segment else len(MAGIC)
            if size <= start:  # nothing new, or a process was killed as it began the segment
                position = Position(number, start)
                continue
            try:
                with self._path(number).open("rb") as segment:
                    magic = segment.read(len(MAGIC))
                    segment.seek(start)
                    content = segment.read(min(size - start, max_bytes + MAX_RECORD_BYTES))
            except OSError as error:
                raise SpoolError(f"{self._path(number)}: got {error.strerror}") from error
            if magic not in (MAGIC, b""):
                return Batch((), Position(number, size), 1, 0)
            cut = _cut(content, max_records, max_bytes)
            position = Position(number, start + cut.used)
            if cut.records or cut.corrupt:
                return Batch(tuple(cut.records), position, cut.corrupt, cut.oldest_ms)
        return Batch((), position, 0, 0)

    def commit(self, end: Position) -> None:
        """Note that everything before `end` was sent, and remove the segments before it.

        Raises:
            SpoolError: When the cursor cannot be written; it will be sent again after a restart.
        """
        if end == self._cursor:
            return
        self._cursor = end
        self._remove_sent()
        try:
            new = self._folder / "cursor.new"
            new.write_text(json.dumps({"segment": end.segment, "offset": end.offset}))
            new.replace(self._folder / "cursor.json")
        except OSError as error:
            raise SpoolError(f"{self._folder}: got {error.strerror}, want a cursor") from error

    def close(self) -> None:
        """Flush and let another process have the folder."""
        try:
            self.sync()
        finally:
            if self._written is not None:
                os.close(self._written)
                self._written = None
            os.close(self._owner)

    def _write(self, framed: bytes) -> None:
        try:
            written = self._written
            if written is None or self._sizes[self._writing] >= self._segment_bytes:
                written = self._open_segment()
            start = self._sizes[self._writing]
            _write_whole(written, framed, start)
        except OSError as error:
            raise SpoolError(
                f"{self._folder}: got {error.strerror or error}, want to write to it"
            ) from error
        self._unsynced = True
        with self._lock:
            self._sizes[self._writing] = start + len(framed)

    def _open_segment(self) -> int:
        """Make the next segment the one that is written, and return its descriptor."""
        number = self._next
        opened = os.open(
            self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        self._next += 1
        try:
            _write_whole(opened, MAGIC, 0)
            _sync_folder(self._folder)
            self.sync()
        except (OSError, SpoolError):
            os.close(opened)
            self._path(number).unlink(missing_ok=True)
            raise
        if self._written is not None:
            os.close(self._written)
        self._written = opened
        # its number before its size: the other thread removes a segment that it has read to the
        # end, unless this one writes it
        self._writing = number
        with self._lock:
            self._sizes[number] = len(MAGIC)
        return opened

    def _remove_sent(self) -> None:
        last = self._cursor
        for number in sorted(self._sizes):
            sent = number < last.segment or (
                number == last.segment and last.offset >= self._sizes[number]
            )
            if not sent or number == self._writing:
                continue
            self._path(number).unlink(missing_ok=True)
            with self._lock:
                del self._sizes[number]

    def _read_cursor(self) -> Position:
        first = Position(min(self._sizes, default=0), len(MAGIC))
        try:
            cursor = json.loads((self._folder / "cursor.json").read_bytes())
            return max(first, Position(int(cursor["segment"]), int(cursor["offset"])))
        except FileNotFoundError:
            return first
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("the spool's cursor cannot be read, all of it is sent again: %s", error)
            return first

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.segment"


@dataclass(slots=True)
class _Cut:
    records: list[bytes]
    used: int
    corrupt: int
    oldest_ms: int


def _cut(content: bytes, max_records: int, max_bytes: int) -> _Cut:
    """Cut content into records: a changed one is skipped, an impossible length ends all."""
    cut = _Cut([], 0, 0, 0)
    held = 0
    while len(cut.records) < max_records and cut.used + _HEADER.size <= len(content):
        length, checksum, written_ms = _HEADER.unpack_from(content, cut.used)
        if written_ms == 0:  # no record: zeros that a loss of power left where one was written
            cut.corrupt += 1
            cut.used = len(content)
            break
        begin = cut.used + _HEADER.size
        record = content[begin : begin + length]
        if len(record) < length:
            if length > MAX_RECORD_BYTES:  # no record: what follows cannot be told apart
                cut.corrupt += 1
                cut.used = len(content)
            break
        if cut.records and held + length > max_bytes:
            break
        cut.used = begin + length
        if zlib.crc32(record) != checksum:
            cut.corrupt += 1
            continue
        cut.oldest_ms = cut.oldest_ms or written_ms
        cut.records.append(record)
        held += length
    return cut


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of `content` at `offset`, or cut the file back to it and raise."""
    done = 0
    try:
        while done < len(content):
            done += os.pwrite(descriptor, content[done:], offset + done)
    except OSError:
        os.ftruncate(descriptor, offset)
        raise
