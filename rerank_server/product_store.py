"""The product store: every product's row, vector and statistics as memory-mapped columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.contract.page import Rows
from rerank_server.contract.products import ProductTable
from rerank_server.product_columns import map_column
from rerank_server.product_ids import ProductIds
from rerank_server.product_overlay import ProductOverlay
from rerank_server.product_vectors import Vectors, map_vectors

FORMAT_VERSION = 2
STORE_FILE = "store.json"
COLUMN_TYPES: dict[str, type[Any]] = {
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
        products: How many.
        rows: Rows of the columns without the unknown one; more than products where some were
            removed.
        as_of_day: The integer day (UTC) before which everything was counted.
        origin: Names the build that it comes from; stores compacted from it keep the name.
        vectors: What the vectors are stored as.
        loss: What that costs on the golden pages, by figure; empty when nothing.
        changes_through: Number of the newest change of products that it holds.
        changes_log: Name of the log that numbers them; empty when it holds none.
    """

    format_version: int
    bundle_id: str
    products: int
    rows: int
    as_of_day: int
    origin: str
    vectors: str = "float32"
    loss: dict[str, float] = field(default_factory=dict)
    changes_through: int = 0
    changes_log: str = ""

    def is_of(self, other: StoreManifest) -> bool:
        """Return whether both describe the same files: of one build, with the same changes."""
        return (self.origin, self.changes_through) == (other.origin, other.changes_through)


class ProductStore:
    """A store opened for one bundle; nothing of it is loaded before it is used."""

    def __init__(
        self,
        ids: ProductIds,
        vectors: Vectors,
        table: ProductTable,
        manifest: StoreManifest | None = None,
        overlay: ProductOverlay | None = None,
    ) -> None:
        self._ids = ids
        self.vectors = vectors  # (rows + 1, width)
        self.table = table
        self.manifest = manifest
        self.overlay = overlay  # changes since; None where the store takes none

    @classmethod
    def open(cls, folder: Path, bundle: Bundle, *, spare_rows: int = 0) -> ProductStore:
        """Open a store that `build_product_store` wrote with the same bundle.

        Args:
            folder: Where it lies.
            bundle: Its bundle.
            spare_rows: Room for changed products, which this process alone sees; 0 takes none.

        Raises:
            ProductStoreError: When the store is incomplete, was built with another bundle, or is
                replaced meanwhile.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest.bundle_id != bundle.manifest.bundle_id:
            raise ProductStoreError(
                f"{folder}: got a store built with bundle {manifest.bundle_id[:12]}, want one of"
                f" {bundle.manifest.bundle_id[:12]}; build it again with `crossrank store build`"
            )
        rows = manifest.rows + 1
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
            name: map_column(folder / f"{name}.npy", shape, dtype, spare_rows=spare_rows)
            for name, dtype in COLUMN_TYPES.items()
            for shape in (wanted[name],)
        }
        gram = map_column(folder / "gram.npy", (widths.factors, widths.factors), np.float64)
        vectors = map_vectors(
            folder, manifest.vectors, (rows, widths.product), spare_rows=spare_rows
        )
        ids = ProductIds.open(folder)
        if (ids.size, ids.row_count) != (manifest.products, manifest.rows):
            raise ProductStoreError(
                f"{folder}: got {ids.size} ids in {ids.row_count} rows, want"
                f" {manifest.products} in {manifest.rows}"
            )
        overlay = None
        if spare_rows:
            overlay = ProductOverlay(columns, vectors, first_row=manifest.rows)
            columns["named_as"] = overlay.named_as
        table = ProductTable(**columns, gram=gram, as_of_day=manifest.as_of_day)
        # files of two stores may fit each other by chance
        if not manifest.is_of(read_manifest(folder)):
            raise ProductStoreError(
                f"{folder}: got a store that was replaced while it was opened, want it to stay;"
                " open it again"
            )
        return cls(ids, vectors, table, manifest, overlay)

    @property
    def size(self) -> int:
        """The number of products, the unknown row not counted."""
        return self._ids.size + (self.overlay.added if self.overlay else 0)

    def rows(self, product_ids: Sequence[str]) -> Rows:
        """Return the row of each id, shape (ids,); the unknown row where it holds none."""
        rows = self._ids.rows(product_ids)
        return rows if self.overlay is None else self.overlay.current(product_ids, rows)

    def base_rows(self, product_ids: Sequence[str]) -> Rows:
        """Return the row of each id in the files; their last one where they hold none."""
        return self._ids.rows(product_ids)


def write_manifest(folder: Path, manifest: StoreManifest) -> None:
    """Write `store.json`."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    (folder / STORE_FILE).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> StoreManifest:
    """Read `store.json`.

    Raises:
        ProductStoreError: When it is missing, broken, or of another format.
    """
    path = Path(folder) / STORE_FILE
    try:
        value = json.loads(path.read_bytes())
        version = value["format_version"]
    except OSError as error:
        raise ProductStoreError(
            f"{path}: got {error.strerror or error}, want a product store"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ProductStoreError(
            f"{path}: got {error!r}, want the keys of a product store"
        ) from error
    if version != FORMAT_VERSION:
        raise ProductStoreError(
            f"{path}: got format_version {version!r}, want {FORMAT_VERSION}; build it again with"
            " `crossrank store build`"
        )
    try:
        return StoreManifest(**value)
    except TypeError as error:
        raise ProductStoreError(f"{path}: got {error}, want the keys of a product store") from error


def store_bytes(folder: Path) -> int:
    """Return the bytes of a store's files."""
    return sum(path.stat().st_size for path in Path(folder).iterdir() if path.is_file())
