"""The product table: columns of every product by row, as of one day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rerank_server.contract.page import Floats, Rows


@dataclass(frozen=True, slots=True)
class ProductTable:
    """Columns of every product; the last row stands for any unknown product.

    All statistics are taken from whole days before `as_of_day`.

    Attributes:
        categories: Category row of each product, shape (products + 1,); 0 is neutral.
        levels: Node rows of the category path, leaf first, shape (products + 1, levels);
            0 is unknown.
        attributes: Rows of brand, size and so on, shape (products + 1, attributes); 0 is none.
        stats: One column per `Schema.product_columns`, shape (products + 1, columns); NaN
            is missing.
        factors: ALS factors, shape (products + 1, width); zeros when there are none.
        neighbours: Rows of the products most often bought by the same shoppers, shape
            (products + 1, neighbours); -1 is padding.
        neighbour_weights: Their similarities, same shape; 0 for padding.
        gram: `factors.T @ factors`, shape (width, width), float64; fixed when factors are fitted.
        as_of_day: The integer day (UTC) before which everything was counted.
        named_as: From rows to those under which `neighbours` names their products, where products
            were changed since; None where they are the same.
    """

    categories: Rows
    levels: Rows
    attributes: Rows
    stats: Floats
    factors: Floats
    neighbours: Rows
    neighbour_weights: Floats
    gram: np.ndarray
    as_of_day: int
    named_as: Callable[[Rows], Rows] | None = None

    @property
    def unknown_row(self) -> int:
        """The row that stands for a product the table does not hold."""
        return int(self.categories.shape[0]) - 1
