"""Pages with labels, whatever their format: what every ranking is trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trainer.encoding.pageset import PageSet

OBJECTIVE = "relevance"
TRAIN, VALIDATION, TEST = 0, 1, 2

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelledPages:
    """Pages of one data set.

    Attributes:
        format: One of `FORMATS`.
        protocol: How pages were cut and split, in words.
        surface: Of the network: `search` where pages have a query, else `home`.
        product_texts: By product row.
        product_categories: Category code by product row; 0 unknown.
        product_brands: Brand code by product row; 0 unknown.
        categories: Names; code c is `categories[c - 1]`.
        brands: Names; code b is `brands[b - 1]`.
        queries: Query texts.
        offsets: First candidate of each page, shape (pages + 1,).
        rows: Product row of each candidate in retrieval order, shape (rows,).
        grades: Graded relevance of each candidate, >= 0, shape (rows,).
        dense: Features, shape (rows, features); NaN is missing.
        feature_names: Names of the columns of `dense`; `own_count` is among them.
        clusters: Shopper or query of each page, what intervals resample, shape (pages,).
        page_queries: Index into `queries`, -1 none, shape (pages,).
        positives_total: Positives of each page, retrieved or not; -1 unknown, shape (pages,).
        history: Product rows of the page's past events, oldest first, -1 padded, shape
            (pages, events).
        folds: Of each fold the split of every page, -1 for none; test pages of different folds
            do not overlap.
        rankings: Rankings without learning, by name: the feature that each sorts by, "" for
            retrieval order.
        facts: What else is to be told of the data, such as counts.
    """

    format: str
    protocol: str
    surface: str
    product_texts: list[str]
    product_categories: npt.NDArray[np.int32]
    product_brands: npt.NDArray[np.int32]
    categories: tuple[str, ...]
    brands: tuple[str, ...]
    queries: list[str]
    offsets: Integers
    rows: npt.NDArray[np.int32]
    grades: npt.NDArray[np.uint8]
    dense: npt.NDArray[np.float32]
    feature_names: tuple[str, ...]
    clusters: npt.NDArray[np.int32]
    page_queries: npt.NDArray[np.int32]
    positives_total: npt.NDArray[np.int32]
    history: npt.NDArray[np.int32]
    folds: tuple[npt.NDArray[np.int8], ...]
    rankings: dict[str, str]
    facts: dict[str, float | int | str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of pages."""
        return self.offsets.size - 1

    @property
    def category_names(self) -> tuple[str, ...]:
        """Names by category row; row 0 is a product without one."""
        return ("(none)", *self.categories)

    def page_set(self) -> PageSet:
        """Return all pages as baselines and evaluation read them."""
        return PageSet(
            offsets=self.offsets,
            dense=self.dense,
            feature_names=self.feature_names,
            labels=self.grades[:, None],
            objectives=(OBJECTIVE,),
            categories=self.product_categories[self.rows],
            rows=self.rows,
            shopper=self.clusters,
            time=np.arange(self.count, dtype=np.int64),
            surface=np.zeros(self.count, np.int8),
            positives_total=self.positives_total,
        )


def codes(values: list[str]) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Return the code of each value, 1 for the first name, 0 for "", and the names in order."""
    names = sorted({value for value in values if value})
    number = {name: code for code, name in enumerate(names, start=1)}
    return np.array([number.get(value, 0) for value in values], np.int32), tuple(names)
