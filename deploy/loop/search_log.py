"""Searches with what came of them: the streams joined by query id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deploy.loop.played_days import EVENT_DELAY
from deploy.loop.streams import Json, Streams, parse_time

SEARCHES, QUERIES, EVENTS = "crossrank-searches", "ubi_queries", "ubi_events"
CLICK, CART, PURCHASE, IMPRESSION = "click", "cart", "purchase", "impression"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ShopperEvent:
    """What a shopper did with one product of a page.

    Attributes:
        action: `click`, `cart`, `purchase`, or a name of the shop's own.
        product_id: Empty where the event does not say.
        position: Place on the page, from 1; 0 where the event does not say.
        category: Of the product; may be empty.
        time: When.
    """

    action: str
    product_id: str
    position: int
    category: str
    time: datetime


@dataclass(slots=True)
class LoggedSearch:
    """One search and what came of it.

    Attributes:
        query_id: What its events refer to.
        time: When it was made.
        shopper: Hash of the shopper's id; may be empty.
        query: Its words.
        retrieved_ids: The window in retrieval order; empty where only UBI is written.
        retrieval_scores: First-pass score of each; may be empty.
        shown_ids: The page.
        scores: Score of each of the window in its new order; may be empty.
        variant: The arm; may be empty.
        bundle_id: The bundle that answered; empty when none did.
        teams: Of an interleaved page, the ranking of each place, 0 or 1; empty of others.
        category: The most frequent category of the page, or `unknown`.
        by_gateway: Whether the gateway wrote it down; else the shop alone did, in UBI's words.
        events: In the order of time.
    """

    query_id: str
    time: datetime
    shopper: str
    query: str
    retrieved_ids: tuple[str, ...] = ()
    retrieval_scores: tuple[float, ...] = ()
    shown_ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    variant: str = ""
    bundle_id: str = ""
    teams: tuple[int, ...] = ()
    category: str = UNKNOWN
    by_gateway: bool = True
    events: list[ShopperEvent] = field(default_factory=list)

    @property
    def found_ids(self) -> tuple[str, ...]:
        """The candidates in retrieval order, of which a shop without a gateway knows its page."""
        return self.retrieved_ids or self.shown_ids

    def products_of(self, action: str) -> tuple[str, ...]:
        """Return the products that had an event of this name, each once, first event first."""
        return tuple(
            dict.fromkeys(each.product_id for each in self.events if each.action == action)
        )

    def first_position(self, action: str) -> int:
        """Return the best place with an event of this name, from 1; 0 without one."""
        places = [
            self.shown_ids.index(product) + 1
            for product in self.products_of(action)
            if product in self.shown_ids
        ]
        return min(places, default=0)


@dataclass(frozen=True, slots=True)
class SearchLog:
    """The searches of a span of time.

    Attributes:
        searches: By time.
        orphans: Events of the span whose query id no search has, of the span or shortly before.
        unnamed: Events that name no search or no product.
    """

    searches: list[LoggedSearch]
    orphans: int
    unnamed: int


def read_search_log(streams: Streams, start: datetime, end: datetime) -> SearchLog:
    """Join the searches of `start` <= time < `end` with their events.

    A search that the gateway wrote (`crossrank-searches`) is taken before the shop's own word of
    it (`ubi_queries`); impressions are not kept, for the page says what was shown.

    Raises:
        StreamError: When a stream cannot be read.
    """
    rows: dict[str, Json] = {}
    by_gateway: set[str] = set()
    for stream in (QUERIES, SEARCHES):
        for row in streams.read(stream, start, end):
            query_id = str(row.get("query_id") or f"unnamed-{len(rows)}")
            rows[query_id] = _merged(rows.get(query_id, {}), row)
            if stream == SEARCHES:
                by_gateway.add(query_id)
    found = {name: _search(name, row, name in by_gateway) for name, row in rows.items()}
    # events of a search just before the span belong to that one's day
    earlier = {
        row.get("query_id")
        for stream in (QUERIES, SEARCHES)
        for row in streams.read(stream, start - EVENT_DELAY, start)
    }
    orphans = unnamed = 0
    for row in streams.read(EVENTS, start, end + EVENT_DELAY):
        query, event = row.get("query_id"), _event(row)
        if event.action == IMPRESSION:
            continue
        late = event.time >= end
        if not query or not event.product_id:
            unnamed += not late
        elif query in found:
            found[query].events.append(event)
        elif query not in earlier:
            orphans += not late
    searches = sorted(found.values(), key=lambda each: (each.time, each.query_id))
    return SearchLog(searches, orphans, unnamed)


def _merged(first: Json, second: Json) -> Json:
    attributes = [row.get("query_attributes") or {} for row in (first, second)]
    return {**first, **second, "query_attributes": {**attributes[0], **attributes[1]}}


def _search(query_id: str, row: Json, by_gateway: bool) -> LoggedSearch:  # noqa: FBT001
    attributes = row.get("query_attributes") or {}
    products = row.get("products") or {}
    names = _texts((row.get("categories") or {}).get("after", ()))
    return LoggedSearch(
        query_id=query_id,
        time=parse_time(row["@timestamp"]),
        shopper=str(row.get("client_id") or ""),
        query=str(row.get("user_query") or ""),
        retrieved_ids=_texts(products.get("before", ())),
        retrieval_scores=_numbers(products.get("retrieval_scores", ())),
        shown_ids=_texts(row.get("query_response_hit_ids") or ()),
        scores=_numbers(products.get("scores", ())),
        variant=str(row.get("variant") or attributes.get("variant") or ""),
        bundle_id=str(row.get("bundle_id") or attributes.get("bundle_id") or ""),
        teams=tuple(int(each) for each in str(attributes.get("teams") or "") if each in "01"),
        category=_most_frequent(names) or str(attributes.get("category") or UNKNOWN),
        by_gateway=by_gateway,
    )


def _event(row: Json) -> ShopperEvent:
    attributes = row.get("event_attributes") or {}
    product = attributes.get("object") or {}
    position = (attributes.get("position") or {}).get("ordinal")
    return ShopperEvent(
        action=str(row.get("action_name") or ""),
        product_id=str(product.get("object_id") or ""),
        position=position if isinstance(position, int) else 0,
        category=str(product.get("category") or ""),
        time=parse_time(row["@timestamp"]),
    )


def _most_frequent(names: Sequence[str]) -> str:
    return max(sorted(set(names)), key=names.count) if names else ""


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float("nan") if value is None else float(value) for value in values)
