"""Named vectors of products: read from a shop's files by product id, kept in a prepared folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rerank_server.contract.page import Floats
from rerank_server.contract.schema import VectorSpec
from trainer.encoding.dataset import Prepared
from trainer.errors import LogColumnError, LogFileError, PreparedError, VectorError
from trainer.logs.log_files import check_columns, scan_table
from trainer.logs.vector_sources import VectorSource

BLOCK_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class NamedVector:
    """One vector per product.

    Attributes:
        name: What it is called.
        values: Shape (products + 1, width), float32; zeros where a product has none, and in the
            last row, the unknown product's.
    """

    name: str
    values: Floats

    @property
    def spec(self) -> VectorSpec:
        """Name and width."""
        return VectorSpec(self.name, int(self.values.shape[1]))


@dataclass(frozen=True, slots=True)
class VectorCounts:
    """What a file of vectors held.

    Attributes:
        rows: Rows of the file.
        products: Products with a vector from it.
        unknown_ids: Rows of ids that the catalogue does not have, left out.
        empty: Rows that are null or of zeros alone: the product has none.
    """

    rows: int
    products: int
    unknown_ids: int
    empty: int


def vector_file(name: str, moment: int | None = None) -> str:
    """Return the name of the file that holds a vector, of what was known at one of its moments."""
    return f"vector_{name}.npy" if moment is None else f"vector_{name}-{moment}.npy"


def write_vectors(
    target: Path, sources: Sequence[VectorSource], folder: Path, ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Write the vectors of each source by product row; return what the manifest says of them.

    Args:
        target: The prepared folder.
        sources: Which files.
        folder: What file names are relative to.
        ids: Product ids in row order.

    Raises:
        LogFileError: A file is missing or cannot be read.
        LogColumnError: It lacks a column.
        VectorError: Its vectors are not all of the configured width, or not finite, or an id
            comes twice.
    """
    rows = {product_id: row for row, product_id in enumerate(ids)}
    described = []
    for source in sources:
        shape = (len(ids) + 1, source.width)
        values = np.lib.format.open_memmap(
            target / vector_file(source.name), mode="w+", dtype=np.float32, shape=shape
        )
        counts = _fill(values, _blocks(source, folder), rows, source)
        values.flush()
        described.append(describe(source.name, source.width, counts=asdict(counts)))
    return described


def describe(
    name: str, width: int, *, counts: Mapping[str, Any], known_at: Sequence[int] = ()
) -> dict[str, Any]:
    """Return what a manifest says of a vector.

    Args:
        name: Of the vector.
        width: Of the vector.
        counts: What its file held.
        known_at: Unix seconds of the moments of which there is a file each, with what was known
            before; none for a vector that does not change.
    """
    return {"name": name, "width": width, "counts": dict(counts), "known_at": list(known_at)}


def read_vectors(prepared: Prepared, time: int | None = None) -> tuple[NamedVector, ...]:
    """Return the named vectors of a prepared log, memory-mapped.

    Args:
        prepared: The log.
        time: Unix seconds; of a vector that changes what was known at its last moment that is
            not later, the first at least. None takes the first: the start of training.
    """
    vectors = []
    for entry in prepared.manifest.get("vectors", ()):
        moments = entry["known_at"]
        moment = None
        if moments:
            past = [index for index, known in enumerate(moments) if time and known <= time]
            moment = past[-1] if past else 0
        path = prepared.path / vector_file(entry["name"], moment)
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise PreparedError(f"{path.name}: got {error}, want a whole numpy array") from error
        if values.shape != (prepared.size + 1, entry["width"]):
            raise PreparedError(
                f"{path.name}: got shape {values.shape}, want"
                f" ({prepared.size + 1}, {entry['width']})"
            )
        vectors.append(NamedVector(entry["name"], values))
    return tuple(vectors)


def _fill(
    values: Floats,
    blocks: Iterator[tuple[list[str], Iterable[Any]]],
    rows: Mapping[str, int],
    source: VectorSource,
) -> VectorCounts:
    """Put each vector in its product's row; everything wrong is counted and named at the end."""
    seen = np.zeros(values.shape[0], np.bool_)
    total = unknown = empty = twice = 0
    widths: Counter[int] = Counter()
    infinite: list[str] = []
    for ids, vectors in blocks:
        for product_id, given in zip(ids, vectors, strict=True):
            total += 1
            row = rows.get(product_id)
            if row is None:
                unknown += 1
                continue
            twice += bool(seen[row])
            seen[row] = True
            if given is None:
                empty += 1
                continue
            vector = np.asarray(given, np.float32)
            widths[vector.shape[0]] += 1
            if vector.shape[0] != source.width:
                continue
            if not np.isfinite(vector).all():
                infinite.append(product_id)
                continue
            empty += not vector.any()
            values[row] = vector
    _refuse(source, widths, infinite, twice)
    return VectorCounts(total, total - unknown - empty, unknown, empty)


def _refuse(source: VectorSource, widths: Counter[int], infinite: list[str], twice: int) -> None:
    wrong = []
    if set(widths) - {source.width}:
        found = ", ".join(f"{count} of width {width}" for width, count in widths.most_common(5))
        wrong.append(f"got vectors {found}, want all of {source.width}")
    if infinite:
        shown = ", ".join(infinite[:3])
        wrong.append(
            f"got {len(infinite)} with a NaN, an infinite number or none (of {shown}), want finite"
            " numbers"
        )
    if twice:
        wrong.append(f"got {twice} rows of a product that has one already, want one row each")
    if wrong:
        raise VectorError(f"vector {source.name}: {source.file}: {'; '.join(wrong)}")


def _blocks(source: VectorSource, folder: Path) -> Iterator[tuple[list[str], Iterable[Any]]]:
    """Yield ids and vectors, some thousand rows at a time."""
    path = folder / source.file
    if path.suffix == ".npy":
        yield from _array_blocks(source, path, folder / source.ids)
        return
    table = f"vector {source.name}"
    lazy = scan_table(path, table)
    check_columns(lazy, table, (source.id, source.column))
    native = lazy.to_native()
    kind = native.collect_schema()[source.column]
    inner = getattr(kind, "inner", None)
    if inner is None or not (inner.is_numeric() or inner == pl.Null):
        raise LogColumnError(
            f"{table}: {source.column}: got values of type {kind}, want lists of numbers"
        )
    columns = [
        pl.col(source.id).cast(pl.String).fill_null("").alias("id"),
        pl.col(source.column).cast(pl.List(pl.Float32), strict=False).alias("vector"),
    ]
    try:
        # a slice of Parquet reads that slice; JSON lines are read as a whole
        whole = native.select(columns)
        whole = whole if path.suffix == ".parquet" else whole.collect().lazy()
        start = 0
        while (block := whole.slice(start, BLOCK_ROWS).collect()).height:
            yield block["id"].to_list(), block["vector"].to_list()
            start += BLOCK_ROWS
    except pl.exceptions.PolarsError as error:
        raise LogFileError(f"{table}: got rows that cannot be read: {error}") from error


def _array_blocks(
    source: VectorSource, path: Path, ids_path: Path
) -> Iterator[tuple[list[str], Iterable[Any]]]:
    table = f"vector {source.name}"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        ids = ids_path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise LogFileError(f"{table}: got {error}, want {path.name} and {ids_path.name}") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):  # noqa: PLR2004 - rows, numbers
        raise LogFileError(
            f"{table}: {path.name}: got {array.dtype} {array.shape}, want numbers of 2 dimensions"
        )
    if len(ids) != array.shape[0]:
        raise LogFileError(
            f"{table}: {ids_path.name}: got {len(ids)} ids, want {array.shape[0]}, one for each"
            f" row of {path.name}"
        )
    for start in range(0, len(ids), BLOCK_ROWS):
        stop = start + BLOCK_ROWS
        yield ids[start:stop], np.asarray(array[start:stop], np.float32)
