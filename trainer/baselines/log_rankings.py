"""Rankings without learning that a report shows when asked: slower than `baselines.baselines`.

All have one interface: they fit on what a log holds from before each page, and score its pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from rerank_server.contract.errors import nearest
from trainer.baselines.decayed_popularity import decayed_popularity_scores
from trainer.baselines.item_knn import item_knn_scores
from trainer.baselines.nearest_shoppers import user_knn_scores
from trainer.baselines.session_knn import session_knn_scores
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, PageSet
from trainer.evaluation.evaluation import EvaluationError

LogRanking: TypeAlias = Callable[[EncodedLog, PageSet], Doubles]

LOG_RANKINGS: dict[str, LogRanking] = {
    "item-knn": item_knn_scores,
    "user-knn": user_knn_scores,
    "session-knn": session_knn_scores,
    "decayed-popularity": decayed_popularity_scores,
}


def chosen_rankings(names: Sequence[str]) -> dict[str, LogRanking]:
    """Return the rankings of these names, each once.

    Raises:
        EvaluationError: When there is no such ranking.
    """
    for name in names:
        if name not in LOG_RANKINGS:
            raise EvaluationError(
                f"baselines: got {name!r}, want some of {', '.join(LOG_RANKINGS)}"
                f"{nearest(name, LOG_RANKINGS)}"
            )
    return {name: LOG_RANKINGS[name] for name in names}
