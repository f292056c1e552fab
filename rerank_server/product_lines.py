"""Changes of products from JSON lines, appended to the log that servers follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import BinaryIO, TypeVar

from rerank_server.contract.bundle import Bundle
from rerank_server.live_products import MAX_CHANGES
from rerank_server.product_changes import Change, ChangeLog
from rerank_server.product_records import (
    ProductError,
    RecordReader,
    check_id,
    dump_record,
    parse_line,
)

Given = TypeVar("Given")


def upsert_lines(
    log: ChangeLog,
    bundle: Bundle,
    lines: BinaryIO,
    name: str,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Append the products of JSON lines, as in a catalogue, and return how many.

    They are appended 1,000 at a time, each thousand as a whole; empty lines are passed over. Of an
    id that comes twice the last line holds.

    Args:
        log: Where they go.
        bundle: Every product must have all that it reads.
        lines: A file opened for bytes.
        name: What an error calls it.
        progress: Called with the lines that are durable so far.

    Raises:
        ProductError: When a line breaks a rule; says how many lines before it are stored.
        ChangeLogError: When the disk refuses.
    """
    reader = RecordReader(bundle)

    def change(line: bytes, where: str) -> Change:
        value = parse_line(line, where)
        reader.read(value, where)
        return Change(value["id"], dump_record(value))

    return _append(log, _numbered(lines), change, name, progress)


def delete_ids(
    log: ChangeLog,
    product_ids: Iterable[str],
    name: str,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Append that products are gone, and return how many ids were given.

    Raises:
        ProductError: When an id breaks a rule; says how many before it are stored.
        ChangeLogError: When the disk refuses.
    """

    def change(product_id: str, where: str) -> Change:
        return Change(check_id(product_id, where), None)

    return _append(log, enumerate(product_ids, start=1), change, name, progress)


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _append(
    log: ChangeLog,
    given: Iterable[tuple[int, Given]],
    change: Callable[[Given, str], Change],
    name: str,
    progress: Callable[[int], None] | None,
) -> int:
    source, done = iter(given), 0
    while batch := list(islice(source, MAX_CHANGES)):
        try:
            changes = [change(item, f"{name}:{number}") for number, item in batch]
        except ProductError as error:
            raise ProductError(f"{error}; the {done} before are stored") from error
        newest = {item.product_id: item for item in changes}
        log.append(list(newest.values()))
        done += len(batch)
        if progress is not None:
            progress(done)
    return done
