"""Searches of the log once more, now through retrieval and the server, with what was bought."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
from tqdm import tqdm

from deploy.demo.rerank_client import PageRanker, RankedCandidates, search_page
from deploy.demo.retrieval.retriever import Retriever
from deploy.demo.shop import WEEK, SearchRequest, Shop
from rerank_server.page import SearchPage
from trainer.encoding.dataset import Prepared
from trainer.evaluation.metrics import ndcg_at_k

CANDIDATES = 100
SURFACE = "search"
CUT = 10
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LoggedSearch:
    """A search of the log and the number of its page."""

    request: SearchRequest
    page: int


@dataclass(frozen=True, slots=True)
class ReplayedSearch:
    """One search, replayed.

    Attributes:
        page: Its page of the prepared log.
        shopper: Whose it is.
        category: What it is about.
        before: NDCG@10 of retrieval order; NaN when nothing that was bought was retrieved.
        after: NDCG@10 of the server's order, alike.
        retrieval_us: Microseconds that retrieval took.
        rerank_us: Microseconds from the call to the server's answer.
        degraded_reason: Empty when the server scored the page.
        shared: Candidates that retrieval and the log's page share over all of either's.
        logged: NDCG@10 of the server's order of the log's own candidates; NaN as `before`.
    """

    page: int
    shopper: str
    category: str
    before: float
    after: float
    retrieval_us: int
    rerank_us: int
    degraded_reason: str
    shared: float
    logged: float

    @property
    def same_candidates(self) -> bool:
        """Whether retrieval found what the log's page holds, neither more nor less."""
        return self.shared == 1.0


def sampled_searches(shop: Shop, count: int, seed: int = 0) -> list[LoggedSearch]:
    """At most `count` answered searches of the week from `now`, drawn at random, by time.

    Two searches of a basket with the same words and category cannot be told apart: one is taken.
    """
    prepared = shop.prepared
    first, last = np.searchsorted(prepared.page_times, [shop.now, shop.now + WEEK]).tolist()
    page_of = {}
    for page in range(first, last):
        if prepared.page_queries[page] >= 0:
            page_of[_key_of_page(prepared, page)] = page
    found = {
        page_of[key]: request
        for request in shop.requests_between(shop.now, shop.now + WEEK)
        if (key := (request.shopper, request.time, request.query, request.category)) in page_of
    }
    pages = np.array(sorted(found))
    if pages.size > count:
        pages = np.sort(np.random.default_rng(seed).choice(pages, count, replace=False))
    return [LoggedSearch(found[page], page) for page in pages.tolist()]


def _key_of_page(prepared: Prepared, page: int) -> tuple[str, int, str, str | None]:
    category = int(prepared.page_categories[page])
    return (
        prepared.shoppers[int(prepared.page_shoppers[page])],
        int(prepared.page_times[page]),
        prepared.queries[int(prepared.page_queries[page])],
        prepared.categories[category - 1] if category else None,
    )


async def replay(
    shop: Shop,
    retriever: Retriever,
    ranker: PageRanker,
    searches: Sequence[LoggedSearch],
    *,
    progress: bool,
) -> list[ReplayedSearch]:
    """Retrieve and rerank every search as of its time, one after the other.

    Searches that retrieval finds nothing for are left out: there is no page to rerank.
    """
    replayed = []
    for search in tqdm(searches, desc="Replaying", unit=" searches", disable=not progress):
        one = await _replay_one(shop, retriever, ranker, search)
        if one is not None:
            replayed.append(one)
    return replayed


async def _replay_one(
    shop: Shop, retriever: Retriever, ranker: PageRanker, search: LoggedSearch
) -> ReplayedSearch | None:
    request = search.request
    own = shop.own_products(request.shopper, before=request.time)
    began = perf_counter_ns()
    retrieved = await asyncio.to_thread(
        retriever.search, request.query, place=request.place, limit=CANDIDATES, own=own
    )
    retrieval_us = (perf_counter_ns() - began) // 1_000
    if not retrieved.ids:
        return None
    history = shop.history(request.shopper, before=request.time)
    ranked = await ranker.rerank(
        search_page(
            retrieved,
            query=request.query,
            surface=SURFACE,
            category=None,
            place=request.place,
            time=request.time,
            history=history,
            explain=False,
        )
    )
    part = shop.prepared.page(search.page)
    rows = shop.prepared.candidate_rows[part].tolist()
    logged_ids = [str(shop.records[row]["id"]) for row in rows]
    logged = await ranker.rerank(
        SearchPage(
            candidate_ids=logged_ids,
            retrieval_scores=shop.prepared.candidate_scores[part],
            signals=_logged_signals(shop.prepared, part),
            query=request.query,
            surface=SURFACE,
            time=request.time,
            place=request.place,
            history=history,
        )
    )
    either = set(retrieved.ids) | set(logged_ids)
    return ReplayedSearch(
        page=search.page,
        shopper=request.shopper,
        category=request.category or UNKNOWN,
        before=_ndcg(retrieved.ids, request.bought),
        after=_ndcg(ranked.ids, request.bought),
        retrieval_us=retrieval_us,
        rerank_us=ranked.round_trip_us,
        degraded_reason=_reason(ranked, logged),
        shared=len(set(retrieved.ids) & set(logged_ids)) / len(either),
        logged=_ndcg(logged.ids, request.bought),
    )


def _logged_signals(prepared: Prepared, part: slice) -> Mapping[str, np.ndarray]:
    columns = np.asarray(prepared.candidate_signals[part], np.float32)
    return {name: columns[:, index] for index, name in enumerate(prepared.signals)}


def _reason(*pages: RankedCandidates) -> str:
    return next((page.degraded_reason for page in pages if page.degraded_reason), "")


def _ndcg(ids: Sequence[str], bought: frozenset[str]) -> float:
    """NDCG@10 of products in this order; NaN when none of them was bought."""
    gains = np.array([float(id_ in bought) for id_ in ids])
    ranks = -np.arange(len(ids), dtype=np.float64)
    return float(ndcg_at_k(gains, ranks, np.array([0, len(ids)], np.int64), CUT)[0])
