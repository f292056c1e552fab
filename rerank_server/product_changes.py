"""The log of changed products: durable once appended, in an SQLite file in WAL mode.

It holds the newest change of each product, numbered in the order in which they came, and is never
emptied: a store of another bundle takes its changes from here. It has a name of its own, which
stores that hold some of its changes note. SQLite was chosen over LMDB: it comes with Python,
several processes may write, and its durable commits were faster here
(`tests/benchmarks/results/product-store.json`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rerank_server.contract.errors import RerankError

LOG_FILE = "changes.sqlite"
_FORMAT_VERSION = 2
_BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
CREATE TABLE changes (
    product_id BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL UNIQUE,
    record TEXT,
    deleted INTEGER NOT NULL
) WITHOUT ROWID
"""
# Format 1 said only whether a product was deleted before its newest change.
_FROM_FORMAT_1 = (
    "ALTER TABLE changes RENAME COLUMN fresh TO deleted",
    """
    UPDATE changes SET deleted = CASE
        WHEN record IS NULL THEN sequence WHEN deleted THEN sequence - 1 ELSE 0
    END
    """,
)
_APPEND = """
INSERT INTO changes (product_id, sequence, record, deleted)
VALUES (?1, ?2, ?3, CASE WHEN ?3 IS NULL THEN ?2 ELSE 0 END)
ON CONFLICT (product_id) DO UPDATE SET
    deleted = CASE WHEN excluded.record IS NULL THEN excluded.sequence ELSE changes.deleted END,
    sequence = excluded.sequence,
    record = excluded.record
"""


class NoChangesError(RerankError):
    """A change of products where none are taken."""


class ChangeLogError(RerankError):
    """A log of changes that cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one product.

    Attributes:
        product_id: Its id.
        record: The product as JSON, as in a line of a catalogue; None when it was deleted.
        sequence: Its number in the log, from 1; 0 before it is appended.
        deleted: Number of its newest deletion, 0 when there was none; what a store that does not
            hold that one has of the product besides is void.
    """

    product_id: str
    record: str | None
    sequence: int = 0
    deleted: int = 0


class ChangeReader(Protocol):
    """Reads changes; arguments as in `ChangeLog.read`."""

    def __call__(self, after: int, limit: int, through: int | None = None) -> list[Change]:
        """Return changes in order."""
        ...


class ChangeLog:
    """The log in a folder; may be shared by threads, and opened by several processes.

    Attributes:
        path: Its file.
        name: Tells it from every other log, 32 hexadecimal digits.
    """

    def __init__(self, folder: Path) -> None:
        """Open the log, or begin one.

        Raises:
            ChangeLogError: When it is cut, changed, of another format, or cannot be opened.
        """
        self.path = Path(folder) / LOG_FILE
        self._lock = threading.Lock()
        with _named(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self.path, _BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _named(self.path):
                self.name = self._open()
        except ChangeLogError:
            self._database.close()
            raise

    def append(self, changes: Sequence[Change]) -> int:
        """Append changes together; they are on disk when this returns.

        Args:
            changes: At least one, each of another product.

        Returns:
            The number of the last of them.

        Raises:
            ChangeLogError: When the disk refuses, being full for example; none is appended then.
        """
        with self._lock, _named(self.path), self._transaction():
            last = self._last()
            self._database.executemany(
                _APPEND,
                [
                    (_key(change.product_id), number, change.record)
                    for number, change in enumerate(changes, start=last + 1)
                ],
            )
            return last + len(changes)

    def read(self, after: int, limit: int, *, through: int | None = None) -> list[Change]:
        """Return up to `limit` changes with numbers above `after`, and up to `through`, in order.

        Raises:
            ChangeLogError: When it cannot be read.
        """
        with self._lock, _named(self.path):
            return _read(self._database, after, limit, through)

    @contextmanager
    def snapshot(self) -> Iterator[ChangeReader]:
        """Yield the log as it is now, whatever is appended meanwhile.

        Raises:
            ChangeLogError: When it cannot be read.
        """
        with _named(self.path):
            database = sqlite3.connect(self.path, _BUSY_TIMEOUT_S, isolation_level=None)

        def read(after: int, limit: int, through: int | None = None) -> list[Change]:
            with _named(self.path):
                return _read(database, after, limit, through)

        with closing(database):
            with _named(self.path):
                database.execute("BEGIN")
            read(0, 1)  # what is read first fixes what is seen
            yield read

    def last(self) -> int:
        """Return the number of the newest change; 0 when there is none.

        Raises:
            ChangeLogError: When it cannot be read.
        """
        with self._lock, _named(self.path):
            return self._last()

    def count(self, after: int) -> int:
        """Return how many products have a change with a number above `after`.

        Raises:
            ChangeLogError: When it cannot be read.
        """
        with self._lock, _named(self.path):
            row = self._database.execute(
                "SELECT count(*) FROM changes WHERE sequence > ?", (after,)
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _open(self) -> str:
        """Check the file, bring it to the present format, and return the log's name."""
        check = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if check != "ok":
            raise ChangeLogError(f"{self.path}: got {check}, want a whole log of changes")
        if self._version() not in range(_FORMAT_VERSION + 1):
            raise ChangeLogError(
                f"{self.path}: got format version {self._version()}, want {_FORMAT_VERSION}"
            )
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")  # each commit waits for the disk
        if self._version() != _FORMAT_VERSION:
            with self._transaction():
                self._format()
        name: str = self._database.execute("SELECT name FROM log").fetchone()[0]
        return name

    def _version(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    def _format(self) -> None:
        """Lay the tables out; another process may just have done it."""
        version = self._version()
        if version == _FORMAT_VERSION:
            return
        for statement in (_SCHEMA,) if version == 0 else _FROM_FORMAT_1:
            self._database.execute(statement)
        self._database.execute("CREATE TABLE log (name TEXT NOT NULL)")
        self._database.execute("INSERT INTO log VALUES (?)", (os.urandom(16).hex(),))
        self._database.execute(f"PRAGMA user_version={_FORMAT_VERSION}")

    def _last(self) -> int:
        row = self._database.execute("SELECT max(sequence) FROM changes").fetchone()
        return int(row[0] or 0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


def _read(
    database: sqlite3.Connection, after: int, limit: int, through: int | None = None
) -> list[Change]:
    rows = database.execute(
        "SELECT product_id, record, sequence, deleted FROM changes"
        " WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
        (after, (1 << 62) if through is None else through, limit),
    ).fetchall()
    return [
        Change(key.decode(errors="surrogatepass"), record, sequence, deleted)
        for key, record, sequence, deleted in rows
    ]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise ChangeLogError(
            f"{path}: got {error}, want a whole log of changes and room and rights to write it"
        ) from error


def _key(product_id: str) -> bytes:
    return product_id.encode(errors="surrogatepass")
