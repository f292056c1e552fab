"""What is bought together and after one another: item-kNN, its sequential form, random walks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

MOST_EVENTS = 100  # of one shopper: pairs grow with the square
_STEPS = 3  # events that count as shortly after
_BACKWARD = 0.5  # of what came before, and of what came at any distance
_POPULARITY = 0.4
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Fitted on events of one stretch of the past.

    Attributes:
        together: Cosine of two products' shoppers, shape (products, products), diagonal zero.
        after: Strength with which column follows row, alike.
        walk: Chance of a walk from row over a shopper to column, popular columns held back, alike.
        counts: Events of each product, shape (products,).
    """

    together: csr_matrix
    after: csr_matrix
    walk: csr_matrix
    counts: Doubles


def fit_neighbours(shoppers: Integers, products: Integers, size: int) -> Neighbours:
    """Fit every kind of neighbours.

    together(a, b) = |shoppers of a and b| / sqrt(|shoppers of a| |shoppers of b|) (Sarwar et al.
    2001); after(a, b) = sum over b at most three events after a of 1 / gap, plus half of that
    from b to a and half of the shoppers of both, divided by sqrt(count(a) count(b)) (sequential
    item-kNN, Ludewig and Jannach 2018, without its decay); walk(a, b) = sum over shoppers u of
    both of 1 / (|shoppers of a| |products of u|), divided by |shoppers of b|^0.4 (RP3beta,
    Paudel et al. 2016). Of a shopper the latest `MOST_EVENTS` events count.

    Args:
        shoppers: Shopper of each event, sorted, shape (events,).
        products: Product row of each event, in the shopper's order, shape (events,).
        size: The number of products.
    """
    if shoppers.size:
        ends = np.searchsorted(shoppers, shoppers, side="right")
        kept = ends - np.arange(shoppers.size) <= MOST_EVENTS
        shoppers, products = shoppers[kept], products[kept]
    counts = np.bincount(products, minlength=size).astype(np.float64)
    _, owner = np.unique(shoppers, return_inverse=True)
    shape = (int(owner.max(initial=-1)) + 1, size)
    bought = csr_matrix((np.ones(products.size), (owner, products)), shape=shape)
    bought.sum_duplicates()
    bought.data[:] = 1.0
    together = csr_matrix(bought.T @ bought)
    shoppers_of = np.asarray(bought.sum(axis=0)).ravel()
    onwards = _followers(owner, products, size)
    followers = csr_matrix(onwards + _BACKWARD * onwards.T + _BACKWARD * together)
    return Neighbours(
        _cosine(together, shoppers_of),
        _cosine(followers, counts),
        _walk(bought, shoppers_of),
        counts,
    )


def _walk(bought: csr_matrix, shoppers_of: Doubles) -> csr_matrix:
    share = csr_matrix(bought.multiply(1.0 / np.maximum(bought.sum(axis=1), 1.0)))
    matrix = csr_matrix(bought.T @ share)
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    matrix.data /= shoppers_of[row] * shoppers_of[matrix.indices] ** _POPULARITY
    matrix.data[row == matrix.indices] = 0.0
    return matrix


def _followers(owner: Integers, products: Integers, size: int) -> csr_matrix:
    first, second, weight = [], [], []
    for gap in range(1, _STEPS + 1):
        same = (owner[gap:] == owner[:-gap]) & (products[gap:] != products[:-gap])
        first.append(products[:-gap][same])
        second.append(products[gap:][same])
        weight.append(np.full(int(same.sum()), 1.0 / gap))
    return csr_matrix(
        (np.concatenate(weight), (np.concatenate(first), np.concatenate(second))),
        shape=(size, size),
    )


def _cosine(matrix: csr_matrix, counts: Doubles) -> csr_matrix:
    """Divide by the square roots of both products' counts; a product is no neighbour of itself."""
    matrix.sum_duplicates()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    matrix.data /= np.sqrt(counts[row] * counts[matrix.indices])
    matrix.data[row == matrix.indices] = 0.0
    return matrix


def look_up(matrix: csr_matrix, weights: csr_matrix, page: Integers, rows: Integers) -> Doubles:
    """Return sum over h of weights(p, h) * matrix(h, c) for each candidate c of a page p.

    Args:
        matrix: Of products and products.
        weights: Of pages and products: what each page's past weighs.
        page: Page of each candidate, ascending, shape (rows,).
        rows: Product row of each candidate, shape (rows,).
    """
    found = np.zeros(rows.size)
    for start in range(0, weights.shape[0], _AT_ONCE):
        stop = min(start + _AT_ONCE, weights.shape[0])
        first, last = np.searchsorted(page, [start, stop])
        scored = csr_matrix(weights[start:stop] @ matrix)
        scored.sort_indices()
        width = scored.shape[1]
        keys = np.repeat(np.arange(stop - start), np.diff(scored.indptr)) * width + scored.indices
        wanted = (page[first:last] - start) * width + rows[first:last]
        if keys.size:
            place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
            found[first:last] = np.where(keys[place] == wanted, scored.data[place], 0.0)
    return found
