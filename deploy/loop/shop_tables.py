"""Catalogue and past purchases of a shop, as two files of JSON lines in one folder.

`products.jsonl` has `id`, `title`, `category_path` (a list) and `brand`; `interactions.jsonl` has
`shopper`, `product` and `time` (Unix seconds). Both are what the trainer's `tables` adapter reads.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.loop.errors import ShopTablesError
from trainer.atomic_text import write_text

PRODUCTS_FILE = "products.jsonl"
INTERACTIONS_FILE = "interactions.jsonl"
_SHOPPER_BYTES = 8

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ShopTables:
    """A shop's catalogue and what was bought there.

    Attributes:
        product_ids: In the order of the file.
        titles: Text of each product.
        category_paths: From the widest to the narrowest category of each.
        brands: Empty where unknown.
        shoppers: Shopper ids.
        buyers: Index into `shoppers` of each purchase, shape (purchases,).
        bought: Index into `product_ids`, alike.
        times: Unix seconds, alike, not decreasing.
    """

    product_ids: tuple[str, ...]
    titles: tuple[str, ...]
    category_paths: tuple[tuple[str, ...], ...]
    brands: tuple[str, ...]
    shoppers: tuple[str, ...]
    buyers: Ints
    bought: Ints
    times: Ints

    @property
    def categories(self) -> tuple[str, ...]:
        """The widest category of each product."""
        return tuple(path[0] for path in self.category_paths)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The narrowest category of each product."""
        return tuple(path[-1] for path in self.category_paths)


def read_shop_tables(folder: Path) -> ShopTables:
    """Read the two files.

    Raises:
        ShopTablesError: When one is missing or a line lacks what it must have.
    """
    products = read_lines(folder / PRODUCTS_FILE, ("id", "title", "category_path"))
    purchases = read_lines(folder / INTERACTIONS_FILE, ("shopper", "product", "time"))
    if not products or not purchases:
        raise ShopTablesError(f"{folder}: got an empty table, want products and interactions")
    rows = {str(each["id"]): row for row, each in enumerate(products)}
    if len(rows) < len(products):
        raise ShopTablesError(f"{PRODUCTS_FILE}: got a repeated id, want each product once")
    bare = [each["id"] for each in products if not each["category_path"]]
    if bare:
        raise ShopTablesError(f"{PRODUCTS_FILE}: got no category of {bare[0]!r}, want one")
    known = [each for each in purchases if str(each["product"]) in rows]
    known.sort(key=lambda each: int(each["time"]))
    shoppers = sorted({str(each["shopper"]) for each in known})
    index = {shopper: row for row, shopper in enumerate(shoppers)}
    return ShopTables(
        product_ids=tuple(rows),
        titles=tuple(str(each["title"]) for each in products),
        category_paths=tuple(tuple(map(str, each["category_path"])) for each in products),
        brands=tuple(str(each.get("brand") or "") for each in products),
        shoppers=tuple(shoppers),
        buyers=np.array([index[str(each["shopper"])] for each in known], np.int64),
        bought=np.array([rows[str(each["product"])] for each in known], np.int64),
        times=np.array([int(each["time"]) for each in known], np.int64),
    )


def read_lines(path: Path, wanted: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Read a file of JSON lines, each an object that has the `wanted` members.

    Raises:
        ShopTablesError: When the file or a line is not that.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ShopTablesError(f"{path}: got {error.strerror}, want JSON lines") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ShopTablesError(f"{path}:{number}: got {error}, want JSON") from error
        missing = [name for name in wanted if not isinstance(row, dict) or name not in row]
        if missing:
            raise ShopTablesError(f"{path}:{number}: got no {missing[0]}, want it")
        rows.append(row)
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines; the file is whole or not there."""
    write_text(path, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))


def hashed_shopper(shopper: str) -> str:
    """Return 16 hexadecimal digits in place of a shopper's id."""
    return hashlib.blake2b(shopper.encode(), digest_size=_SHOPPER_BYTES).hexdigest()


def write_complete_journey_slice(
    folder: Path, *, households: int, products_per_category: int, categories: int, seed: int
) -> None:
    """Write a slice of the Complete Journey as a shop's two files.

    Taken are the most sold products of the largest departments, and households drawn from those
    that bought them. Needs the extra `demo`, which brings the data.
    """
    import polars as pl  # noqa: PLC0415 - only this function needs data frames

    from trainer.logs.complete_journey import package_folder  # noqa: PLC0415

    source = package_folder()
    catalogue = pl.read_parquet(source / "products.parquet").with_columns(
        pl.col("product_id").cast(pl.String)
    )
    sales = pl.read_parquet(
        source / "transactions.parquet",
        columns=["household_id", "product_id", "transaction_timestamp"],
    ).with_columns(pl.col("product_id").cast(pl.String), pl.col("household_id").cast(pl.String))
    described = catalogue.drop_nulls(["department", "product_category", "product_type"])
    sold = sales.group_by("product_id").len("sold").join(described, on="product_id")
    largest = (
        sold.group_by("department")
        .agg(pl.col("sold").sum())
        .sort(["sold", "department"], descending=[True, False])
        .head(categories)
    )
    chosen = (
        sold.join(largest.select("department"), on="department")
        .sort(["sold", "product_id"], descending=[True, False])
        .group_by("department", maintain_order=True)
        .head(products_per_category)
    )
    bought = sales.join(chosen.select("product_id"), on="product_id")
    names = bought["household_id"].unique().sort().to_list()
    random = np.random.default_rng(seed)
    kept = random.choice(names, min(households, len(names)), replace=False).tolist()
    past = bought.filter(pl.col("household_id").is_in(kept)).sort(
        "transaction_timestamp", "household_id", "product_id"
    )
    rows = [
        {
            "id": each["product_id"],
            "title": f"{each['product_type']} {each['product_id']}".lower(),
            "category_path": [
                each["department"].lower(),
                each["product_category"].lower(),
                each["product_type"].lower(),
            ],
            "brand": str(each["manufacturer_id"]),
        }
        for each in chosen.sort("product_id").iter_rows(named=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / PRODUCTS_FILE, rows)
    times = past["transaction_timestamp"].dt.epoch("s").to_list()
    write_lines(
        folder / INTERACTIONS_FILE,
        [
            {"shopper": hashed_shopper(household), "product": product, "time": time}
            for household, product, time in zip(
                past["household_id"], past["product_id"], times, strict=True
            )
        ],
    )
