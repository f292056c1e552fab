"""Pages of four features in three groups, and scorers that are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rerank_server.contract.ablation import Neutral
from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.schema import FeatureSpec, Schema, SignalSpec, normalise
from trainer.explanations.pages import LoggedPage

SCHEMA = Schema(
    features=(
        FeatureSpec("retrieval_score", "retrieval"),
        FeatureSpec("price", "price"),
        FeatureSpec("price_page_ratio", "price"),
        FeatureSpec("promoted", "promotion"),
    ),
    product_columns=(),
    signals=(SignalSpec("promoted"),),
    levels=("leaf", "middle"),
    attributes=("brand", "size"),
    surfaces=("search",),
    event_kinds=("purchase",),
    objectives=("purchase",),
    categories=("(any)", "dairy"),
)
NEUTRAL = Neutral(np.zeros(2, np.float32), np.zeros(2, np.float32))


def hand_made_page(
    dense: Sequence[Sequence[float]] | np.ndarray,
    *,
    number: int = 0,
    gains: Sequence[float] | None = None,
    category: int = 0,
) -> LoggedPage:
    """Return a page that says nothing but its raw features; of no query, past or product."""
    raw = np.array(dense, np.float32)
    count = raw.shape[0]
    scored = ScorerPage(
        query_vector=np.zeros(2, np.float32),
        surface=0,
        candidate_vectors=np.zeros((count, 2), np.float32),
        categories=np.full(count, category, np.int32),
        dense=normalise(SCHEMA, raw),
        sequence_vectors=np.zeros((0, 2), np.float32),
        sequence_features=np.zeros((0, 5), np.float32),
    )
    return LoggedPage(
        number=number,
        scored=scored,
        dense=raw,
        rows=np.arange(count),
        gains=np.array(gains if gains is not None else [0.0] * count),
        shopper=number,
    )


def of_features(formula: Callable[[np.ndarray], np.ndarray]):
    """Return a scorer of the features alone; `formula` takes (candidates, features)."""

    def score(pages):
        return [formula(page.dense.astype(np.float64)) for page in pages]

    return score
