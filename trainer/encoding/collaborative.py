"""Fits item-kNN and ALS on the purchases before a day; `implicit` does the arithmetic."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from implicit.utils import ParameterWarning
from scipy.sparse import csr_matrix

from rerank_server.contract.page import Floats, Rows
from trainer.encoding.counts import Purchases


@dataclass(frozen=True, slots=True)
class CollaborativeFit:
    """Neighbours and factors of every product and, last, of the unknown one.

    Attributes:
        cutoff_day: Only purchases of days before it were seen.
        neighbours: Shape (products + 1, neighbours), -1 is padding.
        neighbour_weights: Cosine similarities, same shape.
        factors: ALS factors, shape (products + 1, width); zeros for a product never bought.
        gram: `factors.T @ factors`, float64.
    """

    cutoff_day: int
    neighbours: Rows
    neighbour_weights: Floats
    factors: Floats
    gram: npt.NDArray[np.float64]


def fit_collaborative(
    purchases: Purchases,
    products: int,
    cutoff_day: int,
    *,
    neighbours: int = 100,
    factors: int = 32,
    seed: int = 0,
    previous: CollaborativeFit | None = None,
) -> CollaborativeFit:
    """Fit on the purchases of days before `cutoff_day`.

    ALS factors are fixed up to a rotation only; given a `previous` fit they are turned onto
    it (orthogonal Procrustes, Schönemann 1966), which changes no score and keeps a product's
    factors comparable from fit to fit.
    """
    stop = int(np.searchsorted(purchases.days, cutoff_day))
    shoppers, rows = purchases.shoppers[:stop], purchases.rows[:stop]
    shape = (int(purchases.shoppers.max(initial=0)) + 1, products)
    counts = csr_matrix((np.ones(stop, np.float32), (shoppers, rows)), shape=shape)
    counts.sum_duplicates()
    near, weights = _fit_neighbours(counts, neighbours)
    latent = _fit_factors(counts, factors, seed)
    if previous is not None:
        left, _, right = np.linalg.svd(latent.T @ previous.factors[:-1])
        latent = (latent @ (left @ right)).astype(np.float32)
    latent = np.vstack([latent, np.zeros((1, factors), np.float32)])
    return CollaborativeFit(
        cutoff_day=cutoff_day,
        neighbours=near,
        neighbour_weights=weights,
        factors=latent,
        gram=latent.astype(np.float64).T @ latent.astype(np.float64),
    )


def _fit_neighbours(counts: csr_matrix, size: int) -> tuple[Rows, Floats]:
    """Return the `size` nearest products of each by the cosine of their shoppers."""
    seen = counts.copy()
    seen.data[:] = 1.0
    model = CosineRecommender(K=size + 1)  # one more, since a product is its own nearest
    with warnings.catch_warnings():
        # implicit transposes its input and then warns of the outcome's type
        warnings.simplefilter("ignore", ParameterWarning)
        model.fit(seen, show_progress=False)
    similarity = model.similarity.tocsr()
    products = similarity.shape[0]
    near = np.full((products + 1, size), -1, np.int32)
    weights = np.zeros((products + 1, size), np.float32)
    owner = np.repeat(np.arange(products), np.diff(similarity.indptr))
    other, value = similarity.indices, similarity.data
    keep = (owner != other) & (value > 0)
    owner, other, value = owner[keep], other[keep], value[keep]
    order = np.lexsort((other, -value, owner))
    owner, other, value = owner[order], other[order], value[order]
    starts = np.searchsorted(owner, np.arange(products))
    column = np.arange(owner.shape[0]) - starts[owner]
    keep = column < size
    near[owner[keep], column[keep]] = other[keep]
    weights[owner[keep], column[keep]] = value[keep]
    return near, weights


def _fit_factors(counts: csr_matrix, width: int, seed: int) -> Floats:
    """Return ALS item factors, shape (products, width); zeros where nothing was bought."""
    confidence = counts.copy()
    confidence.data = np.log1p(confidence.data)
    model = AlternatingLeastSquares(
        factors=width,
        regularization=10.0,
        alpha=8.0,
        iterations=10,
        random_state=seed,
        num_threads=0,
    )
    model.fit(confidence, show_progress=False)
    factors = np.asarray(model.item_factors, np.float32)
    factors[np.asarray(counts.sum(axis=0)).ravel() == 0] = 0.0
    return factors
