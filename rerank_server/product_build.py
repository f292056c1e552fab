"""Builds a product store from a catalogue snapshot, product vectors included."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rerank_server.contract.atomic import atomic_folder
from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError, nearest
from rerank_server.contract.golden import Graphs
from rerank_server.contract.graph_inputs import ProductBatch, product_inputs
from rerank_server.page import MAX_ID_BYTES
from rerank_server.product_ids import ProductIdWriter, map_array
from rerank_server.product_store import (
    FORMAT_VERSION,
    VECTORS_FILE,
    StoreManifest,
    write_manifest,
)

SNAPSHOT_VERSION = 1
BATCH = 512
_KEYS = {"id", "text", "category", "category_path", "columns"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CatalogueSnapshot:
    """The arrays of a snapshot folder; its `products.jsonl` is read line by line.

    Attributes:
        folder: Where it lies.
        as_of_day: The integer day (UTC) before which everything was counted.
        factors: ALS factors, shape (products, factor width), float32.
        neighbours: Line of each product's neighbours, from 0, shape (products, neighbours);
            -1 is padding.
        neighbour_weights: Their similarities, same shape, float32.
        gram: Shape (factor width, factor width), float64.
    """

    folder: Path
    as_of_day: int
    factors: np.ndarray
    neighbours: np.ndarray
    neighbour_weights: np.ndarray
    gram: np.ndarray

    @property
    def size(self) -> int:
        """The number of products."""
        return int(self.factors.shape[0])


def read_snapshot(folder: Path) -> CatalogueSnapshot:
    """Open a catalogue snapshot.

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
    snapshot = CatalogueSnapshot(
        folder=folder,
        as_of_day=as_of_day,
        factors=_array(folder / "factors.npy", np.float32, 2),
        neighbours=_array(folder / "neighbours.npy", np.int32, 2),
        neighbour_weights=_array(folder / "neighbour_weights.npy", np.float32, 2),
        gram=_array(folder / "gram.npy", np.float64, 2),
    )
    _check_snapshot(snapshot)
    return snapshot


def build_product_store(
    bundle: Bundle,
    graphs: Graphs,
    snapshot_folder: Path,
    out: Path,
    progress: Progress | None = None,
) -> int:
    """Build a product store at `out`, replacing what is there, and return how many products.

    Memory is bounded by the batch and the index of the ids; `out` appears complete or not at
    all.

    Args:
        bundle: Its vocabulary and `product.onnx` encode the products.
        graphs: The graphs of `bundle`.
        snapshot_folder: The catalogue snapshot.
        out: Where the store goes.
        progress: Called with products done and products in all.

    Raises:
        ProductStoreError: When the snapshot is broken or the disk refuses.
    """
    snapshot = read_snapshot(snapshot_folder)
    if snapshot.factors.shape[1] != bundle.manifest.widths.factors:
        raise ProductStoreError(
            f"factors.npy: got width {snapshot.factors.shape[1]}, want"
            f" {bundle.manifest.widths.factors} as in the bundle"
        )
    try:
        with atomic_folder(out) as temporary:
            _build(bundle, graphs, snapshot, temporary, progress)
            write_manifest(
                temporary,
                StoreManifest(
                    format_version=FORMAT_VERSION,
                    bundle_id=bundle.manifest.bundle_id,
                    products=snapshot.size,
                    as_of_day=snapshot.as_of_day,
                ),
            )
    except OSError as error:
        raise ProductStoreError(
            f"{out}: got {error.strerror or error}, want room and rights to write a product store"
        ) from error
    return snapshot.size


def _build(
    bundle: Bundle,
    graphs: Graphs,
    snapshot: CatalogueSnapshot,
    folder: Path,
    progress: Progress | None,
) -> None:
    columns = _create_columns(bundle, snapshot, folder)
    writer = ProductIdWriter(folder)
    with closing(_read_products(snapshot, bundle)) as products:
        try:
            start = 0
            while batch := list(islice(products, BATCH)):
                if start + len(batch) > snapshot.size:
                    raise ProductStoreError(
                        f"products.jsonl: got more than {snapshot.size} lines, want as many as"
                        " factors.npy has rows"
                    )
                for product in batch:
                    writer.add(product.product_id)
                _encode_batch(batch, start, graphs, bundle, columns)
                start += len(batch)
                if progress is not None:
                    progress(start, snapshot.size)
            if start != snapshot.size:
                raise ProductStoreError(
                    f"products.jsonl: got {start} lines, want {snapshot.size} as factors.npy has"
                    " rows"
                )
            _encode_batch([_unknown(bundle)], start, graphs, bundle, columns)
        finally:
            writer.discard()
    writer.close()
    np.save(folder / "gram.npy", snapshot.gram)
    for column in columns.values():
        column.flush()


@dataclass(frozen=True, slots=True)
class _Product:
    product_id: str
    text: str
    category: int
    levels: list[int]
    attributes: list[int]
    identity: int
    stats: list[float]


def _unknown(bundle: Bundle) -> _Product:
    schema = bundle.schema
    return _Product(
        product_id="",
        text="",
        category=0,
        levels=[0] * len(schema.levels),
        attributes=[0] * len(schema.attributes),
        identity=0,
        stats=[np.nan] * len(schema.product_columns),
    )


def _create_columns(
    bundle: Bundle, snapshot: CatalogueSnapshot, folder: Path
) -> dict[str, np.memmap[Any, Any]]:
    rows, schema, widths = snapshot.size + 1, bundle.schema, bundle.manifest.widths
    neighbours = snapshot.neighbours.shape[1]
    layout: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "categories": ((rows,), np.int32),
        "levels": ((rows, len(schema.levels)), np.int32),
        "attributes": ((rows, len(schema.attributes)), np.int32),
        "stats": ((rows, len(schema.product_columns)), np.float32),
        "factors": ((rows, widths.factors), np.float32),
        "neighbours": ((rows, neighbours), np.int32),
        "neighbour_weights": ((rows, neighbours), np.float32),
        "vectors": ((rows, widths.product), np.float32),
    }
    columns = {
        name: np.lib.format.open_memmap(
            folder / (VECTORS_FILE if name == "vectors" else f"{name}.npy"), "w+", dtype, shape
        )
        for name, (shape, dtype) in layout.items()
    }
    # the unknown row, last, has no neighbours and no factors
    columns["neighbours"][-1] = -1
    for start in range(0, snapshot.size, 65_536):
        part = slice(start, min(start + 65_536, snapshot.size))
        columns["neighbours"][part] = snapshot.neighbours[part]
        columns["neighbour_weights"][part] = snapshot.neighbour_weights[part]
        columns["factors"][part] = snapshot.factors[part]
    return columns


def _encode_batch(
    batch: list[_Product],
    start: int,
    graphs: Graphs,
    bundle: Bundle,
    columns: dict[str, np.memmap[Any, Any]],
) -> None:
    part = slice(start, start + len(batch))
    columns["categories"][part] = [product.category for product in batch]
    columns["levels"][part] = [product.levels for product in batch]
    columns["attributes"][part] = [product.attributes for product in batch]
    columns["stats"][part] = [product.stats for product in batch]
    inputs = product_inputs(
        ProductBatch(
            texts=[product.text for product in batch],
            categories=np.asarray(columns["categories"][part]),
            levels=np.asarray(columns["levels"][part]),
            attributes=np.asarray(columns["attributes"][part]),
            identities=np.array([product.identity for product in batch], np.int32),
            factors=np.asarray(columns["factors"][part]),
        ),
        bundle.text_encoder,
    )
    vectors = graphs.product(inputs)["vectors"]
    want = (len(batch), bundle.manifest.widths.product)
    if vectors.shape != want or not np.isfinite(vectors).all():
        raise ProductStoreError(
            f"product.onnx: got vectors {vectors.shape}, finite:"
            f" {bool(np.isfinite(vectors).all())}, want finite ones of {want}"
        )
    columns["vectors"][part] = vectors


def _read_products(snapshot: CatalogueSnapshot, bundle: Bundle) -> Generator[_Product]:
    path = snapshot.folder / "products.jsonl"
    category_rows = {name: row for row, name in enumerate(bundle.schema.categories)}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _read_product(line, f"{path}:{number}", bundle, category_rows)
    except FileNotFoundError as error:
        raise ProductStoreError(f"{path}: got no such file, want a catalogue") from error


def _read_product(
    line: bytes, where: str, bundle: Bundle, category_rows: dict[str, int]
) -> _Product:
    schema = bundle.schema
    try:
        value = json.loads(line)
        missing = (_KEYS | set(schema.attributes)) - set(value)
    except (ValueError, TypeError) as error:
        raise ProductStoreError(f"{where}: got {error}, want a JSON object") from error
    if missing:
        raise ProductStoreError(f"{where}: got no {sorted(missing)}, want it in each line")
    product_id, given = value["id"], value["columns"]
    if not isinstance(product_id, str) or not 1 <= len(product_id.encode()) <= MAX_ID_BYTES:
        raise ProductStoreError(
            f"{where}: got id {str(product_id)[:40]!r}, want a text of 1 to {MAX_ID_BYTES} bytes"
        )
    stats = []
    for column in schema.product_columns:
        if column.name not in given:
            raise ProductStoreError(
                f"{where}: got no column {column.name!r}{nearest(column.name, given)},"
                " want it in each line, null where unknown"
            )
        number = given[column.name]
        stats.append(_number(number, f"{where}: {column.name}"))
    if not isinstance(value["category_path"], list | None):
        raise ProductStoreError(
            f"{where}: got category_path {value['category_path']!r}, want a list, leaf last"
        )
    return _Product(
        product_id=product_id,
        text=value["text"] or "",
        category=category_rows.get(value["category"], 0),
        levels=bundle.vocabulary.level_rows(value["category_path"] or ()),
        attributes=bundle.vocabulary.attribute_rows([value[name] for name in schema.attributes]),
        identity=bundle.vocabulary.identity_row(product_id),
        stats=stats,
    )


def _number(value: object, what: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ProductStoreError(f"{what}: got {value!r}, want a finite number or null")
    return float(value)


def _array(path: Path, dtype: type[np.generic], dimensions: int) -> np.ndarray:
    array = map_array(path)
    if array.dtype != dtype or array.ndim != dimensions:
        raise ProductStoreError(
            f"{path}: got {array.dtype} {array.shape}, want {np.dtype(dtype)} of"
            f" {dimensions} dimensions"
        )
    return array


def _check_snapshot(snapshot: CatalogueSnapshot) -> None:
    size, width = snapshot.factors.shape
    if size == 0:
        raise ProductStoreError(f"{snapshot.folder}: got 0 products, want at least 1")
    for name in ("neighbours", "neighbour_weights"):
        shape = getattr(snapshot, name).shape
        if shape != (size, snapshot.neighbours.shape[1]):
            raise ProductStoreError(
                f"{name}.npy: got {shape}, want ({size}, {snapshot.neighbours.shape[1]})"
            )
    if snapshot.gram.shape != (width, width):
        raise ProductStoreError(f"gram.npy: got {snapshot.gram.shape}, want ({width}, {width})")
    low, high = snapshot.neighbours.min(initial=-1), snapshot.neighbours.max(initial=-1)
    if low < -1 or high >= size:
        raise ProductStoreError(f"neighbours.npy: got rows {low} to {high}, want -1 to {size - 1}")
    for name in ("factors", "neighbour_weights", "gram"):
        if not np.isfinite(getattr(snapshot, name)).all():
            raise ProductStoreError(f"{name}.npy: got a number that is not finite, want none")
