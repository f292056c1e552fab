"""Products for tests that change them; the numbers of one product follow from its version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rerank_server.live_products import LiveProducts
from rerank_server.product_store import ProductStore
from rerank_server.reranker import Reranker


def product(product_id: str, version: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a product whose price is its version and whose sales are twice that."""
    return {
        "id": product_id,
        "text": "fresh milk",
        "category": "dairy" if version % 2 else "pet",
        "category_path": ["milk"],
        "brand": "Acme",
        "size": None,
        "columns": {"price": version, "sales_28d": 2 * version},
    } | fields


def version_of(store: ProductStore, product_id: str) -> int:
    """Return the version of a product, 0 when there is none; fails on a half of one."""
    row = int(store.rows([product_id])[0])
    if row == store.table.unknown_row:
        return 0
    price, sales = store.table.stats[row].tolist()
    version = int(price)
    category = 1 if version % 2 else 2
    assert sales == 2 * price
    assert store.table.categories[row] == category
    np.testing.assert_allclose(store.vectors[row][0], category / 10, atol=1e-6)
    return version


def open_live(folders, changes: Path, **options: Any) -> tuple[Reranker, LiveProducts]:
    """Return a reranker of the tiny store with the changes of a folder."""
    reranker = Reranker.open(folders.bundle, folders.products, threads=1)
    live = LiveProducts(changes, **options)
    live.attach(reranker, folders.products)
    return reranker, live
