from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rerank_server.bundle_store import BundleStore
from rerank_server.client.async_client import AsyncRerankClient
from rerank_server.client.connection import Connection
from rerank_server.client.messages import CallError
from rerank_server.contract.errors import PageError
from rerank_server.gateway.breaker import FAILURES
from rerank_server.gateway.candidates import Candidates
from rerank_server.gateway.errors import RankingError
from rerank_server.gateway.events import EventSettings, ShopperEvents
from rerank_server.gateway.kept_orders import KeptOrders
from rerank_server.gateway.ranking import RankerClient
from rerank_server.gateway.record import SearchRecord
from rerank_server.gateway.reranking import Reranking, Timed
from rerank_server.gateway.rules import IndexRules
from rerank_server.gateway.search_request import SearchRequest, plan_search
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.reranker import Reranker
from tests.rerank_server.tiny_bundle import NOW

PAGE = SearchPage(["a", "b"])
ANSWER = b'{"hits":{"hits":[{"_index":"i","_id":"a","_score":2},{"_index":"i","_id":"b"}]}}'


class FailingClient:
    """A client whose every call ends with `error`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def ask(self, page, *, timeout_ms=None):
        raise self.error


def ranker_of(client: Any, fair_timeout_ms: int = 0) -> RankerClient:
    return RankerClient(client, max_calls=8, fair_timeout_ms=fair_timeout_ms)


async def no_search(index: str, body: bytes, authorization: str | None) -> tuple[int, bytes]:
    raise AssertionError(index)


async def reason_of_next(client: FailingClient, ranker: RankerClient, error: BaseException) -> str:
    client.error = error
    with pytest.raises((RankingError, PageError, asyncio.CancelledError)) as caught:
        await ranker.rank(PAGE, 100)
    return getattr(caught.value, "reason", "")


async def test_callers_who_go_away_do_not_close_the_breaker():
    client = FailingClient(CallError("down", "unavailable"))
    ranker = ranker_of(client)
    for _ in range(FAILURES - 1):
        assert await reason_of_next(client, ranker, client.error) == "unavailable"
    await reason_of_next(client, ranker, asyncio.CancelledError())
    down = CallError("down", "unavailable")
    assert await reason_of_next(client, ranker, down) == "unavailable"
    assert await reason_of_next(client, ranker, down) == "circuit_open"


async def test_pages_that_cannot_be_sent_do_not_open_the_breaker():
    client = FailingClient(PageError("texts: got some"))
    ranker = ranker_of(client)
    for _ in range(2 * FAILURES):
        assert await reason_of_next(client, ranker, client.error) == ""


class DownRanker:
    """A ranker that is never there."""

    async def rank(self, page, timeout_ms):
        raise RankingError("unavailable", "reranker: got nothing, want an answer")

    def variant_of(self, shopper_id):
        return ""


async def no_history() -> ShopperHistory:
    return ShopperHistory()


async def test_a_search_that_found_nothing_is_of_the_arm_that_its_shopper_is_in(
    serving, tiny_reranker, other_folders
):
    store = BundleStore(tiny_reranker, lambda b, p: Reranker.open(b, p, threads=1))
    server = await serving(store)
    other = store.load(other_folders.bundle, other_folders.products).challenger
    assert other is not None
    store.divert(canary_percent=40, shadow=False)
    ranker = ranker_of(AsyncRerankClient(Connection(f"localhost:{server.port}")))
    events = ShopperEvents(no_search, EventSettings(index=""))
    reranking = Reranking(ranker, events, timeout_ms=2_000, key=b"k" * 16, kept=KeptOrders(60))

    async def found_nothing(shopper: str) -> SearchRecord:
        body = json.dumps({"ext": {"rerank": {"shopper_id": shopper}}}).encode()
        plan = plan_search(SearchRequest("i", body), IndexRules())
        assert plan.widened is not None
        history = asyncio.create_task(no_history())
        empty = b'{"hits":{"total":{"value":0,"relation":"eq"},"hits":[]}}'
        return (await reranking.reorder(plan, plan.widened, empty, history, Timed())).record

    try:
        assert (await found_nothing("ann")).variant == ""  # the server has not said yet
        ranker.watch_status()
        async with asyncio.timeout(5):
            while not ranker.variant_of(None):
                await asyncio.sleep(0.01)
        arms = {}
        for number in range(40):
            shopper = f"shopper {number}"
            page = SearchPage(["dog-1", "milk-2"], time=NOW, shopper_id=shopper)
            ranking = await ranker.rank(page, 2_000)
            record = await found_nothing(shopper)
            assert (record.bundle_id, record.total_hits, record.degraded) == ("", 0, False)
            assert record.variant == ranking.variant
            arms[shopper] = record.variant
        assert set(arms.values()) == {"current", "canary"}
        assert ranker.variant_of(None) == "current"  # nobody is not tried on
    finally:
        await ranker.close()


async def test_a_kept_failure_keeps_no_answer_in_memory():
    plan = plan_search(SearchRequest("i", b'{"ext":{"rerank":{}}}'), IndexRules())
    assert plan.widened is not None
    kept = KeptOrders(60)
    events = ShopperEvents(no_search, EventSettings(index=""))
    reranking = Reranking(DownRanker(), events, timeout_ms=100, key=None, kept=kept)
    history = asyncio.create_task(no_history())
    outcome = await reranking.reorder(plan, plan.widened, ANSWER, history, Timed())
    assert outcome.record.degraded_reason == "unavailable"
    candidates = Candidates(("a", "b"), ((0,), (1,)), (2.0, 1.0), {}, ())
    order = kept.find(plan.widened.fingerprint, candidates)
    assert order is not None
    assert order.problem is not None
    assert order.problem.__traceback__ is None  # its frames would hold the answer


async def test_a_search_that_gives_too_little_time_does_not_close_the_breaker():
    late = CallError("late", "deadline_exceeded")
    client = FailingClient(late)
    ranker = ranker_of(client, fair_timeout_ms=101)  # each is given 100 ms
    for _ in range(FAILURES + 2):
        assert await reason_of_next(client, ranker, late) == "deadline"
    fair = ranker_of(client, fair_timeout_ms=100)
    for _ in range(FAILURES):
        assert await reason_of_next(client, fair, late) == "deadline"
    assert await reason_of_next(client, fair, late) == "circuit_open"
