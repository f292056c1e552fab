"""The document of one search: the fields of UBI 1.3.0 as they are, and what CrossRank adds.

UBI: https://github.com/o19s/ubi, `schema/1.3.0/query.request.schema.json`. The mapping is
`es_plugin_config/elasticsearch/_component_template/crossrank-ubi-queries.json` and
`crossrank-search.json`; lists are stored in the order in which they are written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rerank_server.gateway.record import SearchRecord, StageLatency

STREAM = "crossrank-searches"
FIRST_PLACES = 10
_ID_BYTES = 16
_LABEL_CHARS = 100
_DETAIL_CHARS = 256
_DECIMALS_MS = 3
_DECIMALS_SCORE = 6


@dataclass(frozen=True, slots=True)
class DocumentRules:
    """What of a search is written down.

    Attributes:
        query_text: Whether the query's text is; without it `user_query` is empty.
        query_chars: Characters of the text that are kept.
        client_ids: Whether the hashes of shopper and session are.
        products: Longest list of products that is kept, in each order.
    """

    query_text: bool = True
    query_chars: int = 256
    client_ids: bool = True
    products: int = 200


@dataclass(frozen=True, slots=True)
class Document:
    """One document and its id.

    Attributes:
        document_id: Hash of the body, so that the same search is never stored twice.
        body: JSON, UTF-8, one line.
    """

    document_id: str
    body: bytes


def search_document(search: SearchRecord, rules: DocumentRules) -> Document:
    """Return the document of one search."""
    fields = _without_empty(_ubi_fields(search, rules) | _own_fields(search, rules))
    fields.setdefault("user_query", "")  # required by UBI
    line = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    body = line.encode("utf-8", errors="replace")
    document_id = hashlib.blake2b(body, digest_size=_ID_BYTES).hexdigest()
    return Document(document_id, body)


def moved_places(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """Return by how many places each product of `after` moved, without sign.

    Products that `before` lacks are left out; of one named twice the last place counts.
    """
    ranks = {product: rank for rank, product in enumerate(before)}
    return [abs(rank - ranks[product]) for rank, product in enumerate(after) if product in ranks]


def _ubi_fields(search: SearchRecord, rules: DocumentRules) -> dict[str, Any]:
    started = _utc(search.started)
    return {
        "@timestamp": started,
        "timestamp": started,
        "application": search.application[:_LABEL_CHARS],
        "query_id": search.query_id[:_LABEL_CHARS],
        "client_id": search.shopper if rules.client_ids else "",
        "user_query": search.query[: rules.query_chars] if rules.query_text else "",
        "object_id_field": search.object_id_field,
        "query_response_hit_ids": list(search.shown_ids[: rules.products]),
        "query_attributes": _without_empty(
            {
                "surface": search.surface[:_LABEL_CHARS],
                "variant": search.variant,
                "bundle_id": search.bundle_id,
            }
        ),
    }


def _own_fields(search: SearchRecord, rules: DocumentRules) -> dict[str, Any]:
    before, after = search.candidate_ids, search.reranked_ids
    moved = moved_places(before, after)
    first = set(before[:FIRST_PLACES])
    category_of = dict(zip(before, search.categories, strict=False))
    return {
        "bundle_id": search.bundle_id,
        "variant": search.variant,
        "surface": search.surface[:_LABEL_CHARS],
        "index": search.index[:_DETAIL_CHARS],
        "session_id": search.session_id if rules.client_ids else "",
        "trace_id": search.trace_id,
        "opaque_id": search.opaque_id[:_DETAIL_CHARS],
        "experiment": _without_empty(
            {
                name: str(search.experiment[name])[:_LABEL_CHARS]
                for name in ("id", "arm")
                if name in search.experiment
            }
        ),
        "status": search.elasticsearch_status,
        "degraded": search.degraded,
        "degraded_reason": search.degraded_reason,
        "degraded_detail": search.degraded_detail[:_DETAIL_CHARS],
        "history": {"source": search.history_source, "events": search.history_events},
        "latency": _latency(search.latency),
        "candidates": len(before),
        "unknown_candidates": search.unknown_candidates,
        "total_hits": search.total_hits,
        "total_is_exact": None if search.total_hits is None else search.total_is_exact,
        "shown_from": search.shown_from,
        "moved": {
            "mean": round(sum(moved) / len(moved), _DECIMALS_MS) if moved else 0.0,
            "max": max(moved, default=0),
            "top10": sum(product not in first for product in after[:FIRST_PLACES]),
        },
        "categories": {
            "before": _categories(before, category_of),
            "after": _categories(after, category_of),
        },
        "products": {
            "before": list(before[: rules.products]),
            "after": list(after[: rules.products]),
            "retrieval_scores": _scores(search.retrieval_scores[: rules.products]),
            "scores": _scores(search.scores[: rules.products]),
        },
    }


def _latency(latency: StageLatency) -> dict[str, float]:
    own_ms = latency.total_ms - latency.elasticsearch_ms - latency.rerank_ms
    stages = {
        "total_ms": latency.total_ms,
        "gateway_ms": max(own_ms, 0.0),
        "retrieval_ms": latency.elasticsearch_ms,
        "took_ms": latency.elasticsearch_took_ms,
        "events_ms": latency.events_ms,
        "rerank_ms": latency.rerank_ms,
        "queue_ms": latency.queue_ms,
        "lookup_ms": latency.lookup_ms,
        "query_ms": latency.query_ms,
        "encode_ms": latency.encode_ms,
        "score_ms": latency.score_ms,
        "policy_ms": latency.policy_ms,
    }
    return {name: round(value, _DECIMALS_MS) for name, value in stages.items()}


def _categories(products: Sequence[str], category_of: dict[str, str]) -> list[str]:
    """Return the categories of the first places, in their order, unknown ones left out."""
    named = (category_of.get(product, "") for product in products[:FIRST_PLACES])
    return [category for category in named if category]


def _scores(scores: Sequence[float]) -> list[float | None]:
    return [round(score, _DECIMALS_SCORE) if math.isfinite(score) else None for score in scores]


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that say something: what is absent is not the same as "" or []."""
    kept = {}
    for name, value in fields.items():
        held = _without_empty(value) if isinstance(value, dict) else value
        if held is None or held in ("", [], {}):
            continue
        kept[name] = held
    return kept


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
