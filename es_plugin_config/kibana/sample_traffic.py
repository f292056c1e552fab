"""An hour of made-up traffic, to try the dashboards on and to test every panel.

Searches go through the gateway's own record type and telemetry's own documents; shoppers click
by position and by nothing else, so no figure says anything of CrossRank. Everything comes from
one seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np

from es_plugin_config.kibana.measures import CLICK_RATE, OFFLINE_METRIC
from rerank_server.gateway.record import SearchRecord, StageLatency
from rerank_server.telemetry.document import Document, DocumentRules, search_document

Json: TypeAlias = dict[str, Any]
APPLICATION = "sample"
CATEGORIES = ("dairy", "bakery", "produce", "snacks", "beverages", "household", "pets", "toys")
_BRANDS_PER_CATEGORY = 4
_PRODUCTS = 480
_SHOWN = 10
_HOUR_S = 3_600
_NEW, _EMPTY, _DEGRADED, _CANARY, _OUTLET, _FAILED = 0.1, 0.03, 0.04, 0.2, 0.2, 0.02
_CLICKED_FIRST, _CART_OF_CLICK, _PURCHASE_OF_CART = 0.35, 0.3, 0.6
_REFUSED_ROUND = 3
_BUNDLES = {"current": "5e7a" * 16, "canary": "c0de" * 16}
_REASONS = ("deadline", "overloaded", "unavailable")
_METRICS = (CLICK_RATE, "conversion", "mrr")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Documents by data stream."""

    streams: Mapping[str, list[Document]]


@dataclass(frozen=True, slots=True)
class _Product:
    product_id: str
    category: str
    brand: str
    is_new: bool
    price: float


def sample_traffic(end: datetime, *, searches: int = 600, seed: int = 8) -> Traffic:
    """Return the hour that ends at `end`, which is not included."""
    random = np.random.default_rng(seed)
    start = end - timedelta(seconds=_HOUR_S)
    products = _products(random)
    found: list[Document] = []
    events: list[Document] = []
    for number in range(searches):
        at = start + timedelta(seconds=float(random.uniform(0, _HOUR_S - 60)))
        search = _search(random, products, number, at)
        found.append(search_document(search, DocumentRules()))
        events += [_document(event) for event in _events(random, products, search)]
    return Traffic(
        {
            "crossrank-searches": found,
            "ubi_events": events,
            "crossrank-learning": [_document(each) for each in _learning(random, start)],
            "crossrank-experiments": [_document(each) for each in _experiments(random, start)],
        }
    )


def _products(random: np.random.Generator) -> dict[str, _Product]:
    products = {}
    for number in range(_PRODUCTS):
        category = CATEGORIES[int(len(CATEGORIES) * random.beta(1.0, 1.6))]
        brand = f"{category}-brand-{int(random.integers(_BRANDS_PER_CATEGORY)) + 1}"
        product_id = f"{1000 + number}"
        products[product_id] = _Product(
            product_id,
            category,
            brand,
            is_new=_happens(random, _NEW),
            price=round(float(random.lognormal(1.2, 0.6)), 2),
        )
    return products


def _search(
    random: np.random.Generator, products: Mapping[str, _Product], number: int, at: datetime
) -> SearchRecord:
    wanted = CATEGORIES[int(len(CATEGORIES) * random.beta(1.0, 1.6))]
    empty = _happens(random, _EMPTY)
    ids = list(products)
    likely = np.array([8.0 if products[each].category == wanted else 1.0 for each in ids])
    count = 0 if empty else int(random.integers(20, 101))
    before = tuple(
        str(each) for each in random.choice(ids, count, replace=False, p=likely / likely.sum())
    )
    reason = str(random.choice(_REASONS)) if _happens(random, _DEGRADED) else ""
    scores = -np.arange(count) / 12 + random.normal(size=count)
    order = np.arange(count) if reason else np.argsort(-scores, kind="stable")
    after = tuple(before[rank] for rank in order)
    variant = "canary" if _happens(random, _CANARY) else "current"
    latency = _latency(random, degraded=bool(reason))
    return SearchRecord(
        query_id=f"sample-{number:05d}",
        query=f"{wanted} {int(random.integers(5)) + 1}" if not empty else f"misspelt {wanted}",
        index="products-outlet" if _happens(random, _OUTLET) else "products",
        started=at,
        finished=at + timedelta(milliseconds=latency.total_ms),
        candidate_ids=before,
        retrieval_scores=tuple(float(20 - rank / 10) for rank in range(count)),
        reranked_ids=after,
        scores=() if reason else tuple(float(scores[rank]) for rank in order),
        categories=tuple(products[each].category for each in before),
        shown_ids=after[:_SHOWN],
        total_hits=count,
        bundle_id="" if reason else _BUNDLES[variant],
        variant=variant,
        degraded_reason=reason,
        degraded_detail=f"made up: {reason}" if reason else "",
        shopper=hashlib.blake2b(str(random.integers(200)).encode(), digest_size=8).hexdigest(),
        application=APPLICATION,
        surface="search",
        history_source="stream",
        history_events=int(random.integers(0, 60)),
        elasticsearch_status=503 if _happens(random, _FAILED) else 200,
        latency=latency,
    )


def _latency(random: np.random.Generator, *, degraded: bool) -> StageLatency:
    found = float(random.lognormal(2.7, 0.4))
    stages = [float(random.lognormal(centre, 0.4)) for centre in (-1.0, -0.5, 0.2, 0.5, 1.2, -1.5)]
    reranked = 100.0 if degraded else sum(stages) + 1.0
    queue, lookup, query, encode, score, policy = [0.0] * 6 if degraded else stages
    return StageLatency(
        total_ms=found + reranked + float(random.lognormal(0.0, 0.3)),
        elasticsearch_ms=found,
        elasticsearch_took_ms=float(int(found)),
        events_ms=float(random.lognormal(1.0, 0.3)),
        rerank_ms=reranked,
        queue_ms=queue,
        lookup_ms=lookup,
        query_ms=query,
        encode_ms=encode,
        score_ms=score,
        policy_ms=policy,
    )


def _events(
    random: np.random.Generator, products: Mapping[str, _Product], search: SearchRecord
) -> Iterator[Json]:
    ranks = {product: rank for rank, product in enumerate(search.candidate_ids)}
    for position, product_id in enumerate(search.shown_ids, start=1):
        said = (search, products[product_id], position, ranks[product_id] + 1)
        yield _event("impression", 0, *said)
        if not _happens(random, _CLICKED_FIRST / position):
            continue
        yield _event("click", 5, *said)
        if _happens(random, _CART_OF_CLICK):
            yield _event("cart", 12, *said)
            if _happens(random, _PURCHASE_OF_CART):
                yield _event("purchase", 25, *said)


def _event(
    action: str,
    after_s: int,
    search: SearchRecord,
    product: _Product,
    position: int,
    retrieval_position: int,
) -> Json:
    moment = _text(search.started + timedelta(seconds=after_s + position / 100))
    return {
        "@timestamp": moment,
        "timestamp": moment,
        "action_name": action,
        "application": APPLICATION,
        "query_id": search.query_id,
        "client_id": search.shopper,
        "event_attributes": {
            "object": {
                "object_id": product.product_id,
                "object_id_field": "_id",
                "category": product.category,
                "brand": product.brand,
                "is_new": product.is_new,
                "price": product.price,
            },
            "position": {"ordinal": position, "retrieval_ordinal": retrieval_position},
            "surface": search.surface,
            "variant": search.variant,
        },
    }


def _learning(random: np.random.Generator, start: datetime) -> Iterator[Json]:
    for number in range(6):
        at = start + timedelta(minutes=9 * number + 1)
        run: Json = {
            "run_id": f"sample-run-{number}",
            "round": number,
            "bundle_id": f"{number:02x}" * 32,
            "@timestamp": _text(at),
        }
        published = number != _REFUSED_ROUND
        yield run | {
            "kind": "run",
            "decision": "canary" if published else "rejected",
            "duration_s": float(random.uniform(300, 900)),
            "pages": int(random.integers(10_000, 20_000)),
            **({} if published else {"reason": "produce: NDCG@10 fell with confidence"}),
        }
        for category in CATEGORIES:
            base = 0.30 + 0.02 * CATEGORIES.index(category) + 0.01 * number
            for ranking, gain in (("retrieval", 0.0), ("serving", 0.10), ("new", 0.12)):
                value = base + gain + float(random.normal(0, 0.005))
                yield run | {
                    "kind": "quality",
                    "metric": OFFLINE_METRIC,
                    "category": category,
                    "ranking": ranking,
                    "value": value,
                    "low": value - 0.02,
                    "high": value + 0.02,
                    "pages": 1_000 + 37 * CATEGORIES.index(category),
                }
        for subject, name in (("feature", "price"), ("score", "score"), ("query", "length")):
            psi = float(random.gamma(2.0, 0.03))
            yield run | {
                "kind": "drift",
                "drift": {
                    "subject": subject,
                    "name": name,
                    "psi": psi,
                    "p_value": float(np.exp(-20 * psi)),
                },
            }


def _experiments(random: np.random.Generator, start: datetime) -> Iterator[Json]:
    for number in range(6):
        for metric in _METRICS:
            for arm, lift in (("current", 0.0), ("canary", 0.01)):
                value = 0.1 * (1 + _METRICS.index(metric)) + lift + float(random.normal(0, 0.003))
                yield {
                    "@timestamp": _text(start + timedelta(minutes=9 * number + 2)),
                    "experiment": "canary-5e7a",
                    "method": "ab",
                    "metric": metric,
                    "arm": arm,
                    "baseline": "current",
                    "value": value,
                    "low": value - 0.01,
                    "high": value + 0.01,
                    "lift": {"value": lift, "low": lift - 0.014, "high": lift + 0.014},
                    "sample_ratio": {
                        "expected": 0.2,
                        "observed": 0.2 + float(random.normal(0, 0.01)),
                        "p_value": float(random.uniform(0.05, 1.0)),
                    },
                    "searches": int(random.integers(100, 800)),
                    "shoppers": int(random.integers(50, 200)),
                    "decision": "go on",
                }


def _happens(random: np.random.Generator, share: float) -> bool:
    return bool(random.random() < share)


def _document(fields: Json) -> Document:
    body = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    return Document(hashlib.blake2b(body, digest_size=16).hexdigest(), body)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
