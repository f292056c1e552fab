"""Reading a prepared folder: the catalogue, the interactions and the pages of a log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import nearest
from trainer.errors import PreparedError
from trainer.logs.prepared_files import FORMAT_VERSION, MANIFEST

# Attribute of `Prepared` -> file, without its suffix.
FILES: dict[str, str] = {
    "product_categories": "products_category",
    "product_leaves": "products_leaf",
    "product_middles": "products_middle",
    "product_brands": "products_brand",
    "product_sizes": "products_size",
    "shopper_offsets": "interactions_shopper_offsets",
    "interaction_rows": "interactions_row",
    "interaction_times": "interactions_time",
    "interaction_places": "interactions_place",
    "interaction_quantities": "interactions_quantity",
    "interaction_prices": "interactions_price",
    "interaction_discounts": "interactions_discount",
    "page_shoppers": "pages_shopper",
    "page_times": "pages_time",
    "page_places": "pages_place",
    "page_queries": "pages_query",
    "page_surfaces": "pages_surface",
    "page_splits": "pages_split",
    "page_categories": "pages_category",
    "page_positives_total": "pages_positives_total",
    "page_offsets": "pages_offsets",
    "candidate_rows": "candidates_row",
    "candidate_scores": "candidates_retrieval_score",
    "candidate_signals": "candidates_signals",
    "candidate_labels": "candidates_labels",
    "candidate_sources": "candidates_source",
}
# Attributes of `Prepared` that are lists of names.
NAMES = ("categories", "queries", "shoppers", "places")

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared log, memory-mapped.

    Attributes:
        path: The folder.
        manifest: Names, counts, settings and figures.
        categories: Names of the task categories; code `c` is `categories[c - 1]`, 0 unknown.
        queries: Query texts.
        shoppers: Shopper ids.
        places: Place ids.
        product_categories: Task category code, int32; `categories[code - 1]`, 0 unknown.
        product_leaves: Leaf code, int32, 1-based into `leaves.json`.
        product_middles: Code of the level above, int32, 1-based into `middles.json`.
        product_brands: Brand code, int32, 1-based into `brands.json`; 0 none.
        product_sizes: Package size code, int32, 1-based into `sizes.json`; 0 none.
        shopper_offsets: First interaction of each shopper, int64, (shoppers + 1,).
        interaction_rows: Product row, int32; sorted by shopper, time, row.
        interaction_times: Unix seconds, int64.
        interaction_places: int32; -1 unknown.
        interaction_quantities: float32.
        interaction_prices: Unit price before discounts, float32; NaN missing.
        interaction_discounts: Share of the price taken off, float32, in [0, 1].
        page_shoppers: Shopper index, int32, shape (pages,).
        page_times: Unix seconds, int64, not decreasing.
        page_places: int32; -1 unknown.
        page_queries: int32 into `queries`; -1 none.
        page_surfaces: int8 into the manifest's `surfaces`.
        page_splits: int8 into the manifest's `splits`.
        page_categories: Task category code, int32; 0 where the page mixes categories.
        page_positives_total: Positives of the page, retrieved or not, int32.
        page_offsets: First candidate of each page, int64, shape (pages + 1,).
        candidate_rows: Product row in retrieval order, int32, shape (candidates,).
        candidate_scores: float32.
        candidate_signals: float32, shape (candidates, signals); NaN missing.
        candidate_labels: Shape (candidates, objectives), uint8 where every objective is binary,
            else float32.
        candidate_sources: Bits of the manifest's `candidate_sources`, uint8.
    """

    path: Path
    manifest: dict[str, Any]
    categories: tuple[str, ...]
    queries: tuple[str, ...]
    shoppers: tuple[str, ...]
    places: tuple[str, ...]
    product_categories: Rows
    product_leaves: Rows
    product_middles: Rows
    product_brands: Rows
    product_sizes: Rows
    shopper_offsets: Ints
    interaction_rows: Rows
    interaction_times: Ints
    interaction_places: Rows
    interaction_quantities: Floats
    interaction_prices: Floats
    interaction_discounts: Floats
    page_shoppers: Rows
    page_times: Ints
    page_places: Rows
    page_queries: Rows
    page_surfaces: npt.NDArray[np.int8]
    page_splits: npt.NDArray[np.int8]
    page_categories: Rows
    page_positives_total: Rows
    page_offsets: Ints
    candidate_rows: Rows
    candidate_scores: Floats
    candidate_signals: Floats
    candidate_labels: Labels | Floats
    candidate_sources: Labels

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signal columns."""
        return tuple(self.manifest["signals"])

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the label columns."""
        return tuple(self.manifest["objectives"])

    @property
    def surfaces(self) -> tuple[str, ...]:
        """Names of the surfaces."""
        return tuple(self.manifest["surfaces"])

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.manifest["splits"])

    @property
    def content_hash(self) -> str:
        """Hash of everything the folder's content depends on."""
        return str(self.manifest["fingerprint"])

    @property
    def size(self) -> int:
        """The number of products."""
        return int(self.product_categories.shape[0])

    @property
    def page_count(self) -> int:
        """The number of pages."""
        return int(self.page_times.shape[0])

    def products(self) -> list[dict[str, Any]]:
        """Return the catalogue in row order."""
        with (self.path / "products.jsonl").open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def names(self, table: str) -> tuple[str, ...]:
        """Return the names behind the codes of `leaves`, `middles`, `brands` or `sizes`."""
        return tuple(_read_json(self.path / f"{table}.json"))

    def page(self, index: int) -> slice:
        """Return where the candidates of a page lie."""
        return slice(int(self.page_offsets[index]), int(self.page_offsets[index + 1]))

    def pages_of(self, split: str, surface: str | None = None) -> Ints:
        """Return the indices of the pages of a split, and of a surface, ascending.

        Raises:
            PreparedError: The split or surface is unknown.
        """
        chosen = self.page_splits == _index(self.splits, split, "split")
        if surface is not None:
            chosen = chosen & (self.page_surfaces == _index(self.surfaces, surface, "surface"))
        return np.flatnonzero(chosen).astype(np.int64)


def read_prepared(path: Path) -> Prepared:
    """Open a prepared folder.

    Raises:
        PreparedError: It is missing, incomplete, or of another format.
    """
    if not (path / MANIFEST).is_file():
        raise PreparedError(f"prepared folder: got no {MANIFEST} in {path}, want one")
    manifest = _read_json(path / MANIFEST)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise PreparedError(
            f"format_version: got {manifest.get('format_version')}, want {FORMAT_VERSION}"
        )
    columns: dict[str, Any] = {
        name: _map_array(path / f"{file}.npy") for name, file in FILES.items()
    }
    columns |= {name: tuple(_read_json(path / f"{name}.json")) for name in NAMES}
    return Prepared(path=path, manifest=manifest, **columns)


def _map_array(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise PreparedError(f"prepared folder: got no {path.name}, want it") from error
    except ValueError as error:
        raise PreparedError(f"{path.name}: got no whole numpy array: {error}") from error
    return array


def _read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PreparedError(f"prepared folder: got no {path.name}, want it") from error
    except ValueError as error:
        raise PreparedError(f"{path.name}: got no JSON: {error}") from error


def _index(names: tuple[str, ...], name: str, kind: str) -> int:
    if name not in names:
        raise PreparedError(
            f"{kind}: got {name!r}, want one of {', '.join(names)}{nearest(name, names)}"
        )
    return names.index(name)
