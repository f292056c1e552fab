"""The shopper's recent events, read from the stream `ubi_events` beside the search.

Reading has its own small deadline: a search never waits longer for it. What arrives later is kept
for the shopper's next search.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec

from rerank_server.access_log import hash_shopper
from rerank_server.gateway.errors import EventsError, UpstreamError
from rerank_server.page import MAX_ID_BYTES, ShopperHistory

# UBI leaves the names of actions to the shop; these are in use.
KINDS = {
    "impression": "impression",
    "view": "impression",
    "click": "click",
    "item_click": "click",
    "product_click": "click",
    "add_to_cart": "cart",
    "cart": "cart",
    "purchase": "purchase",
    "order": "purchase",
    "conversion": "purchase",
}
_LOG = logging.getLogger(__name__)

SOURCE_STREAM = "stream"
SOURCE_CACHE = "cache"
SOURCE_NONE = "none"


@dataclass(frozen=True, slots=True)
class EventSettings:
    """How events are read.

    Attributes:
        index: Index or data stream; empty reads none.
        shopper_field: Field that holds the shopper's id.
        limit: Newest events to read.
        timeout_ms: How long a search waits for them.
        keep_s: How long they are kept.
        keep_shoppers: Of how many shoppers.
        max_reads: Reads at the same time; more are not begun.
        key: Hashes the shopper's id as the stream holds it; None: the stream holds plain ids.
    """

    index: str = "ubi_events"
    shopper_field: str = "client_id"
    limit: int = 200
    timeout_ms: int = 30
    keep_s: float = 10.0
    keep_shoppers: int = 10_000
    max_reads: int = 32
    key: bytes | None = None


class EventsSearch(Protocol):
    """Sends a search of events and returns its status and body."""

    def __call__(
        self, index: str, body: bytes, authorization: str | None, /
    ) -> Awaitable[tuple[int, bytes]]:
        """Send it."""
        ...


class ShopperEvents:
    """Reads and keeps the events of shoppers; memory holds hashes of their ids only."""

    def __init__(
        self,
        search: EventsSearch,
        settings: EventSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read by `search`."""
        self._search = search
        self._settings = settings
        self._clock = clock
        self._own_key = secrets.token_bytes(32)
        # None: the read failed, and is not tried again for a while either
        self._kept: OrderedDict[str, tuple[float, ShopperHistory | None]] = OrderedDict()
        self._reading: dict[str, asyncio.Task[ShopperHistory | None]] = {}
        self.failures = 0

    async def of(self, shopper_id: str, authorization: str | None) -> tuple[ShopperHistory, str]:
        """Return the shopper's events and where they are from: `stream`, `cache` or `none`.

        Args:
            shopper_id: As the shop calls the shopper.
            authorization: The header that reads the stream.
        """
        if not self._settings.index:
            return ShopperHistory(), SOURCE_NONE
        # who may not read the stream must not see what another caller read from it
        caller = authorization or ""
        key = hash_shopper(f"{caller}\0{shopper_id}", self._own_key)
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept[0]:
            self._kept.move_to_end(key)
            return _told(kept[1], SOURCE_CACHE)
        reading = self._reading.get(key)
        if reading is None:
            if len(self._reading) >= self._settings.max_reads:
                return ShopperHistory(), SOURCE_NONE
            reading = asyncio.create_task(self._read(key, shopper_id, authorization))
            self._reading[key] = reading
        done, _ = await asyncio.wait({reading}, timeout=self._settings.timeout_ms / 1_000)
        if not done:
            return ShopperHistory(), SOURCE_NONE
        if reading.exception() is not None:
            return ShopperHistory(), SOURCE_NONE
        return _told(reading.result(), SOURCE_STREAM)

    async def close(self) -> None:
        """End the reads."""
        for reading in list(self._reading.values()):
            reading.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)

    async def _read(
        self, key: str, shopper_id: str, authorization: str | None
    ) -> ShopperHistory | None:
        history: ShopperHistory | None = None
        try:
            body = json.dumps(self._body(shopper_id)).encode()
            status, answer = await self._search(self._settings.index, body, authorization)
            history = _read_history(status, answer)
        except (EventsError, UpstreamError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.failures += 1
            fields = {"error": type(error).__name__}
            _LOG.debug("events of a shopper not read", extra={"fields": fields})
        finally:
            self._reading.pop(key, None)
        self._kept[key] = (self._clock() + self._settings.keep_s, history)
        self._kept.move_to_end(key)
        while len(self._kept) > self._settings.keep_shoppers:
            self._kept.popitem(last=False)
        return history

    def _body(self, shopper_id: str) -> Mapping[str, Any]:
        settings = self._settings
        key = settings.key
        stored = shopper_id if key is None else hash_shopper(shopper_id, key)
        return {
            "size": settings.limit,
            "query": {
                "bool": {
                    "filter": [
                        {"term": {settings.shopper_field: stored}},
                        {"terms": {"action_name": list(KINDS)}},
                    ]
                }
            },
            "sort": [{"timestamp": {"order": "desc", "unmapped_type": "date"}}],
            "track_total_hits": False,
            "_source": ["action_name", "timestamp", "event_attributes.object.object_id"],
        }


def _told(history: ShopperHistory | None, source: str) -> tuple[ShopperHistory, str]:
    return (ShopperHistory(), SOURCE_NONE) if history is None else (history, source)


class _Object(msgspec.Struct):
    object_id: str | int | None = None


class _Attributes(msgspec.Struct):
    object: _Object | None = None


class _Event(msgspec.Struct):
    action_name: str
    timestamp: datetime | int | None = None
    event_attributes: _Attributes | None = None


class _Document(msgspec.Struct):
    source: _Event = msgspec.field(name="_source")


class _Hits(msgspec.Struct):
    hits: list[_Document]


class _Answer(msgspec.Struct):
    hits: _Hits


_ANSWER = msgspec.json.Decoder(_Answer)
_FOUND = 200


def _read_history(status: int, answer: bytes) -> ShopperHistory:
    if status != _FOUND:
        raise EventsError(f"events: got status {status}, want {_FOUND}")
    now = int(time.time())
    ids, times, kinds = [], [], []
    for document in _ANSWER.decode(answer).hits.hits:
        event = document.source
        seconds = _seconds(event.timestamp)
        product_id = _product_id(event)
        if event.action_name not in KINDS or seconds is None or not product_id:
            continue
        ids.append(product_id)
        times.append(min(seconds, now))
        kinds.append(KINDS[event.action_name])
    return ShopperHistory(product_ids=ids, times=times, kinds=kinds)


def _seconds(stamp: datetime | int | None) -> int | None:
    if isinstance(stamp, datetime):
        return max(0, int(stamp.timestamp()))
    return None if stamp is None else max(0, stamp // 1_000)


def _product_id(event: _Event) -> str:
    attributes = event.event_attributes
    value = attributes.object.object_id if attributes and attributes.object else None
    text = "" if value is None else str(value)
    return text if len(text.encode()) <= MAX_ID_BYTES else ""
