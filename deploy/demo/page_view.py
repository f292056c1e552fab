"""One page as the browser gets it: both orders, what moved and why, what was really bought."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.demo.rerank_client import RankedCandidates
from deploy.demo.retrieval.retriever import Retrieved
from deploy.demo.shop import PastProduct, Shop
from deploy.demo.titles import category_title
from trainer.evaluation.metrics import ndcg_at_k

NDCG_CUT = 10
TOP_GROUPS = 3


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the shop knows of a page beside its order.

    Attributes:
        past: What the shopper bought before, by product id.
        bought_next: What the shopper bought in the week that follows.
        retrieval_us: Microseconds that retrieval took.
    """

    past: Mapping[str, PastProduct]
    bought_next: Collection[str]
    retrieval_us: int


def page_json(
    shop: Shop, retrieved: Retrieved, ranked: RankedCandidates, facts: PageFacts
) -> dict[str, Any]:
    """The page as plain JSON values; candidates in retrieval order, `reranked` indexes them."""
    new_rank = {id_: rank for rank, id_ in enumerate(ranked.ids)}
    candidates = [
        _candidate_json(shop, retrieved, ranked, facts, retrieval_rank, new_rank[id_])
        for retrieval_rank, id_ in enumerate(retrieved.ids)
    ]
    network_us = max(ranked.round_trip_us - ranked.server_us, 0)
    return {
        "candidates": candidates,
        "reranked": list(ranked.retrieval_ranks),
        "categories": _category_counts(candidates),
        "approximate": retrieved.approximate,
        "ndcg": _ndcg_json(retrieved, ranked, facts),
        "latency_ms": {
            "retrieval": facts.retrieval_us / 1000,
            "network": network_us / 1000,
            "scoring": ranked.server_us / 1000,
            "total": (facts.retrieval_us + ranked.round_trip_us) / 1000,
            "stages": {name: us / 1000 for name, us in ranked.stages_us.items()},
        },
        "bundle_id": ranked.bundle_id,
        "degraded": (
            {"reason": ranked.degraded_reason, "detail": ranked.degraded_detail}
            if ranked.degraded_reason
            else None
        ),
    }


def _candidate_json(
    shop: Shop,
    retrieved: Retrieved,
    ranked: RankedCandidates,
    facts: PageFacts,
    retrieval_rank: int,
    rank: int,
) -> dict[str, Any]:
    id_ = retrieved.ids[retrieval_rank]
    product = shop.product(id_)
    past = facts.past.get(id_)
    return {
        "id": id_,
        "title": product.title,
        "size": product.size,
        "brand": product.brand,
        "maker": product.maker,
        "category": category_title(product.category),
        "colour": shop.category_index(product.category),
        "retrieval_rank": retrieval_rank,
        "retrieval_score": float(retrieved.scores[retrieval_rank]),
        "rank": rank,
        "movement": retrieval_rank - rank,
        "score": float(ranked.scores[rank]) if ranked.scores.size else None,
        "probabilities": {
            name: float(column[rank]) for name, column in ranked.probabilities.items()
        },
        "explanation": _top_groups(ranked, rank),
        "promoted": _is_promoted(retrieved, retrieval_rank),
        "bought_before": past.times if past else 0,
        "bought_days_ago": past.last_days if past else None,
        "bought_next": id_ in facts.bought_next,
    }


def _top_groups(ranked: RankedCandidates, rank: int) -> list[dict[str, Any]]:
    """The feature groups that moved the candidate most, up or down."""
    moved = [(group, float(column[rank])) for group, column in ranked.explanations.items()]
    moved.sort(key=lambda pair: -abs(pair[1]))
    return [
        {"group": group, "contribution": contribution}
        for group, contribution in moved[:TOP_GROUPS]
        if contribution
    ]


def _is_promoted(retrieved: Retrieved, retrieval_rank: int) -> bool:
    return any(
        name in retrieved.signals and float(retrieved.signals[name][retrieval_rank]) > 0
        for name in ("promotion_display", "promotion_mailer")
    )


def _category_counts(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The categories on the page, the largest first."""
    counts: dict[str, int] = {}
    colours: dict[str, int] = {}
    for candidate in candidates:
        name = candidate["category"]
        counts[name] = counts.get(name, 0) + 1
        colours[name] = candidate["colour"]
    largest = sorted(counts, key=lambda name: (-counts[name], name))
    return [{"category": n, "colour": colours[n], "count": counts[n]} for n in largest]


def _ndcg_json(
    retrieved: Retrieved, ranked: RankedCandidates, facts: PageFacts
) -> dict[str, Any] | None:
    """NDCG@10 of both orders, gain 1 for what was bought; None when nothing here was."""
    gains = np.array([id_ in facts.bought_next for id_ in retrieved.ids], np.float64)
    if not gains.any():
        return None
    return {
        "k": NDCG_CUT,
        "before": _ndcg(gains),
        "after": _ndcg(gains[list(ranked.retrieval_ranks)]),
        "bought": int(gains.sum()),
    }


def _ndcg(gains_in_order: npt.NDArray[np.float64]) -> float:
    offsets = np.array([0, gains_in_order.size], np.int64)
    scores = -np.arange(gains_in_order.size, dtype=np.float64)
    return float(ndcg_at_k(gains_in_order, scores, offsets, NDCG_CUT)[0])
