"""Scores from what other shoppers bought: item-kNN and ALS, folded in from the page's past."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.page import Floats, Rows
from rerank_server.contract.products import ProductTable


def knn_scores(
    rows: Rows,
    slots: Rows,
    past_rows: Rows,
    past_weights: Floats,
    products: ProductTable,
) -> tuple[Floats, Floats]:
    """Sum the similarities of each candidate to the shopper's past products.

    score(c) = sum over past products h of weight(h) * similarity(h, c), the item-based
    neighbourhood model of Deshpande and Karypis (2004), split by whether h is of the
    candidate's own category.

    Args:
        rows: Product row of each candidate, shape (candidates,).
        slots: Position of each product among the candidates, -1 elsewhere, shape
            (products + 1,).
        past_rows: Distinct known products of the past, shape (past,).
        past_weights: Recency weight of each, shape (past,).
        products: Holds the neighbours.

    Returns:
        Scores from the candidate's own category and from all others, each shape (candidates,).
    """
    neighbours = products.neighbours[past_rows]  # (past, neighbours)
    # -1 pads the neighbours and reads the unknown row, whose slot is always -1
    position = slots[neighbours]
    past, column = np.nonzero(position >= 0)
    if past.shape[0] == 0:
        zeros = np.zeros(rows.shape[0], np.float32)
        return zeros, zeros
    candidate = position[past, column]
    bought = past_rows[past]
    weights = products.neighbour_weights[bought, column] * past_weights[past]
    same = products.categories[bought] == products.categories[rows][candidate]
    size = rows.shape[0]
    own = np.bincount(candidate[same], weights[same], minlength=size)
    other = np.bincount(candidate[~same], weights[~same], minlength=size)
    return own.astype(np.float32), other.astype(np.float32)


def als_scores(
    rows: Rows,
    past_rows: Rows,
    past_weights: Floats,
    products: ProductTable,
    *,
    regularisation: float,
    confidence: float,
) -> Floats:
    """Score candidates with ALS, the shopper's factor folded in from the past alone.

    x = (Y'Y + Y'(C - I)Y + lambda I)^-1 Y'C p with C - I = confidence * weight
    (Hu, Koren and Volinsky 2008, eq. 4).

    Returns:
        The dot products with the candidates' factors, shape (candidates,); zeros for a
        shopper without a past.
    """
    if past_rows.shape[0] == 0:
        return np.zeros(rows.shape[0], np.float32)
    factors = products.factors[past_rows].astype(np.float64)  # (past, width)
    extra = confidence * past_weights.astype(np.float64)
    left = products.gram + (factors * extra[:, None]).T @ factors
    left.flat[:: left.shape[0] + 1] += regularisation  # the diagonal
    shopper = np.linalg.solve(left, factors.T @ (1.0 + extra))
    return (products.factors[rows] @ shopper.astype(np.float32)).astype(np.float32)
