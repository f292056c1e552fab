"""Three ways in which a day of traffic goes wrong, to see that learning refuses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from deploy.loop.documents import document_of
from deploy.loop.errors import LoopError
from deploy.loop.search_log import CLICK, EVENTS, SEARCHES
from deploy.loop.traffic import DayOfTraffic
from rerank_server.contract.errors import nearest
from rerank_server.telemetry.document import Document

Poison = Literal["robot", "swapped_feature", "missing_field"]
ROBOT = "f00dface" * 2
_ROBOT_EVERY = 3


class PoisonError(LoopError):
    """An unknown kind of poison."""


def poisoned(day: DayOfTraffic, kind: str) -> DayOfTraffic:
    """Return the day with one thing wrong.

    `robot`: one client clicks the last place of every third page. `swapped_feature`: first-pass
    scores hold the rank in their place. `missing_field`: no search says who made it.

    Raises:
        PoisonError: When the kind is unknown.
    """
    kinds: dict[str, Callable[[DayOfTraffic], dict[str, list[Document]]]] = {
        "robot": _robot,
        "swapped_feature": lambda day: {SEARCHES: _changed(day, SEARCHES, _swap)},
        "missing_field": lambda day: {
            stream: _changed(day, stream, _forget) for stream in day.streams
        },
    }
    if kind not in kinds:
        known = get_args(Poison)
        raise PoisonError(
            f"poison: got {kind!r}, want one of {', '.join(known)}{nearest(kind, known)}"
        )
    return DayOfTraffic({**day.streams, **kinds[kind](day)}, day.truths)


@dataclass(frozen=True, slots=True)
class _Page:
    query_id: str
    moment: str
    shown: list[str]


def _robot(day: DayOfTraffic) -> dict[str, list[Document]]:
    pages = [
        _Page(row["query_id"], row["@timestamp"], row["query_response_hit_ids"])
        for row in map(_fields, day.streams[SEARCHES])
        if row.get("query_response_hit_ids")
    ]
    chosen = {page.query_id for page in pages[::_ROBOT_EVERY]}
    clicks = [
        document_of(
            {
                "@timestamp": page.moment,
                "timestamp": page.moment,
                "action_name": CLICK,
                "query_id": page.query_id,
                "client_id": ROBOT,
                "event_attributes": {
                    "object": {"object_id": page.shown[-1], "object_id_field": "_id"},
                    "position": {"ordinal": len(page.shown)},
                },
            }
        )
        for page in pages
        if page.query_id in chosen
    ]

    def hand_over(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "client_id": ROBOT} if row["query_id"] in chosen else row

    streams = {name: _changed(day, name, hand_over) for name in day.streams if name != EVENTS}
    return {**streams, EVENTS: [*day.streams[EVENTS], *clicks]}


def _swap(row: dict[str, Any]) -> dict[str, Any]:
    products = row.get("products")
    if not products:
        return row
    ranks = [float(rank) for rank in range(len(products["retrieval_scores"]))]
    return {**row, "products": {**products, "retrieval_scores": ranks}}


def _forget(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "client_id"}


def _changed(
    day: DayOfTraffic, stream: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[Document]:
    return [document_of(change(_fields(document))) for document in day.streams[stream]]


def _fields(document: Document) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(document.body)
    return fields
