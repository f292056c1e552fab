"""The product store: every product's row, vector and statistics as memory-mapped columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.page import Floats, Rows
from rerank_server.contract.products import ProductTable
from rerank_server.product_ids import ProductIds, map_array

FORMAT_VERSION = 1
STORE_FILE = "store.json"
VECTORS_FILE = "vectors.npy"
_TYPES: dict[str, type[Any]] = {
    "categories": np.int32,
    "levels": np.int32,
    "attributes": np.int32,
    "stats": np.float32,
    "factors": np.float32,
    "neighbours": np.int32,
    "neighbour_weights": np.float32,
}


@dataclass(frozen=True, slots=True)
class StoreManifest:
    """What a product store says of itself.

    Attributes:
        format_version: Of the folder.
        bundle_id: The bundle whose `product.onnx` made the vectors.
        products: How many, the unknown row not counted.
        as_of_day: The integer day (UTC) before which everything was counted.
    """

    format_version: int
    bundle_id: str
    products: int
    as_of_day: int


class ProductStore:
    """A store opened for one bundle; nothing of it is loaded before it is used."""

    def __init__(self, ids: ProductIds, vectors: Floats, table: ProductTable) -> None:
        self._ids = ids
        self.vectors = vectors  # (products + 1, width)
        self.table = table

    @classmethod
    def open(cls, folder: Path, bundle: Bundle) -> ProductStore:
        """Open a store that `build_product_store` wrote with the same bundle.

        Raises:
            ProductStoreError: When the store is incomplete or was built with another bundle.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        if manifest.bundle_id != bundle.manifest.bundle_id:
            raise ProductStoreError(
                f"{folder}: got a store built with bundle {manifest.bundle_id[:12]}, want one of"
                f" {bundle.manifest.bundle_id[:12]}; build it again with `crossrank build-products`"
            )
        rows = manifest.products + 1
        schema, widths = bundle.schema, bundle.manifest.widths
        wanted: dict[str, tuple[int | None, ...]] = {
            "categories": (rows,),
            "levels": (rows, len(schema.levels)),
            "attributes": (rows, len(schema.attributes)),
            "stats": (rows, len(schema.product_columns)),
            "factors": (rows, widths.factors),
            "neighbours": (rows, None),
            "neighbour_weights": (rows, None),
        }
        columns: dict[str, Any] = {
            name: _open_column(folder / f"{name}.npy", shape, _TYPES[name])
            for name, shape in wanted.items()
        }
        gram = _open_column(folder / "gram.npy", (widths.factors, widths.factors), np.float64)
        vectors = _open_column(folder / VECTORS_FILE, (rows, widths.product), np.float32)
        ids = ProductIds.open(folder)
        if ids.size != manifest.products:
            raise ProductStoreError(f"{folder}: got {ids.size} ids, want {manifest.products}")
        table = ProductTable(**columns, gram=gram, as_of_day=manifest.as_of_day)
        return cls(ids, vectors, table)

    @property
    def size(self) -> int:
        """The number of products, the unknown row not counted."""
        return self._ids.size

    def rows(self, product_ids: Sequence[str]) -> Rows:
        """Return the row of each id, shape (ids,); the unknown row where it holds none."""
        return self._ids.rows(product_ids)


def write_manifest(folder: Path, manifest: StoreManifest) -> None:
    """Write `store.json`."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    (folder / STORE_FILE).write_text(text + "\n", encoding="utf-8")


def _read_manifest(folder: Path) -> StoreManifest:
    try:
        value = json.loads((folder / STORE_FILE).read_bytes())
        manifest = StoreManifest(**value)
    except OSError as error:
        raise ProductStoreError(
            f"{folder / STORE_FILE}: got {error.strerror or error}, want a product store"
        ) from error
    except (ValueError, TypeError) as error:
        raise ProductStoreError(
            f"{folder / STORE_FILE}: got {error}, want the keys of a product store"
        ) from error
    if manifest.format_version != FORMAT_VERSION:
        raise ProductStoreError(
            f"{folder / STORE_FILE}: got format_version {manifest.format_version!r},"
            f" want {FORMAT_VERSION}"
        )
    return manifest


def _open_column(path: Path, shape: tuple[int | None, ...], dtype: type[Any]) -> npt.NDArray[Any]:
    array = map_array(path)
    fits = len(array.shape) == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        want = tuple("any" if size is None else size for size in shape)
        raise ProductStoreError(
            f"{path}: got {array.dtype} {array.shape}, want {np.dtype(dtype)} {want}"
        )
    return array
