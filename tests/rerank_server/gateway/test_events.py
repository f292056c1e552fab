from __future__ import annotations

import asyncio
import json
import time

import pytest

from rerank_server.access_log import hash_shopper
from rerank_server.gateway.errors import UpstreamError
from rerank_server.gateway.events import EventSettings, ShopperEvents

KEY = b"a key of the tests, long enough"


class Stream:
    """An events search that answers what it was made with, after a while, and counts."""

    def __init__(self, events=(), *, status=200, after_s=0.0, error=None):
        hits = [{"_source": event} for event in events]
        self.answer = json.dumps({"hits": {"hits": hits}}).encode()
        self.status, self.after_s, self.error = status, after_s, error
        self.asked = []

    async def __call__(self, index, body, authorization):
        self.asked.append((index, json.loads(body), authorization))
        await asyncio.sleep(self.after_s)
        if self.error:
            raise self.error
        return self.status, self.answer


def event(action, product, timestamp="2026-01-02T03:04:05Z"):
    return {
        "action_name": action,
        "timestamp": timestamp,
        "event_attributes": {"object": {"object_id": product}},
    }


def opened(stream, **settings):
    clock = [100.0]
    return ShopperEvents(stream, EventSettings(**settings), lambda: clock[0]), clock


async def test_events_become_a_history():
    stream = Stream(
        [
            event("click", "a"),
            event("add_to_cart", 7, 1_000_000),
            event("purchase", "b", "2126-01-01T00:00:00Z"),
            event("scroll", "c"),
            {"action_name": "click"},
            event("click", ""),
            event("click", "x" * 300),
        ]
    )
    events, _ = opened(stream)
    history, source = await events.of("ann", None)
    assert source == "stream"
    assert list(history.product_ids) == ["a", "7", "b"]
    assert list(history.kinds) == ["click", "cart", "purchase"]
    assert list(history.times[:2]) == [1_767_323_045, 1_000]
    assert history.times[2] <= time.time()


async def test_events_are_kept_for_a_while_and_for_so_many_shoppers():
    stream = Stream([event("click", "a")])
    events, clock = opened(stream, keep_s=10, keep_shoppers=2)
    for name in ("ann", "ann", "bob", "ann", "cyd", "ann"):
        await events.of(name, None)
    assert len(stream.asked) == 3
    await events.of("bob", None)  # put out by cyd
    assert len(stream.asked) == 4
    clock[0] += 11
    assert (await events.of("bob", None))[1] == "stream"


async def test_a_slow_stream_is_not_waited_for_and_kept_for_the_next_search():
    stream = Stream([event("click", "a")], after_s=0.2)
    events, _ = opened(stream, timeout_ms=20)
    began = time.monotonic()
    history, source = await events.of("ann", None)
    assert time.monotonic() - began < 0.15
    assert (source, list(history.product_ids)) == ("none", [])
    await asyncio.sleep(0.4)
    assert (await events.of("ann", None))[1] == "cache"
    assert len(stream.asked) == 1


async def test_searches_of_one_shopper_share_a_read_and_reads_are_bounded():
    stream = Stream([event("click", "a")], after_s=0.05)
    events, _ = opened(stream, timeout_ms=1_000, max_reads=2)
    names = ("ann", "ann", "bob", "cyd")
    found = await asyncio.gather(*(events.of(name, None) for name in names))
    assert [source for _, source in found] == ["stream", "stream", "stream", "none"]
    assert len(stream.asked) == 2


@pytest.mark.parametrize(
    "stream",
    [
        Stream(status=404),
        Stream(error=UpstreamError(502, "gone")),
        Stream([{"action_name": 3}]),
    ],
)
async def test_a_stream_that_cannot_be_read_gives_no_history_and_is_no_source(stream):
    events, _ = opened(stream)
    for _ in range(2):  # the second time out of what is kept, so that a failing stream has rest
        history, source = await events.of("ann", None)
        assert (source, list(history.product_ids)) == ("none", [])
    assert events.failures == 1
    assert len(stream.asked) == 1
    await events.close()


async def test_the_stream_is_asked_for_the_hash_and_by_the_callers_right():
    stream = Stream()
    events, _ = opened(stream, key=KEY, index="ubi", shopper_field="user_id", limit=7)
    await events.of("ann", "ApiKey x")
    await events.of("ann", "ApiKey y")  # another caller, who may not be let in
    (index, body, authorization), (_, _, second) = stream.asked
    assert (index, body["size"], authorization, second) == ("ubi", 7, "ApiKey x", "ApiKey y")
    assert body["query"]["bool"]["filter"][0] == {"term": {"user_id": hash_shopper("ann", KEY)}}
    assert "ann" not in repr(vars(events))


async def test_without_an_index_nothing_is_read():
    stream = Stream()
    events, _ = opened(stream, index="")
    assert (await events.of("ann", None))[1] == "none"
    assert stream.asked == []
