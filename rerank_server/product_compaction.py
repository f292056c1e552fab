"""Writes a store anew with its changes in the files, while the one before is served.

Rows stay where they are, for lists of neighbours name them: a changed product is written over, a
new one comes behind the last, and a deleted one keeps a row that no id leads to any more, until
the store is built again from a catalogue.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rerank_server.contract.atomic import atomic_folder
from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.page import Rows
from rerank_server.product_changes import Change, ChangeLog, ChangeReader
from rerank_server.product_columns import ColumnReader, ColumnWriter
from rerank_server.product_ids import (
    PackedIds,
    ProductIds,
    ProductIdWriter,
    block_bounds,
    read_block,
)
from rerank_server.product_records import (
    ProductEncoder,
    ProductError,
    ProductRecord,
    RecordReader,
    parse_line,
)
from rerank_server.product_store import (
    COLUMN_TYPES,
    StoreManifest,
    read_manifest,
    write_manifest,
)
from rerank_server.product_vectors import SCALES_FILE, VECTORS_FILE, VectorWriter

BATCH = 512
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Some changes by what they do to a store.

    Attributes:
        records: Products that are there from now on.
        kept: Whether each keeps the factors and neighbours that the files have for it.
        removed: Ids of products that are gone.
    """

    records: list[ProductRecord]
    kept: list[bool]
    removed: list[str]


def prepare(reader: RecordReader, changes: Sequence[Change], through: int) -> Prepared:
    """Read changes of a store that holds those up to number `through`.

    One whose record is broken is named in the log and left out.
    """
    prepared = Prepared([], [], [])
    for change in changes:
        if change.record is None:
            prepared.removed.append(change.product_id)
            continue
        where = f"change {change.sequence}"
        try:
            record = reader.read(parse_line(change.record, where), where, lenient=True)
        except ProductError as error:
            _LOG.error("change left out", extra={"fields": {"reason": str(error)}})
            continue
        prepared.records.append(record)
        prepared.kept.append(change.deleted <= through)
    return prepared


def compact(
    base: Path,
    manifest: StoreManifest,
    bundle: Bundle,
    encoder: ProductEncoder,
    log: ChangeLog,
    out: Path,
    through: int,
) -> None:
    """Write the store at `base` with the changes up to number `through` to `out`.

    Memory is bounded but for the ids of the changes and the index; `out` appears complete or not
    at all.

    Args:
        base: Folder of the store.
        manifest: What the store said of itself when it was opened.
        bundle: Its bundle.
        encoder: Encodes products with that bundle.
        log: Holds the changes.
        out: Folder to write.
        through: Number of the newest change to take.

    Raises:
        ProductStoreError: When `base` is broken or another store by now, or the disk refuses.
        ChangeLogError: When the log cannot be read.
    """
    try:
        # what is appended meanwhile must not change what the log says between two readings
        with atomic_folder(out) as folder, log.snapshot() as read:
            _refuse_another(base, manifest)
            compaction = _Compaction(base, manifest, folder, bundle, encoder)
            compaction.run(read, through, log.name)
            _refuse_another(base, manifest)  # some of its files would be the other's
    except OSError as error:
        raise ProductStoreError(
            f"{out}: got {error.strerror or error}, want room and rights to write a product store"
        ) from error


class _Compaction:
    """The writing of one store."""

    def __init__(
        self,
        base: Path,
        manifest: StoreManifest,
        folder: Path,
        bundle: Bundle,
        encoder: ProductEncoder,
    ) -> None:
        self._base = base
        self._folder = folder
        self._reader = RecordReader(bundle)
        self._encoder = encoder
        self._manifest = manifest
        self._ids = ProductIds.open(base)

    def run(self, read: ChangeReader, through: int, log_name: str) -> None:
        """Write everything."""
        new, removed = self._plan(read, through)
        old_rows = self._manifest.rows
        rows = old_rows + len(new)
        self._write_ids(new, removed)
        columns, vectors = self._copy_columns(rows)
        try:
            next_row = old_rows
            for prepared in self._prepared(read, through):
                if prepared.records:
                    next_row = self._put(prepared, next_row, columns, vectors)
            self._put_unknown(rows, columns, vectors)
        finally:
            for column in columns.values():
                column.close()
            vectors.close()
        gram = ColumnReader(self._base / "gram.npy")
        np.save(self._folder / "gram.npy", gram.rows(0, gram.shape[0]))
        manifest = replace(
            self._manifest,
            rows=rows,
            products=self._manifest.products - removed.shape[0] + len(new),
            changes_through=through,
            changes_log=log_name,
        )
        write_manifest(self._folder, manifest)

    def _prepared(self, read: ChangeReader, through: int) -> Iterator[Prepared]:
        after = self._manifest.changes_through
        while changes := read(after, BATCH, through):
            yield prepare(self._reader, changes, self._manifest.changes_through)
            after = changes[-1].sequence

    def _plan(self, read: ChangeReader, through: int) -> tuple[list[str], Rows]:
        """Return the ids that are new and the rows that are not led to any more."""
        new: list[str] = []
        removed: list[int] = []
        for prepared in self._prepared(read, through):
            ids = [record.product_id for record in prepared.records]
            rows = self._ids.rows(ids).tolist()
            unknown = self._ids.row_count
            new += [name for name, row in zip(ids, rows, strict=True) if row == unknown]
            gone = self._ids.rows(prepared.removed).tolist()
            removed += [row for row in gone if row != unknown]
        return new, np.array(sorted(removed), np.int32)

    def _write_ids(self, new: list[str], removed: Rows) -> None:
        writer = ProductIdWriter(self._folder, self._manifest.rows + len(new))
        try:
            for start, stop in block_bounds(self._base):
                block = read_block(self._base, start, stop)
                first, last = np.searchsorted(removed, [start, stop])
                if last > first:
                    block = _without(block, removed[first:last] - start)
                writer.add_packed(block)
            writer.add(new)
        except BaseException:
            writer.discard()
            raise
        writer.close()

    def _copy_columns(self, rows: int) -> tuple[dict[str, ColumnWriter], VectorWriter]:
        columns: dict[str, ColumnWriter] = {}
        for name, dtype in COLUMN_TYPES.items():
            source = ColumnReader(self._base / f"{name}.npy")
            target = ColumnWriter(
                self._folder / f"{name}.npy", dtype, (rows + 1, *source.shape[1:])
            )
            columns[name] = target
            for block in source.blocks():
                target.append(block)
        source = ColumnReader(self._base / VECTORS_FILE)
        vectors = VectorWriter(
            self._folder, self._manifest.vectors, (rows + 1, int(source.shape[1]))
        )
        scales = self._base / SCALES_FILE
        for path in (self._base / VECTORS_FILE, *([scales] if scales.exists() else [])):
            vectors.copy(path)
        return columns, vectors

    def _put(
        self,
        prepared: Prepared,
        next_row: int,
        columns: dict[str, ColumnWriter],
        vectors: VectorWriter,
    ) -> int:
        """Write products and return the row behind the last."""
        base_rows = self._ids.rows([record.product_id for record in prepared.records])
        rows = base_rows.astype(np.int64)
        is_new = rows == self._ids.row_count
        count = int(np.count_nonzero(is_new))
        rows[is_new] = np.arange(next_row, next_row + count)
        void = is_new | ~np.array(prepared.kept, np.bool_)
        factors = self._encoder_factors(rows, void)
        encoded = self._encoder.encode(prepared.records, factors, lenient=True)
        for name, values in encoded.columns().items():
            columns[name].put(rows, values)
        self._put_void(rows[void], columns)
        vectors.put(rows, encoded.vectors)
        return next_row + count

    def _encoder_factors(self, rows: np.ndarray, void: np.ndarray) -> np.ndarray:
        reader = ColumnReader(self._base / "factors.npy")
        factors = np.zeros((rows.shape[0], int(reader.shape[1])), np.float32)
        for index in np.flatnonzero(~void).tolist():
            row = int(rows[index])
            factors[index] = reader.rows(row, row + 1)[0]
        return factors

    def _put_void(self, rows: np.ndarray, columns: dict[str, ColumnWriter]) -> None:
        """Write that products have neither factors nor neighbours."""
        for name, value in (("factors", 0), ("neighbours", -1), ("neighbour_weights", 0)):
            width = ColumnReader(self._base / f"{name}.npy").shape[1]
            columns[name].put(rows, np.full((rows.shape[0], int(width)), value))

    def _put_unknown(
        self, row: int, columns: dict[str, ColumnWriter], vectors: VectorWriter
    ) -> None:
        """Write the last row, which stands for every unknown product."""
        rows = np.array([row])
        width = int(ColumnReader(self._base / "factors.npy").shape[1])
        encoded = self._encoder.encode([self._reader.unknown()], np.zeros((1, width), np.float32))
        for name, values in encoded.columns().items():
            columns[name].put(rows, values)
        self._put_void(rows, columns)
        vectors.put(rows, encoded.vectors)


def _refuse_another(folder: Path, manifest: StoreManifest) -> None:
    """Refuse a store that was replaced since it was opened: rows of the two are not the same."""
    found = read_manifest(folder)
    if not manifest.is_of(found):
        raise ProductStoreError(
            f"{folder}: got a store built anew (origin {found.origin[:12]}), want the one that is"
            f" served (origin {manifest.origin[:12]}); restart, and build stores of another bundle"
            " in a folder of their own"
        )


def _without(ids: PackedIds, gone: Rows) -> PackedIds:
    """Return ids with those at some positions empty."""
    sizes = ids.sizes.copy()
    sizes[gone] = 0
    held = np.ones(sizes.shape[0], np.bool_)
    held[gone] = False
    data = ids.data[np.repeat(held, ids.sizes)]
    return PackedIds(data, np.cumsum(sizes) - sizes, sizes)
