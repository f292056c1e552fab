"""A cleaned log as integer-coded numpy columns, sorted for windows and histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.errors import CategoryConflictError, EmptyTableError
from trainer.logs.labels import value_column
from trainer.logs.log import Log

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ProductArrays:
    """The catalogue in row order: ids ascending as strings.

    Attributes:
        records: One mapping per product: id, text, category, category_path, brand, size.
        categories: Names of the task categories; code `c` is `categories[c - 1]`, 0 is unknown.
        leaves: Category paths joined by " > ", coded as the categories are.
        middles: The paths one level above the leaves.
        brands: Brand names, coded alike; 0 is none.
        sizes: Package sizes, coded alike; 0 is none.
        category: int32, shape (products,).
        leaf: int32, shape (products,).
        middle: int32, shape (products,).
        brand: int32, shape (products,).
        size: int32, shape (products,).
    """

    records: list[dict[str, Any]]
    categories: list[str]
    leaves: list[str]
    middles: list[str]
    brands: list[str]
    sizes: list[str]
    category: Rows
    leaf: Rows
    middle: Rows
    brand: Rows
    size: Rows

    @property
    def count(self) -> int:
        """The number of products."""
        return len(self.records)


@dataclass(frozen=True, slots=True)
class InteractionArrays:
    """Interactions sorted by shopper, time, product row.

    Attributes:
        shoppers: Shopper ids, ascending as strings.
        places: Place ids, ascending as strings.
        shopper: int32, shape (interactions,).
        row: Product row, int32.
        time: Unix seconds, int64.
        place: int32; -1 unknown.
        period: Promotion period, int32; -1 none.
        quantity: float32.
        price: Unit price before discounts, float32, NaN missing.
        discount: Share of the price that was taken off, float32, in [0, 1].
        shopper_offsets: First interaction of each shopper, int64, shape (shoppers + 1,).
        kinds: Names of the kinds of interactions; empty where no label asks for one.
        kind: Index into `kinds`, int32; empty alike.
        values: Further columns that labels read, float64, NaN missing.
    """

    shoppers: list[str]
    places: list[str]
    shopper: Rows
    row: Rows
    time: Ints
    place: Rows
    period: Rows
    quantity: Floats
    price: Floats
    discount: Floats
    shopper_offsets: Ints
    kinds: tuple[str, ...] = ()
    kind: Rows = field(default_factory=lambda: np.empty(0, np.int32))
    values: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of interactions."""
        return int(self.row.shape[0])

    @property
    def day(self) -> Ints:
        """Integer day (UTC) of each interaction."""
        return self.time // SECONDS_PER_DAY


@dataclass(frozen=True, slots=True)
class LogArrays:
    """The coded log."""

    products: ProductArrays
    interactions: InteractionArrays


def encode_log(log: Log) -> LogArrays:
    """Code ids as rows and sort the tables.

    Raises:
        EmptyTableError: No product or no interaction is left.
        CategoryConflictError: A product has no category path.
    """
    products = _encode_products(log)
    return LogArrays(products, _encode_interactions(log, products))


def _encode_products(log: Log) -> ProductArrays:
    table = log.products.sort("id")
    if not len(table):
        raise EmptyTableError("products: got 0 rows after cleaning, want 1 or more")
    columns = {
        name: table[name].to_list()
        for name in ("id", "text", "category", "category_path", "brand", "size")
    }
    paths = [tuple(path) for path in columns["category_path"]]
    if not all(paths):
        bare = columns["id"][[bool(path) for path in paths].index(False)]
        raise CategoryConflictError(f"products: got no category path for {bare!r}, want one")
    leaves, leaf = _code([" > ".join(path) for path in paths])
    middles, middle = _code([" > ".join(path[:-1] or path) for path in paths])
    categories, category = _code(columns["category"])
    brands, brand = _code(columns["brand"])
    sizes, size = _code(columns["size"])
    names = list(columns)
    return ProductArrays(
        records=[
            dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)
        ],
        categories=categories,
        leaves=leaves,
        middles=middles,
        brands=brands,
        sizes=sizes,
        category=category,
        leaf=leaf,
        middle=middle,
        brand=brand,
        size=size,
    )


def _code(values: list[str | None]) -> tuple[list[str], Rows]:
    """Return the distinct names ascending and the 1-based code of each value, 0 for none."""
    names = sorted({value for value in values if value is not None})
    codes = {name: code for code, name in enumerate(names, start=1)}
    return names, np.array([codes[v] if v is not None else 0 for v in values], np.int32)


def _encode_interactions(log: Log, products: ProductArrays) -> InteractionArrays:
    table = log.interactions
    if not len(table):
        raise EmptyTableError("interactions: got 0 rows after cleaning, want 1 or more")
    buyers, _ = rank_ids(table, "shopper")
    searchers = log.searches["shopper"].unique().to_list() if log.searches is not None else []
    shoppers = sorted({*buyers, *searchers})
    shopper = look_up(table, "shopper", shoppers)
    places, place = rank_ids(table, "place")
    ids = [record["id"] for record in products.records]
    row = look_up(table, "product", ids)
    time = table["time"].to_numpy().astype(np.int64)
    order = np.lexsort((row, time, shopper))
    counts = np.bincount(shopper, minlength=len(shoppers))
    kinds, kind = rank_ids(table, "kind") if "kind" in table.columns else ([], shopper[:0])
    further = [name for name in table.columns if name.startswith(value_column(""))]
    return InteractionArrays(
        shoppers=shoppers,
        places=places,
        shopper=shopper[order],
        row=row[order],
        time=time[order],
        place=place[order],
        period=table["period"].to_numpy().astype(np.int32)[order],
        quantity=table["quantity"].to_numpy().astype(np.float32)[order],
        price=table["price"].to_numpy().astype(np.float32)[order],
        discount=table["discount"].to_numpy().astype(np.float32)[order],
        shopper_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        kinds=tuple(kinds),
        kind=kind[order] if kinds else kind,
        values={
            name.removeprefix(value_column("")): to_doubles(table, name)[order] for name in further
        },
    )


def to_doubles(table: nw.DataFrame[Any], column: str) -> npt.NDArray[np.float64]:
    """Return a column of numbers; null becomes NaN."""
    numbers = table[column].cast(nw.Float64()).fill_null(float("nan"))
    return numbers.to_numpy().astype(np.float64)


def rank_ids(table: nw.DataFrame[Any], column: str) -> tuple[list[str], Rows]:
    """Return the distinct ids ascending and the rank of each value; null gets -1."""
    ids = table.select(column).unique().drop_nulls().sort(column)[column].to_list()
    return ids, look_up(table, column, ids)


def look_up(table: nw.DataFrame[Any], column: str, ids: list[str]) -> Rows:
    """Return the position of each value in `ids`, -1 where it is null or not among them."""
    index = nw.from_dict(
        {column: ids, "position": np.arange(len(ids), dtype=np.int32)},
        schema={column: nw.String(), "position": nw.Int32()},
        backend=table.implementation,
    )
    numbered = table.select(column).with_row_index("original")
    joined = numbered.join(index, on=column, how="left").sort("original")
    return joined["position"].fill_null(-1).to_numpy().astype(np.int32)
