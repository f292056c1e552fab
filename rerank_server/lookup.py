"""From the ids and names of a page to the rows that one bundle and product store know them by."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import PageError, nearest
from rerank_server.contract.page import Floats, History, Page, Rows, Times, empty_history
from rerank_server.contract.schema import Schema
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.product_store import ProductStore
from rerank_server.wall_clock import WallClock

# An event may be this much ahead of our clock when the page comes without a time.
CLOCK_SKEW_S = 300
_DEFAULT_KIND = "purchase"
_CLOCK = WallClock()
Kinds: TypeAlias = npt.NDArray[np.int8]


def locate_page(page: SearchPage, schema: Schema, products: ProductStore) -> Page:
    """Return `page` by rows; what the store or the schema does not know becomes neutral.

    Raises:
        PageError: When a signal or objective is unknown, or an event is later than the page.
    """
    shown = _page_time(page)
    kinds = _kinds(page.history, schema)
    kept = _kept_events(page.history, kinds, schema)
    events = page.history.product_ids
    # candidates and events in one lookup, of which each costs a fixed time
    rows = products.rows([*page.candidate_ids, *(events[index] for index in kept.tolist())])
    return Page(
        query=page.query,
        surface=surface_index(page.surface, schema),
        time=shown,
        rows=rows[: page.size],
        retrieval_scores=np.asarray(page.retrieval_scores, np.float32),
        signals=_signals(page, schema),
        history=_history(page, kept, kinds[kept], rows[page.size :], shown),
    )


def check_objectives(page: SearchPage, schema: Schema) -> None:
    """Refuse weights of objectives that the bundle does not know.

    Raises:
        PageError: With the nearest known name.
    """
    for name in page.objective_weights:
        if name not in schema.objectives:
            raise PageError(
                f"objective_weights: got {name!r}, want some of"
                f" {', '.join(schema.objectives)}{nearest(name, schema.objectives)}"
            )


def _page_time(page: SearchPage) -> int:
    newest = int(np.asarray(page.history.times, np.int64).max(initial=0))
    if page.time:
        shown = page.time
        want = f"at most the page's time {shown}"
    else:
        now = int(_CLOCK.now())
        shown = newest if now < newest <= now + CLOCK_SKEW_S else now
        want = f"at most {CLOCK_SKEW_S} s after the server's time {now}"
    if newest > shown:
        raise PageError(f"history.times: got {newest}, want {want}")
    return shown


def surface_index(name: str, schema: Schema) -> int:
    """Return the position of a surface in the schema; the first one's where unknown."""
    return schema.surfaces.index(name) if name in schema.surfaces else 0


def _signals(page: SearchPage, schema: Schema) -> Floats:
    names = [signal.name for signal in schema.signals]
    columns = np.full((page.size, len(names)), np.nan, np.float32)
    for name, values in page.signals.items():
        if name not in names:
            raise PageError(
                f"signals: got {name!r}, want some of {', '.join(names) or 'none'}"
                f"{nearest(name, names)}"
            )
        columns[:, names.index(name)] = values
    return columns


def _kept_events(history: ShopperHistory, kinds: Kinds, schema: Schema) -> Times:
    """Return the positions of the newest events of known kinds that features can see."""
    order = np.argsort(np.asarray(history.times, np.int64), kind="stable")
    return order[kinds[order] >= 0][-schema.history_limit :]


def _history(page: SearchPage, kept: Times, kinds: Kinds, rows: Rows, shown: int) -> History:
    """Return the events at the positions `kept`, of these kinds and products."""
    history, place = page.history, page.place
    if kept.shape[0] == 0:
        return empty_history()
    size = len(history.product_ids)
    same_place = np.zeros(size, np.bool_)
    if place and history.places:
        same_place = np.array([event_place == place for event_place in history.places])
    discounted = np.zeros(size, np.bool_)
    if len(history.discounted):
        discounted = np.array(history.discounted, np.bool_)
    return History(
        rows=rows,
        times=np.minimum(np.asarray(history.times, np.int64)[kept], shown),
        kinds=kinds,
        same_place=same_place[kept],
        discounted=discounted[kept],
    )


def _kinds(history: ShopperHistory, schema: Schema) -> Kinds:
    """Return the index of each event's kind in the schema, -1 where unknown, int8."""
    known = {name: index for index, name in enumerate(schema.event_kinds)}
    if not history.kinds:
        return np.full(len(history.product_ids), known.get(_DEFAULT_KIND, -1), np.int8)
    return np.array([known.get(kind, -1) for kind in history.kinds], np.int8)
