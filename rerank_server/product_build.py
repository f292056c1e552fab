"""Builds a product store from a catalogue snapshot, product vectors included.

The store grows in a folder beside its place, with a note of how far it has come; a build that was
killed goes on from there, and the store appears complete or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from rerank_server.contract.atomic import switch_folder
from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.golden import Graphs
from rerank_server.product_columns import ColumnWriter
from rerank_server.product_ids import ProductIdWriter
from rerank_server.product_records import (
    EncodedProducts,
    ProductEncoder,
    ProductRecord,
    RecordReader,
)
from rerank_server.product_snapshot import (
    PRODUCTS_FILE,
    CatalogueSnapshot,
    read_snapshot,
    vector_file,
)
from rerank_server.product_store import (
    COLUMN_TYPES,
    FORMAT_VERSION,
    StoreManifest,
    write_manifest,
)
from rerank_server.product_vectors import VectorWriter, check_kind, measure_loss

BATCH = 512
# A killed build loses at most this many products.
CHECKPOINT_PRODUCTS = 65_536
_NOTE_FILE = "building.json"
_LOCK_FILE = "building.lock"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Note:
    """How far a build has come.

    Attributes:
        made_from: Hash of bundle, snapshot and options.
        products: Products on disk.
        line_offset: Byte of `products.jsonl` at which the next begins.
        id_bytes: Bytes of their ids.
    """

    made_from: str
    products: int = 0
    line_offset: int = 0
    id_bytes: int = 0


def build_product_store(
    bundle: Bundle,
    graphs: Graphs,
    snapshot_folder: Path,
    out: Path,
    progress: Progress | None = None,
    *,
    vectors: str = "float32",
    changes_through: int = 0,
    changes_log: str = "",
) -> int:
    """Build a product store at `out`, replacing what is there, and return how many products.

    Memory is bounded by the batch and, at the end, by the index of the ids (24 bytes a product);
    `out` appears complete or not at all. A build that was killed goes on where it was when it
    is called again with the same arguments and files.

    Args:
        bundle: Its vocabulary and `product.onnx` encode the products.
        graphs: The graphs of `bundle`.
        snapshot_folder: The catalogue snapshot.
        out: Where the store goes.
        progress: Called with products done and products in all.
        vectors: What vectors are stored as: float32, float16 or int8.
        changes_through: Number of the newest change of products that the snapshot holds.
        changes_log: Name of the log that numbers the changes.

    Raises:
        ProductStoreError: When the snapshot is broken, the disk refuses, or another process is
            building there.
    """
    check_kind(vectors)
    snapshot = read_snapshot(snapshot_folder)
    if snapshot.factors.shape[1] != bundle.manifest.widths.factors:
        raise ProductStoreError(
            f"factors.npy: got width {snapshot.factors.shape[1]}, want"
            f" {bundle.manifest.widths.factors} as in the bundle"
        )
    _check_vectors(bundle, snapshot)
    loss = measure_loss(bundle, graphs, vectors)
    holds = f"{changes_through} {changes_log}"
    made_from = f"{bundle.manifest.bundle_id} {snapshot.fingerprint()} {vectors} {holds}"
    try:
        with _building(out, made_from) as (folder, note):
            _Build(bundle, graphs, snapshot, folder, vectors).run(note, progress)
            manifest = StoreManifest(
                format_version=FORMAT_VERSION,
                bundle_id=bundle.manifest.bundle_id,
                products=snapshot.size,
                rows=snapshot.size,
                as_of_day=snapshot.as_of_day,
                origin=os.urandom(16).hex(),
                vectors=vectors,
                loss=asdict(loss) if loss else {},
                changes_through=changes_through,
                changes_log=changes_log,
            )
            write_manifest(folder, manifest)
    except OSError as error:
        raise ProductStoreError(
            f"{out}: got {error.strerror or error}, want room and rights to write a product store"
        ) from error
    return snapshot.size


def _check_vectors(bundle: Bundle, snapshot: CatalogueSnapshot) -> None:
    """Refuse a snapshot without a named vector that the bundle reads."""
    for spec in bundle.schema.vectors:
        held = snapshot.vectors.get(spec.name)
        if held is None:
            raise ProductStoreError(
                f"{snapshot.folder}: got no {vector_file(spec.name)}, want one: the bundle reads"
                f" the vector {spec.name!r} (zeros where a product has none)"
            )
        if held.shape[1] != spec.width:
            raise ProductStoreError(
                f"{vector_file(spec.name)}: got width {held.shape[1]}, want {spec.width} as in"
                " the bundle"
            )


@contextmanager
def _building(out: Path, made_from: str) -> Generator[tuple[Path, _Note]]:
    """Yield the folder of an unfinished build with its note, and put it at `out` afterwards.

    What fails is removed, for the next build cannot use it; what is killed or interrupted stays.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - keeps a symbolic link as it is
    folder = out.parent / f".{out.name}.building"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ProductStoreError(
                f"{out}: got another process that builds it, want one at a time"
            ) from error
        try:
            yield folder, _read_note(folder, made_from)
            for name in (_NOTE_FILE, _LOCK_FILE):
                (folder / name).unlink(missing_ok=True)
            switch_folder(folder, out)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _read_note(folder: Path, made_from: str) -> _Note:
    try:
        note = _Note(**json.loads((folder / _NOTE_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return _Note(made_from)
    return note if note.made_from == made_from else _Note(made_from)


def _write_note(folder: Path, note: _Note) -> None:
    temporary = folder / f"{_NOTE_FILE}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(note), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / _NOTE_FILE)


class _Build:
    """The build of one store."""

    def __init__(
        self,
        bundle: Bundle,
        graphs: Graphs,
        snapshot: CatalogueSnapshot,
        folder: Path,
        vectors: str,
    ) -> None:
        self._snapshot = snapshot
        self._folder = folder
        self._kind = vectors
        self._widths = bundle.manifest.widths
        self._vectors = tuple(spec.name for spec in bundle.schema.vectors)
        self._reader = RecordReader(bundle)
        self._encoder = ProductEncoder(bundle, graphs.product)
        schema = bundle.schema
        self._shapes: dict[str, tuple[int, ...]] = {
            "categories": (),
            "levels": (len(schema.levels),),
            "attributes": (len(schema.attributes),),
            "stats": (len(schema.product_columns),),
            "factors": (self._widths.factors,),
            "neighbours": snapshot.neighbours.shape[1:],
            "neighbour_weights": snapshot.neighbours.shape[1:],
        }

    def run(self, note: _Note, progress: Progress | None) -> None:
        """Append the products that `note` does not count, the unknown one, and the index."""
        size, done = self._snapshot.size, note.products
        ids = ProductIdWriter(self._folder, size, rows_done=done, bytes_done=note.id_bytes)
        columns = {
            name: ColumnWriter(
                self._folder / f"{name}.npy",
                dtype,
                (size + 1, *self._shapes[name]),
                rows_done=done,
            )
            for name, dtype in COLUMN_TYPES.items()
        }
        shape = (size + 1, self._widths.product)
        vectors = VectorWriter(self._folder, self._kind, shape, rows_done=done)
        files: list[ProductIdWriter | VectorWriter | ColumnWriter] = [
            *(ids, vectors),
            *columns.values(),
        ]
        try:
            for start, records, offset in self._batches(note):
                ids.add([record.product_id for record in records])
                self._append(start, records, columns, vectors)
                done = start + len(records)
                if done // CHECKPOINT_PRODUCTS != start // CHECKPOINT_PRODUCTS:
                    for file in files:
                        file.sync()
                    _write_note(self._folder, _Note(note.made_from, done, offset, ids.bytes_done))
                if progress is not None:
                    progress(done, size)
            if done != size:
                raise ProductStoreError(
                    f"{PRODUCTS_FILE}: got {done} lines, want {size} as factors.npy has rows"
                )
            self._append(size, [self._reader.unknown()], columns, vectors)
        finally:
            for column in columns.values():
                column.close()
            vectors.close()
            ids.discard()
        ids.close()
        np.save(self._folder / "gram.npy", self._snapshot.gram)

    def _batches(self, note: _Note) -> Generator[tuple[int, list[ProductRecord], int]]:
        """Return row of the first product, products, and the byte at which the next begins."""
        path = self._snapshot.folder / PRODUCTS_FILE
        row = note.products
        with path.open("rb") as file:
            file.seek(note.line_offset)
            offset = note.line_offset
            while lines := list(islice(file, BATCH)):
                offset += sum(map(len, lines))
                if row + len(lines) > self._snapshot.size:
                    raise ProductStoreError(
                        f"{PRODUCTS_FILE}: got more than {self._snapshot.size} lines, want as"
                        " many as factors.npy has rows"
                    )
                yield (
                    row,
                    [
                        self._reader.read_line(line, f"{path}:{number}")
                        for number, line in enumerate(lines, start=row + 1)
                    ],
                    offset,
                )
                row += len(lines)

    def _append(
        self,
        start: int,
        records: list[ProductRecord],
        columns: dict[str, ColumnWriter],
        vectors: VectorWriter,
    ) -> None:
        stop, snapshot = start + len(records), self._snapshot
        values: dict[str, np.ndarray]
        if start < snapshot.size:
            values = {
                name: getattr(snapshot, name).rows(start, stop)
                for name in ("factors", "neighbours", "neighbour_weights")
            }
            records = self._with_vectors(start, records)
        else:  # the unknown one has neither neighbours nor factors
            width = snapshot.neighbours.shape[1]
            values = {
                "factors": np.zeros((1, self._widths.factors), np.float32),
                "neighbours": np.full((1, width), -1, np.int32),
                "neighbour_weights": np.zeros((1, width), np.float32),
            }
        encoded: EncodedProducts = self._encoder.encode(records, values["factors"])
        for name, column in (values | encoded.columns()).items():
            columns[name].append(column)
        vectors.append(encoded.vectors)

    def _with_vectors(self, start: int, records: list[ProductRecord]) -> list[ProductRecord]:
        """Return records with the snapshot's named vectors; those of a line itself go before."""
        if not self._vectors:
            return records
        blocks = {
            name: self._snapshot.vectors[name].rows(start, start + len(records))
            for name in self._vectors
        }
        return [
            replace(record, vectors={**_row(blocks, row), **record.vectors})
            for row, record in enumerate(records)
        ]


def _row(blocks: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    return {name: block[row] for name, block in blocks.items()}
