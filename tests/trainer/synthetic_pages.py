"""Page sets made up for the tests: popularity and own purchases tell what is bought."""

from __future__ import annotations

import numpy as np

from trainer.encoding.pageset import PageSet

FEATURES = (
    "retrieval_score",
    "retrieval_log_rank",
    "sales_28d",
    "sales_91d",
    "own_count",
    "own_decayed_60d",
    "knn_own_category",
    "knn_all",
    "als",
    "category_decayed_60d",
)
OBJECTIVES = ("purchase", "trial")


def synthetic_pages(
    pages: int = 200, *, seed: int = 0, categories: int = 3, mixed: bool = False
) -> PageSet:
    """Return pages of 5 to 19 candidates of 40 shoppers, category rows 1 to `categories`."""
    random = np.random.default_rng(seed)
    sizes = random.integers(5, 20, pages)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    count = int(offsets[-1])
    page_of_row = np.repeat(np.arange(pages), sizes)
    position = np.arange(count) - np.repeat(offsets[:-1], sizes)
    page_category = random.integers(1, categories + 1, pages)
    category = random.integers(1, categories + 1, count) if mixed else page_category[page_of_row]
    sales = random.poisson(20 / (1 + position)).astype(np.float64)
    own = random.poisson(0.25, count).astype(np.float64)
    taste = random.normal(size=count)
    utility = 0.08 * sales + 1.5 * np.minimum(own, 2) + 0.5 * taste * (category % 2)
    utility += random.gumbel(size=count)
    best = np.full(pages, -np.inf)
    np.maximum.at(best, page_of_row, utility)
    purchase = (utility == best[page_of_row]) | (utility > 4.0)
    columns = {
        "retrieval_score": np.log1p(sales) + random.normal(scale=0.3, size=count),
        "retrieval_log_rank": np.log1p(position),
        "sales_28d": sales,
        "sales_91d": 3 * sales,
        "own_count": own,
        "own_decayed_60d": own * random.uniform(0.2, 1.0, count),
        "knn_own_category": np.where(random.random(count) < 0.1, np.nan, np.maximum(taste, 0)),
        "knn_all": np.maximum(taste + random.normal(size=count), 0),
        "als": taste + random.normal(size=count),
        "category_decayed_60d": np.where(page_of_row % 10 == 0, 0.0, 3.0),
    }
    labels = np.stack([purchase, purchase & (own == 0)], axis=1).astype(np.uint8)
    reached = np.bincount(page_of_row, purchase, pages)
    return PageSet(
        offsets=offsets,
        dense=np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32),
        feature_names=FEATURES,
        labels=labels,
        objectives=OBJECTIVES,
        categories=category.astype(np.int32),
        rows=random.integers(0, 500, count).astype(np.int32),
        shopper=random.integers(0, 40, pages).astype(np.int32),
        time=np.arange(pages, dtype=np.int64) * 3600,
        surface=np.full(pages, int(mixed), np.int8),
        positives_total=(reached + random.integers(0, 2, pages)).astype(np.int32),
        page_columns={"query": np.arange(pages, dtype=np.int32)},
    )


def page_set(
    labels: list[list[int]],
    *,
    categories: list[list[int]] | None = None,
    shopper: list[int] | None = None,
    positives_total: list[int] | None = None,
    **features: list[list[float]],
) -> PageSet:
    """Return a page set written out page by page; features not given are 0."""
    sizes = [len(page) for page in labels]
    flat = np.array([label for page in labels for label in page], np.uint8)
    count = flat.size
    names = tuple(dict.fromkeys([*FEATURES, *features]))
    dense = np.zeros((count, len(names)), np.float32)
    for name, values in features.items():
        dense[:, names.index(name)] = [value for page in values for value in page]
    rows = [row for page in categories for row in page] if categories else [1] * count
    reached = [sum(page) for page in labels]
    return PageSet(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        dense=dense,
        feature_names=names,
        labels=flat[:, None],
        objectives=("purchase",),
        categories=np.array(rows, np.int32),
        rows=np.arange(count, dtype=np.int32),
        shopper=np.array(shopper or range(len(labels)), np.int32),
        time=np.arange(len(labels), dtype=np.int64),
        surface=np.zeros(len(labels), np.int8),
        positives_total=np.array(positives_total or reached, np.int32),
    )
