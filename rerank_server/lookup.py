"""From the ids and names of a page to the rows that one bundle and product store know them by."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.errors import PageError, nearest
from rerank_server.contract.page import Floats, History, Page, empty_history
from rerank_server.contract.schema import Schema
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.product_store import ProductStore
from rerank_server.wall_clock import WallClock

# An event may be this much ahead of our clock when the page comes without a time.
CLOCK_SKEW_S = 300
_DEFAULT_KIND = "purchase"
_CLOCK = WallClock()


def locate_page(page: SearchPage, schema: Schema, products: ProductStore) -> Page:
    """Return `page` by rows; what the store or the schema does not know becomes neutral.

    Raises:
        PageError: When a signal or objective is unknown, or an event is later than the page.
    """
    shown = _page_time(page)
    return Page(
        query=page.query,
        surface=surface_index(page.surface, schema),
        time=shown,
        rows=products.rows(page.candidate_ids),
        retrieval_scores=np.asarray(page.retrieval_scores, np.float32),
        signals=_signals(page, schema),
        history=_history(page.history, page.place, shown, schema, products),
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


def _history(
    history: ShopperHistory, place: str | None, shown: int, schema: Schema, products: ProductStore
) -> History:
    size = len(history.product_ids)
    times = np.asarray(history.times, np.int64)
    kinds = _kinds(history, schema)
    # events of unknown kinds are left out, then the newest kept that features can see
    order = np.argsort(times, kind="stable")
    order = order[kinds[order] >= 0][-schema.history_limit :]
    if order.shape[0] == 0:
        return empty_history()
    same_place = np.zeros(size, np.bool_)
    if place and history.places:
        same_place = np.array([event_place == place for event_place in history.places])
    discounted = np.zeros(size, np.bool_)
    if len(history.discounted):
        discounted = np.array(history.discounted, np.bool_)
    return History(
        rows=products.rows([history.product_ids[index] for index in order.tolist()]),
        times=np.minimum(times[order], shown),
        kinds=kinds[order],
        same_place=same_place[order],
        discounted=discounted[order],
    )


def _kinds(history: ShopperHistory, schema: Schema) -> np.ndarray:
    """Return the index of each event's kind in the schema, -1 where unknown, int8."""
    known = {name: index for index, name in enumerate(schema.event_kinds)}
    if not history.kinds:
        return np.full(len(history.product_ids), known.get(_DEFAULT_KIND, -1), np.int8)
    return np.array([known.get(kind, -1) for kind in history.kinds], np.int8)
