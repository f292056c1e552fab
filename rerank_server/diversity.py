"""Orders that trade relevance for unlikeness of product vectors: MMR and greedy DPP MAP."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rerank_server.contract.page import Flags, Floats, Rows

Doubles = npt.NDArray[np.float64]

# Below this gain a candidate adds nothing unlike to the chosen ones; beyond it lies rounding.
_LEAST_GAIN = 1e-10


def unit_vectors(vectors: Floats, known: Flags) -> Doubles:
    """Return the vectors at length 1, shape (candidates, width); zeros where unknown.

    Unknown products share one vector, which says nothing of how alike they are.
    """
    wide = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    usable = known & (lengths > 0) & np.isfinite(lengths)
    scaled = np.zeros_like(wide)
    scaled[usable] = wide[usable] / lengths[usable, np.newaxis]
    return scaled


def mmr_order(relevance: Floats, vectors: Doubles, count: int, relevance_weight: float) -> Rows:
    """Return up to `count` candidates by maximal marginal relevance.

    Each next candidate is argmax_i [w * r_i - (1 - w) * max_{j chosen} v_i . v_j] (Carbonell and
    Goldstein 1998, with w for their lambda), r scaled to [0, 1] over the candidates. Ties keep
    the order given.

    Args:
        relevance: Shape (candidates,), best first.
        vectors: Of length 1 or 0, shape (candidates, width).
        count: How many to choose, at most the candidates there are.
        relevance_weight: w, 0 to 1.
    """
    weighted = relevance_weight * _to_unit(relevance)
    nearest = np.zeros(weighted.shape[0])
    chosen: list[int] = []
    for _ in range(min(count, weighted.shape[0])):
        best = int(np.argmax(weighted - (1 - relevance_weight) * nearest))
        likeness = np.einsum("ij,j->i", vectors, vectors[best])
        nearest = likeness if not chosen else np.maximum(nearest, likeness)
        chosen.append(best)
        weighted[best] = -np.inf  # never again
    return np.array(chosen, np.int32)


def dpp_order(relevance: Floats, vectors: Doubles, count: int, relevance_weight: float) -> Rows:
    """Return up to `count` candidates by greedy MAP inference of a determinantal process.

    L_ij = q_i S_ij q_j with q = exp(w r / (2 (1 - w))), S_ij = (1 + v_i . v_j) / 2 and S_ii = 1;
    each next candidate adds most to log det L, by the incremental Cholesky factor of Chen,
    Zhang and Zhou 2018, algorithm 1. r is scaled to [0, 1] over the candidates. Ties keep the
    order given. Fewer than `count` come back when nothing unlike is left.

    Args:
        relevance: Shape (candidates,), best first.
        vectors: Of length 1 or 0, shape (candidates, width).
        count: How many to choose, at most the candidates there are.
        relevance_weight: w, 0 to .99.
    """
    size = relevance.shape[0]
    # log of the gain: 2 log q_i + log d_i^2; q leaves the factor, which keeps it in range
    quality = relevance_weight / (1 - relevance_weight) * _to_unit(relevance)
    gains = np.ones(size)  # d_i^2
    factor = np.zeros((min(count, size), size))
    left = np.zeros(size)
    chosen: list[int] = []
    for step in range(min(count, size)):
        left[gains < _LEAST_GAIN] = -np.inf
        best = int(np.argmax(quality + np.log(np.maximum(gains, _LEAST_GAIN)) + left))
        if left[best] < 0:
            break
        likeness = (1 + np.einsum("ij,j->i", vectors, vectors[best])) / 2
        likeness[best] = 1
        before = np.einsum("ki,k->i", factor[:step], factor[:step, best])
        factor[step] = (likeness - before) / np.sqrt(gains[best])
        gains = gains - factor[step] ** 2
        chosen.append(best)
        left[best] = -np.inf
    return np.array(chosen, np.int32)


def _to_unit(relevance: Floats) -> Doubles:
    wide = relevance.astype(np.float64)
    low, high = wide.min(initial=np.inf), wide.max(initial=-np.inf)
    if not high > low:
        return np.zeros(wide.shape[0])
    scaled: Doubles = (wide - low) / (high - low)
    return scaled
