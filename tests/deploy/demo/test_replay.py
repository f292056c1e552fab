"""Replayed searches: drawn once each, as of their own time, measured by what was bought."""

from __future__ import annotations

import math

import pytest

from deploy.demo.replay import LoggedSearch, replay, sampled_searches
from deploy.demo.rerank_client import RankedCandidates
from rerank_server.page import SearchPage


class Reversed:
    """Turns every page around and keeps what it was sent."""

    def __init__(self) -> None:
        self.pages: list[SearchPage] = []

    async def rerank(self, page: SearchPage) -> RankedCandidates:
        self.pages.append(page)
        ranks = tuple(range(page.size))[::-1]
        ids = tuple(page.candidate_ids[rank] for rank in ranks)
        return RankedCandidates(ids, ranks, round_trip_us=2_500)


class Unreachable:
    """Answers as the client does when no server is there."""

    async def rerank(self, page: SearchPage) -> RankedCandidates:
        ids = tuple(page.candidate_ids)
        return RankedCandidates(ids, tuple(range(len(ids))), degraded_reason="unavailable")


def yogurt_of_household_6(searches: list[LoggedSearch]) -> LoggedSearch:
    found = [one for one in searches if one.request.bought == {"109"}]
    return found[0]


def test_searches_are_of_the_week_after_now_by_time_and_each_once(small_shop):
    searches = sampled_searches(small_shop, 1_000)
    pages = [search.page for search in searches]
    assert pages == sorted(set(pages))
    assert {search.request.shopper for search in searches} == {"1", "2", "3", "4", "6"}
    for search in searches:
        assert small_shop.now <= search.request.time < small_shop.now + 7 * 86_400
        assert search.request.bought
        assert small_shop.prepared.page_times[search.page] == search.request.time


def test_a_sample_is_a_part_and_the_same_every_time(small_shop):
    everything = sampled_searches(small_shop, 1_000)
    some = sampled_searches(small_shop, 2)
    assert len(some) == 2
    assert some == sampled_searches(small_shop, 2)
    assert all(search in everything for search in some)


async def test_before_is_retrieval_order_and_after_is_the_servers(small_shop, small_index):
    """Household 6 buys yogurt 109 alone: NDCG@10 is 1 / log2(rank + 2), rank from 0."""
    search = yogurt_of_household_6(sampled_searches(small_shop, 1_000))
    ranker = Reversed()
    (replayed,) = await replay(small_shop, small_index, ranker, [search], progress=False)
    shown = list(ranker.pages[0].candidate_ids)
    assert shown[:3] == ["100", "101", "102"]  # the best sellers
    rank, size = shown.index("109"), len(shown)
    assert replayed.before == pytest.approx(1 / math.log2(rank + 2))
    turned = size - 1 - rank
    assert replayed.after == pytest.approx(1 / math.log2(turned + 2) if turned < 10 else 0.0)
    assert replayed.category == "dairy_eggs"
    assert replayed.rerank_us == 2_500
    assert replayed.degraded_reason == ""


async def test_the_history_ends_where_the_search_begins(small_shop, small_index):
    searches = sampled_searches(small_shop, 1_000)
    ranker = Reversed()
    await replay(small_shop, small_index, ranker, searches, progress=False)
    assert len(ranker.pages) == 2 * len(searches)
    for page, search in zip(ranker.pages[::2], searches, strict=True):
        assert page.time == search.request.time
        assert page.history.product_ids
        assert max(page.history.times) < search.request.time


async def test_the_logs_own_candidates_are_sent_too_with_their_signals(small_shop, small_index):
    search = yogurt_of_household_6(sampled_searches(small_shop, 1_000))
    ranker = Reversed()
    (replayed,) = await replay(small_shop, small_index, ranker, [search], progress=False)
    retrieved, logged = ranker.pages
    part = small_shop.prepared.page(search.page)
    rows = small_shop.prepared.candidate_rows[part].tolist()
    assert list(logged.candidate_ids) == [small_shop.records[row]["id"] for row in rows]
    assert set(logged.signals) == set(small_shop.prepared.signals)
    assert logged.retrieval_scores == pytest.approx(small_shop.prepared.candidate_scores[part])
    both = set(retrieved.candidate_ids) & set(logged.candidate_ids)
    either = set(retrieved.candidate_ids) | set(logged.candidate_ids)
    assert replayed.shared == len(both) / len(either)
    assert replayed.same_candidates == (both == either)


async def test_an_answer_in_retrieval_order_is_counted_and_changes_nothing(small_shop, small_index):
    searches = sampled_searches(small_shop, 1_000)
    replayed = await replay(small_shop, small_index, Unreachable(), searches, progress=False)
    assert [one.degraded_reason for one in replayed] == ["unavailable"] * len(searches)
    assert all(one.before == one.after or math.isnan(one.before) for one in replayed)
