"""Which feature groups moved each candidate, by leaving out one group at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rerank_server.contract.ablation import (
    Neutral,
    explained_groups,
    present_groups,
    without_groups,
)
from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.page import Floats
from rerank_server.contract.schema import Schema


def group_contributions(
    page: ScorerPage,
    scores: Floats,
    schema: Schema,
    neutral: Neutral,
    score: Callable[[Sequence[ScorerPage]], Sequence[Floats]],
) -> dict[str, Floats]:
    """Return each candidate's score minus its score on the page without a group, by group.

    Groups of which the page says nothing are exactly 0 and are not scored.

    Args:
        page: What the scorer saw, its vectors in memory.
        scores: What it gave, shape (candidates,).
        schema: Of the bundle.
        neutral: What stands for the product and the query.
        score: Scores several pages in one call, each of shape (candidates,).
    """
    moved = {group: np.zeros_like(scores) for group in explained_groups(schema)}
    present = present_groups(page, schema, neutral)
    if present:
        pages = [without_groups(page, (group,), schema, neutral) for group in present]
        for group, without in zip(present, score(pages), strict=True):
            moved[group] = scores - without
    return moved
