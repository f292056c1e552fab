"""What retrieval searches: the products of a shop, and what its places sold and promote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deploy.demo.errors import CatalogueError, RetrievalRequestError
from rerank_server.contract.errors import nearest
from rerank_server.contract.page import Flags, Floats, Rows

# Elasticsearch takes no longer document ids.
ID_BYTES_LIMIT = 512

Vector: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CatalogueProduct:
    """One product as retrieval knows it.

    Attributes:
        id: Unique, 1 to 512 bytes of UTF-8.
        text: What queries are matched against.
        category: The task category.
        category_path: Category names, the leaf last.
        brand: None where there is none.
        sales_28d: Units sold anywhere in the last 28 days, >= 0.
        sales_56d: The same over 56 days.
        sales_91d: The same over 91 days.
        vector: Product vector, shape (dims,), not all zeros; None where there is none.
        price: In the shop's currency; None where unknown.
    """

    id: str
    text: str
    category: str
    category_path: tuple[str, ...]
    brand: str | None
    sales_28d: float
    sales_56d: float
    sales_91d: float
    vector: Vector | None = None
    price: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlaceRows:
    """What one place sold lately and promotes this week; arrays of equal length.

    Products that are not listed were not sold there and are not promoted.

    Attributes:
        rows: Catalogue rows, ascending, each once.
        sales_28d: Units sold there in the last 28 days, >= 0.
        sales_91d: The same over 91 days.
        promotion_display: Code of the display location, 0 is none; NaN unknown.
        promotion_mailer: Code of the mailer location, 0 is none; NaN unknown.
    """

    rows: Rows
    sales_28d: Floats
    sales_91d: Floats
    promotion_display: Floats
    promotion_mailer: Floats

    @property
    def promoted(self) -> Flags:
        """Which of `rows` are on display or in the mailer; unknown counts as no."""
        return (self.promotion_display > 0) | (self.promotion_mailer > 0)


@dataclass(frozen=True, slots=True, eq=False)
class PlaceTable:
    """The shop's places by id."""

    by_place: Mapping[str, PlaceRows]

    def of(self, place: str) -> PlaceRows:
        """The rows of `place`.

        Raises:
            RetrievalRequestError: The place is not known.
        """
        try:
            return self.by_place[place]
        except KeyError:
            raise RetrievalRequestError(
                f"place: got {place!r}, want one of {len(self.by_place)} known places"
                f"{nearest(place, self.by_place)}"
            ) from None


class Catalogue:
    """Products by row, with columns for ordering and a hash of all of it.

    Attributes:
        products: In the order given; a product's place in it is its row.
        places: What the places sold and promote.
        row_of: Row of each product id.
        sales_56d: Shape (products,).
        dims: Length of the product vectors; None where no product has one.
    """

    def __init__(self, products: Iterable[CatalogueProduct], places: PlaceTable) -> None:
        """Check and keep the products and places.

        Raises:
            CatalogueError: No products, an id twice or too long, a sales figure that is negative
                or not finite, vectors of several lengths or of length 0, place rows out of order.
        """
        self.products = tuple(products)
        self.places = places
        if not self.products:
            raise CatalogueError("products: got 0, want at least 1")
        self.row_of = _rows_by_id(self.products)
        sales = np.array(
            [(product.sales_28d, product.sales_56d, product.sales_91d) for product in self.products]
        )
        bad = np.flatnonzero(~(np.isfinite(sales) & (sales >= 0)).all(axis=1))
        if bad.size:
            raise CatalogueError(
                f"sales of product {self.products[bad[0]].id!r}: got {sales[bad[0]].tolist()}, "
                "want finite numbers >= 0"
            )
        self.sales_56d: Floats = sales[:, 1].astype(np.float32)
        self.dims = _vector_dims(self.products)
        for place, listed in places.by_place.items():
            _check_place(place, listed, len(self.products))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything an index is built from, in hexadecimal."""
        digest = hashlib.sha256(b"catalogue 1")
        for product in self.products:
            *fields, vector, price = astuple(product)
            digest.update(json.dumps([*fields, price]).encode())
            digest.update(b"" if vector is None else np.asarray(vector, np.float32).tobytes())
        for place in sorted(self.places.by_place):
            digest.update(json.dumps(place).encode())
            listed = self.places.by_place[place]
            for column in (listed.rows.astype(np.int64), *_place_columns(listed).values()):
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    @cached_property
    def rows_by_category(self) -> dict[str, Rows]:
        """Ascending rows of each category."""
        grouped: dict[str, list[int]] = {}
        for row, product in enumerate(self.products):
            grouped.setdefault(product.category, []).append(row)
        return {category: np.array(rows, np.int32) for category, rows in grouped.items()}

    def category_rows(self, category: str) -> Rows:
        """Ascending rows of `category`.

        Raises:
            RetrievalRequestError: The category is not known.
        """
        try:
            return self.rows_by_category[category]
        except KeyError:
            raise RetrievalRequestError(
                f"category: got {category!r}, want one of {len(self.rows_by_category)} known "
                f"categories{nearest(category, self.rows_by_category)}"
            ) from None

    def rows_of_ids(self, ids: Sequence[str]) -> Rows:
        """Rows of `ids` in their order, each once; ids the catalogue lacks are left out."""
        known = dict.fromkeys(self.row_of[id_] for id_ in ids if id_ in self.row_of)
        return np.fromiter(known, np.int32, len(known))


def _rows_by_id(products: Sequence[CatalogueProduct]) -> dict[str, int]:
    row_of: dict[str, int] = {}
    for row, product in enumerate(products):
        length = len(product.id.encode())
        if not 1 <= length <= ID_BYTES_LIMIT:
            raise CatalogueError(
                f"id of product {row} ({product.id[:20]!r}): got {length} bytes, "
                f"want 1 to {ID_BYTES_LIMIT}"
            )
        if row_of.setdefault(product.id, row) != row:
            raise CatalogueError(
                f"id {product.id!r}: got it for products {row_of[product.id]} and {row}, "
                "want each id once"
            )
    return row_of


def _vector_dims(products: Sequence[CatalogueProduct]) -> int | None:
    dims: int | None = None
    for product in products:
        if product.vector is None:
            continue
        dims = dims or product.vector.size
        length = float(np.linalg.norm(product.vector))
        if product.vector.shape != (dims,) or not np.isfinite(length) or length == 0:
            raise CatalogueError(
                f"vector of product {product.id!r}: got shape {product.vector.shape} and length "
                f"{length}, want shape ({dims},) and a finite length > 0"
            )
    return dims


def _place_columns(listed: PlaceRows) -> dict[str, Floats]:
    return {
        "sales_28d": listed.sales_28d,
        "sales_91d": listed.sales_91d,
        "promotion_display": listed.promotion_display,
        "promotion_mailer": listed.promotion_mailer,
    }


def _check_place(place: str, listed: PlaceRows, product_count: int) -> None:
    rows = listed.rows
    if rows.size and (rows[0] < 0 or rows[-1] >= product_count or (np.diff(rows) <= 0).any()):
        raise CatalogueError(
            f"rows of place {place!r}: got rows out of order or range, "
            f"want ascending rows from 0 to {product_count - 1}, each once"
        )
    for name, column in _place_columns(listed).items():
        if column.shape != rows.shape:
            raise CatalogueError(
                f"{name} of place {place!r}: got shape {column.shape}, want {rows.shape}"
            )
        known = column if name.startswith("sales") else column[~np.isnan(column)]
        if not (np.isfinite(known) & (known >= 0)).all():
            raise CatalogueError(
                f"{name} of place {place!r}: got a negative or not finite number, "
                "want numbers >= 0 (NaN for a promotion not known)"
            )
