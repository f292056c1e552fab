"""Records of searches for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rerank_server.gateway.record import SearchRecord, StageLatency

STARTED = datetime(2026, 3, 2, 10, 0, 0, 250, tzinfo=UTC)


def search_record(query_id: str = "q-1", **changes: Any) -> SearchRecord:
    """A search for milk: four candidates of two categories, the last of which went first."""
    record = SearchRecord(
        query_id=query_id,
        query="milk",
        index="products",
        started=STARTED,
        finished=STARTED + timedelta(milliseconds=20),
        candidate_ids=("a", "b", "c", "d"),
        retrieval_scores=(4.0, 3.0, float("nan"), 1.0),
        reranked_ids=("d", "a", "b", "c"),
        scores=(0.9, 0.5, 0.25, 0.125),
        categories=("dairy", "dairy", "", "snacks"),
        shown_ids=("d", "a"),
        total_hits=4,
        bundle_id="bundle-1",
        variant="current",
        shopper="0123456789abcdef",
        application="shop",
        surface="search",
        latency=StageLatency(total_ms=20.0, elasticsearch_ms=12.0, rerank_ms=5.0, score_ms=3.0),
    )
    return replace(record, **changes)
