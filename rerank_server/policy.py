"""What happens after the scores: objectives become one score, and the score an order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rerank_server.contract.page import Floats, Rows


def objective_weights(names: tuple[str, ...], weights: Mapping[str, float]) -> Floats:
    """Return the weights in the order of `names`, shape (objectives,); left out means 0."""
    with np.errstate(over="ignore"):
        return np.array([weights.get(name, 0.0) for name in names]).astype(np.float32)


def combine_objectives(probabilities: Floats, weights: Floats) -> Floats:
    """Return the scores, shape (..., candidates): sum over objectives of weight * probability.

    Args:
        probabilities: Shape (..., candidates, objectives).
        weights: Shape (objectives,).
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        scores: Floats = (probabilities * weights).sum(axis=-1, dtype=np.float32)
    return scores


def order_by_score(scores: Floats, top_k: int | None) -> Rows:
    """Return retrieval ranks, best score first, at most `top_k`; ties keep retrieval order."""
    return np.argsort(-scores, kind="stable")[:top_k].astype(np.int32)
