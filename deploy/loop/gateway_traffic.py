"""Simulated shoppers who search through a running gateway, at the time it is.

What they see is the gateway's answer, and what they do with it goes to the stream of events. The
searches of the arm that is reranked are written down by the gateway's own telemetry; those of the
arm that is not pass it unseen, and the shop writes them down itself, as UBI 1.3 has it.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from elasticsearch import ApiError, Elasticsearch, TransportError

from deploy.loop.click_model import ClickModel
from deploy.loop.documents import (
    APPLICATION,
    SURFACE,
    SeenPage,
    SeenProduct,
    document_of,
    event_document,
    utc_text,
)
from deploy.loop.errors import GatewayTrafficError
from deploy.loop.search_log import EVENTS, QUERIES
from deploy.loop.shoppers import Shoppers
from deploy.loop.traffic import Truth, chosen_name, page_ndcg
from rerank_server.access_log import hash_shopper
from rerank_server.telemetry.document import Document

RETRIEVAL, RERANKED = "retrieval", "reranked"
_KINDS = ("impression", "click", "cart", "purchase")
_FIRST = 10
_MAX_HISTORY = 200


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """What shoppers ask the gateway for.

    Attributes:
        index: Index or alias of the products.
        window: Candidates of a search.
        shown: Places of the page that the shopper sees.
        reranked_share: Of the shoppers, who get reranked pages; chosen by a hash of their id.
        null_share: Share of searches with words that nothing answers to.
        timeout_ms: For the reranker.
        shopper_key: Hashes shoppers in events as the gateway's telemetry does.
        seed: Of every draw.
    """

    index: str = "crossrank-products"
    window: int = 60
    shown: int = 20
    reranked_share: float = 0.5
    null_share: float = 0.02
    timeout_ms: int = 1_000
    shopper_key: bytes | None = field(default=None, repr=False)
    seed: int = 1


@dataclass(frozen=True, slots=True)
class GatewaySearch:
    """One search with its documents and the truth behind it.

    Attributes:
        arm: `retrieval`, or what the gateway's answer says: `current`, `canary` or `degraded`.
        took_ms: As the shopper waited.
        documents: By stream.
        truth: What is kept aside.
        retrieval_ndcg: True NDCG@10 of the same candidates in retrieval order; NaN without any.
    """

    arm: str
    took_ms: float
    documents: Mapping[str, Sequence[Document]]
    truth: Truth
    retrieval_ndcg: float


@dataclass(frozen=True, slots=True)
class _Page:
    """A page as the gateway answered it."""

    query_id: str
    ids: list[str]
    categories: list[str]
    brands: list[str]
    rerank: Mapping[str, Any]


class GatewayTraffic:
    """Shoppers of the real log who search one after the other; what they buy is their past."""

    def __init__(
        self, shoppers: Shoppers, clicks: ClickModel, gateway: Elasticsearch, plan: GatewayPlan
    ) -> None:
        """Search by `gateway`, a client of the gateway's address."""
        self._shoppers, self._clicks = shoppers, clicks
        self._gateway, self._plan = gateway, plan
        tables = shoppers.tables
        self._rows = {product: row for row, product in enumerate(tables.product_ids)}
        self._past: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
        columns = zip(
            tables.buyers.tolist(), tables.bought.tolist(), tables.times.tolist(), strict=True
        )
        for buyer, product, moment in columns:
            self._past[buyer].append((moment, tables.product_ids[product]))

    def searches(self, count: int) -> Iterator[GatewaySearch]:
        """Make searches, each at the time it is.

        Raises:
            GatewayTrafficError: When the gateway does not answer, or answers with other products.
        """
        session = f"{int(time.time()):x}"
        random = np.random.default_rng((self._plan.seed, int(session, 16)))
        for number in range(count):
            yield self._search(f"simulated-{session}-{number:05d}", random)

    def both_orders(self, shopper: int, words: str) -> tuple[list[str], list[str]]:
        """Return the products of one search in retrieval order, and as the shopper gets them."""
        query_id = f"looked-up-{time.time_ns():x}"
        found = self._page(query_id, words, None).ids
        return found[: self._plan.shown], self._page(query_id, words, shopper).ids

    def bought(self, shopper: int) -> Mapping[str, int]:
        """Return how often a shopper has bought each product."""
        return Counter(product for _, product in self._past[shopper])

    def _search(self, query_id: str, random: np.random.Generator) -> GatewaySearch:
        plan, tables = self._plan, self._shoppers.tables
        shopper = int(random.integers(len(tables.shoppers)))
        leaves, shares = self._shoppers.leaves_of(shopper)
        leaf = str(random.choice(leaves, p=shares))
        words = leaf[::-1] if random.random() < plan.null_share else leaf
        shares_of_arms = {RETRIEVAL: 1 - plan.reranked_share, RERANKED: plan.reranked_share}
        arm = chosen_name(tables.shoppers[shopper], shares_of_arms, plan.seed)
        moment, began = datetime.now(UTC), time.perf_counter()
        page = self._page(query_id, words, None if arm == RETRIEVAL else shopper)
        took_ms = 1_000 * (time.perf_counter() - began)
        found = page.ids
        if arm == RERANKED:
            # the simulator's own look at what retrieval found, for the truth and for positions
            found = self._page(query_id, words, None).ids
        shown = page.ids[: plan.shown]
        arm = _arm_of(arm, page)
        documents: dict[str, list[Document]] = {QUERIES: [], EVENTS: []}
        if arm == RETRIEVAL:
            documents[QUERIES].append(self._query_document(page, words, shopper, moment))
        attraction = self._attraction(shopper, leaf, shown)
        clicked = self._clicks.clicks(attraction, random)
        carts = self._clicks.carts(attraction, clicked, random)
        bought = self._clicks.purchases(carts, random)
        done = (np.ones(len(shown), np.bool_), clicked, carts, bought)
        bundle_id = str(page.rerank.get("bundle_id", ""))
        seen = SeenPage(query_id, self._client_id(shopper), words, arm, bundle_id)
        for place in range(len(shown)):
            for step, (kind, flags) in enumerate(zip(_KINDS, done, strict=True)):
                if flags[place]:
                    at = moment + timedelta(milliseconds=took_ms + 10 * step + 40 * place)
                    documents[EVENTS].append(
                        event_document(seen, _product(page, place, found), kind, at)
                    )
        when = int(moment.timestamp())
        self._past[shopper] += [(when, shown[place]) for place in np.flatnonzero(bought).tolist()]
        ordered = list(dict.fromkeys([*shown, *found]))
        truth = Truth(
            query_id,
            tuple(shown),
            tuple(attraction.tolist()),
            tuple(self._clicks.examination(len(shown)).tolist()),
            page_ndcg(self._attraction(shopper, leaf, ordered)),
        )
        plain = page_ndcg(self._attraction(shopper, leaf, found))
        return GatewaySearch(arm, took_ms, documents, truth, plain)

    def _page(self, query_id: str, words: str, shopper: int | None) -> _Page:
        """Ask for a page; of a shopper, in the reranker's order."""
        plan = self._plan
        asked: dict[str, Any] = {
            "query": popular_match(words),
            "size": plan.window if shopper is None else plan.shown,
            "source": False,
            "fields": ["category", "brand"],
            "track_total_hits": True,
        }
        if shopper is not None:
            asked["ext"] = {"rerank": self._wishes(query_id, words, shopper)}
        try:
            answer = self._gateway.search(index=plan.index, **asked).body
        except (ApiError, TransportError) as error:
            raise GatewayTrafficError(
                f"gateway: got {error} for {words!r}, want an answer from it"
            ) from error
        hits = answer["hits"]["hits"]
        ids = [str(hit["_id"]) for hit in hits]
        strange = next((name for name in ids if name not in self._rows), None)
        if strange is not None:
            raise GatewayTrafficError(
                f"index {plan.index}: got product {strange!r}, want products of the shop's"
                " catalogue alone"
            )
        return _Page(
            query_id,
            ids,
            [_first(hit, "category") for hit in hits],
            [_first(hit, "brand") for hit in hits],
            answer.get("ext", {}).get("rerank", {}),
        )

    def _wishes(self, query_id: str, words: str, shopper: int) -> dict[str, Any]:
        plan = self._plan
        return {
            "query": words,
            "query_id": query_id,
            "surface": SURFACE,
            "application": APPLICATION,
            "shopper_id": self._shoppers.tables.shoppers[shopper],
            "window": plan.window,
            "category_field": "category",
            "timeout_ms": plan.timeout_ms,
            "experiment": {"id": "reranking", "arm": RERANKED},
            "history": [
                {"product_id": product, "time": moment, "kind": "purchase"}
                for moment, product in sorted(self._past[shopper])[-_MAX_HISTORY:]
            ],
        }

    def _attraction(self, shopper: int, leaf: str, ids: Sequence[str]) -> np.ndarray:
        rows = np.array([self._rows[name] for name in ids], np.int64)
        return self._shoppers.attraction(shopper, leaf, rows)

    def _client_id(self, shopper: int) -> str:
        name, key = self._shoppers.tables.shoppers[shopper], self._plan.shopper_key
        return name if key is None else hash_shopper(name, key)

    def _query_document(self, page: _Page, words: str, shopper: int, moment: datetime) -> Document:
        first = page.categories[:_FIRST]
        return document_of(
            {
                "@timestamp": utc_text(moment),
                "timestamp": utc_text(moment),
                "application": APPLICATION,
                "query_id": page.query_id,
                "client_id": self._client_id(shopper),
                "user_query": words,
                "object_id_field": "_id",
                "query_response_hit_ids": page.ids[: self._plan.shown],
                "query_attributes": {
                    "surface": SURFACE,
                    "variant": RETRIEVAL,
                    **({"category": max(sorted(set(first)), key=first.count)} if first else {}),
                },
            }
        )


def popular_match(words: str) -> dict[str, Any]:
    """Return a query for words, the more sold products first among those that match alike."""
    match = {"match": {"text": {"query": words, "minimum_should_match": "2<67%"}}}
    sold = {"field": "sales_28d", "modifier": "log1p", "missing": 0}
    return {"function_score": {"query": match, "field_value_factor": sold, "boost_mode": "sum"}}


def _arm_of(arm: str, page: _Page) -> str:
    """Return the arm that an event is of; where the reranker failed, the shopper saw retrieval."""
    if arm == RETRIEVAL:
        return RETRIEVAL
    if page.rerank.get("status") != RERANKED:
        return "degraded"
    return str(page.rerank.get("variant") or "current")


def _product(page: _Page, place: int, found: Sequence[str]) -> SeenProduct:
    product_id = page.ids[place]
    rank = found.index(product_id) if product_id in found else None
    return SeenProduct(product_id, page.categories[place], page.brands[place], place, rank)


def _first(hit: Mapping[str, Any], field_name: str) -> str:
    values = hit.get("fields", {}).get(field_name) or [""]
    return str(values[0])
