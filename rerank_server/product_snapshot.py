"""A catalogue snapshot: what a product store is built from, read in blocks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_server.contract.errors import ProductStoreError
from rerank_server.product_columns import ColumnReader

SNAPSHOT_VERSION = 1
PRODUCTS_FILE = "products.jsonl"
_FILES = (PRODUCTS_FILE, "factors.npy", "neighbours.npy", "neighbour_weights.npy", "gram.npy")


@dataclass(frozen=True, slots=True)
class CatalogueSnapshot:
    """The columns of a snapshot folder; its `products.jsonl` is read line by line.

    Attributes:
        folder: Where it lies.
        as_of_day: The integer day (UTC) before which everything was counted.
        factors: ALS factors, shape (products, factor width), float32.
        neighbours: Line of each product's neighbours, from 0, shape (products, neighbours);
            -1 is padding.
        neighbour_weights: Their similarities, same shape, float32.
        gram: Shape (factor width, factor width), float64.
        vectors: Named vectors that it holds, each of shape (products, width), float32; zeros
            where a product has none.
    """

    folder: Path
    as_of_day: int
    factors: ColumnReader
    neighbours: ColumnReader
    neighbour_weights: ColumnReader
    gram: np.ndarray
    vectors: Mapping[str, ColumnReader]

    @property
    def size(self) -> int:
        """The number of products."""
        return int(self.factors.shape[0])

    def fingerprint(self) -> str:
        """Return what tells one state of its files from another, by size and time."""
        names = (*_FILES, *map(vector_file, self.vectors))
        stats = [(self.folder / name).stat() for name in names]
        state = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
        return hashlib.sha256(json.dumps([self.as_of_day, state]).encode()).hexdigest()


def vector_file(name: str) -> str:
    """Return the name of the file that holds a named vector of every product."""
    return f"vector_{name}.npy"


def read_snapshot(folder: Path) -> CatalogueSnapshot:
    """Open a catalogue snapshot and check its columns.

    Raises:
        ProductStoreError: When a file is missing or cut, or they do not fit each other.
    """
    folder = Path(folder)
    path = folder / "snapshot.json"
    try:
        value = json.loads(path.read_bytes())
        version, as_of_day = value["format_version"], int(value["as_of_day"])
    except OSError as error:
        raise ProductStoreError(
            f"{path}: got {error.strerror or error}, want a catalogue snapshot"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ProductStoreError(
            f"{path}: got {error!r}, want format_version and as_of_day"
        ) from error
    if version != SNAPSHOT_VERSION:
        raise ProductStoreError(f"{path}: got format_version {version!r}, want {SNAPSHOT_VERSION}")
    gram = _column(folder / "gram.npy", np.float64)
    snapshot = CatalogueSnapshot(
        folder=folder,
        as_of_day=as_of_day,
        factors=_column(folder / "factors.npy", np.float32),
        neighbours=_column(folder / "neighbours.npy", np.int32),
        neighbour_weights=_column(folder / "neighbour_weights.npy", np.float32),
        gram=gram.rows(0, gram.shape[0]),
        vectors={
            path.stem.removeprefix("vector_"): _column(path, np.float32)
            for path in sorted(folder.glob(vector_file("*")))
        },
    )
    if not (folder / PRODUCTS_FILE).is_file():
        raise ProductStoreError(f"{folder / PRODUCTS_FILE}: got no such file, want a catalogue")
    _check_shapes(snapshot)
    _check_numbers(snapshot)
    return snapshot


def _column(path: Path, dtype: type[np.generic]) -> ColumnReader:
    column = ColumnReader(path)
    if column.dtype != dtype or len(column.shape) != 2:  # noqa: PLR2004 - rows and columns
        raise ProductStoreError(
            f"{path}: got {column.dtype} {column.shape}, want {np.dtype(dtype)} of 2 dimensions"
        )
    return column


def _check_shapes(snapshot: CatalogueSnapshot) -> None:
    size, width = snapshot.factors.shape
    if size == 0:
        raise ProductStoreError(f"{snapshot.folder}: got 0 products, want at least 1")
    for name in ("neighbours", "neighbour_weights"):
        shape = getattr(snapshot, name).shape
        if shape != (size, snapshot.neighbours.shape[1]):
            raise ProductStoreError(
                f"{name}.npy: got {shape}, want ({size}, {snapshot.neighbours.shape[1]})"
            )
    for name, vectors in snapshot.vectors.items():
        if vectors.shape[0] != size:
            raise ProductStoreError(
                f"{vector_file(name)}: got {vectors.shape[0]} rows, want {size} as factors.npy has"
            )
    if snapshot.gram.shape != (width, width):
        raise ProductStoreError(f"gram.npy: got {snapshot.gram.shape}, want ({width}, {width})")


def _check_numbers(snapshot: CatalogueSnapshot) -> None:
    size = snapshot.size
    for block in snapshot.neighbours.blocks():
        low, high = block.min(initial=-1), block.max(initial=-1)
        if low < -1 or high >= size:
            raise ProductStoreError(
                f"neighbours.npy: got rows {low} to {high}, want -1 to {size - 1}"
            )
    finite = {
        "factors.npy": snapshot.factors,
        "neighbour_weights.npy": snapshot.neighbour_weights,
        **{vector_file(name): column for name, column in snapshot.vectors.items()},
    }
    for file, column in finite.items():
        if not all(np.isfinite(block).all() for block in column.blocks()):
            raise ProductStoreError(f"{file}: got a number that is not finite, want none")
    if not np.isfinite(snapshot.gram).all():
        raise ProductStoreError("gram.npy: got a number that is not finite, want none")
