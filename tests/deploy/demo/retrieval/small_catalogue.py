"""A catalogue that a reader can order by eye, and a random one."""

from __future__ import annotations

import numpy as np

from deploy.demo.retrieval.catalogue import Catalogue, CatalogueProduct, PlaceRows, PlaceTable

NAN = float("nan")

# id, text, category, sales_56d
SMALL = (
    ("whole", "dairy milk whole 1 gal", "dairy", 30),
    ("skim", "dairy milk skim 1 gal", "dairy", 90),
    ("oat", "dairy milk-style oat drink", "dairy", 3),
    ("twin", "dairy milk whole 1 gal", "dairy", 30),
    ("bar", "candy milk chocolate bar", "candy", 50),
    ("gum", "candy gum", "candy", 0),
    ("jack", "meat MONTEREY-JACK'S ham & cheese", "meat", 7),
    ("cafe", "beverages CAFÉ au lait 0.5 l", "beverages", 12),
)


def product(
    id_: str, text: str, category: str, sales_56d: float, vector: list[float] | None = None
) -> CatalogueProduct:
    return CatalogueProduct(
        id=id_,
        text=text,
        category=category,
        category_path=("shop", category),
        brand="national",
        sales_28d=sales_56d // 2,
        sales_56d=sales_56d,
        sales_91d=sales_56d * 2,
        vector=None if vector is None else np.array(vector, np.float32),
    )


def place_rows(entries: dict[int, tuple[float, float, float, float]]) -> PlaceRows:
    """Rows to (sales_28d, sales_91d, display, mailer)."""
    columns = np.array([entries[row] for row in sorted(entries)], np.float32).reshape(-1, 4)
    return PlaceRows(np.array(sorted(entries), np.int32), *columns.T.copy())


def small_catalogue() -> Catalogue:
    """Place `north` sells oat drink and promotes oat drink, bar and twin; `south` is new."""
    north = place_rows(
        {
            0: (0, 1, 0, 0),
            2: (5, 24, 2, NAN),
            3: (0, 0, 0, 1),
            4: (1, 2, 3, 4),
            7: (0, 2, NAN, NAN),
        }
    )
    products = [product(*row, vector=[1.0, place]) for place, row in enumerate(SMALL)]
    return Catalogue(products, PlaceTable({"north": north, "south": place_rows({})}))


def random_catalogue(seed: int, product_count: int = 400) -> Catalogue:
    """Many equal and nearly equal scores, five places."""
    random = np.random.default_rng(seed)
    vocabulary = np.array(["milk", "bread", "ham", "oats", "tea", "coffee", "cola", "rice"])
    products = []
    for row in range(product_count):
        text = " ".join(random.choice(vocabulary, size=4))
        category = str(random.choice(["a", "b", "c"]))
        products.append(product(f"p{row}", text, category, float(random.integers(0, 9))))
    by_place = {}
    for place in range(5):
        rows = np.sort(random.choice(product_count, product_count // 3, replace=False))
        columns = random.integers(0, 4, size=(4, rows.size)).astype(np.float32)
        columns[2:][random.random((2, rows.size)) < 0.1] = NAN
        by_place[f"place{place}"] = PlaceRows(rows.astype(np.int32), *columns)
    return Catalogue(products, PlaceTable(by_place))
