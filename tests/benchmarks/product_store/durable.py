"""Compares two embedded stores for the log of changes: SQLite in WAL mode, and LMDB.

    python tests/benchmarks/product_store/durable.py FOLDER

Each commit is durable (fsync) before it returns. LMDB (`pip install lmdb`) is left out where it is
not installed. The choice is in `rerank_server/product_changes.py`.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

RECORD = json.dumps({"id": "x" * 13, "text": "fresh milk " * 20, "columns": {"price": 1.0}})
COMMITS = {1: 200, 100: 60, 1_000: 20}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"sqlite": measure(*open_sqlite(folder))}
    try:
        lmdb = import_module("lmdb")
    except ImportError:
        results["lmdb"] = "not installed"
    else:
        results["lmdb"] = measure(*open_lmdb(lmdb, folder))
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


Rows = list[tuple[bytes, int, str]]


def open_sqlite(folder: Path) -> tuple[Callable[[Rows], None], Callable[[], int]]:
    database = sqlite3.connect(folder / "changes.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE c (id BLOB PRIMARY KEY, sequence INTEGER UNIQUE, record TEXT)")

    def write(rows: Rows) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT OR REPLACE INTO c VALUES (?, ?, ?)", rows)
        database.execute("COMMIT")

    def read() -> int:
        return sum(
            len(row[0]) for row in database.execute("SELECT record FROM c ORDER BY sequence")
        )

    return write, read


def open_lmdb(lmdb: Any, folder: Path) -> tuple[Callable[[Rows], None], Callable[[], int]]:
    environment = lmdb.open(str(folder / "lmdb"), map_size=1 << 30, max_dbs=2)
    records, order = environment.open_db(b"records"), environment.open_db(b"order")

    def write(rows: Rows) -> None:
        with environment.begin(write=True) as transaction:
            for key, sequence, record in rows:
                transaction.put(key, record.encode(), db=records)
                transaction.put(sequence.to_bytes(8, "big"), key, db=order)

    def read() -> int:
        with environment.begin() as transaction:
            keys = [key for _, key in transaction.cursor(db=order)]
            return sum(len(transaction.get(key, db=records)) for key in keys)

    return write, read


def measure(write: Callable[[Rows], None], read: Callable[[], int]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    sequence = 0
    for size, commits in COMMITS.items():
        took = []
        for _ in range(commits):
            rows = []
            for _ in range(size):
                sequence += 1
                rows.append((f"product-{sequence * 7919 % 1_000_003}".encode(), sequence, RECORD))
            start = time.perf_counter()
            write(rows)
            took.append(time.perf_counter() - start)
        figures[f"{size} a commit"] = {
            "p50_ms": round(statistics.median(took) * 1e3, 3),
            "changes_per_s": round(size * commits / sum(took)),
        }
    start = time.perf_counter()
    read()
    figures["read_all_ms"] = round((time.perf_counter() - start) * 1e3, 1)
    figures["changes"] = sequence
    return figures


if __name__ == "__main__":
    main()
