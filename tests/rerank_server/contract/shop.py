"""A shop of three products, and pages of it, for the feature tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from rerank_server.contract.feature_list import feature_specs
from rerank_server.contract.page import SECONDS_PER_DAY, History, Page
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import ProductColumn, Schema, SignalSpec

DAY = 20_000
NOW = DAY * SECONDS_PER_DAY + SECONDS_PER_DAY // 2
UNKNOWN = 3

COLUMNS = (
    ProductColumn("price"),
    ProductColumn("sales_28d", window_days=28),
    ProductColumn("sales_91d", window_days=91),
)
SIGNALS = (SignalSpec("store_sales_91d", window_days=91), SignalSpec("promoted"))
SCHEMA = Schema(
    features=feature_specs(COLUMNS, SIGNALS),
    product_columns=COLUMNS,
    signals=SIGNALS,
    levels=("leaf", "middle"),
    attributes=("brand", "size"),
    surfaces=("search",),
    event_kinds=("purchase",),
    objectives=("purchase",),
    categories=("neutral", "dairy", "pet"),
    sequence_length=4,
    history_limit=6,
)

TABLE = ProductTable(
    categories=np.array([1, 1, 2, 0], np.int32),
    levels=np.array([[1, 1], [1, 1], [2, 2], [0, 0]], np.int32),
    attributes=np.array([[1, 1], [2, 1], [1, 2], [0, 0]], np.int32),
    stats=np.array(
        [[2.0, 10, 20], [4.0, 4, 13], [np.nan, 0, 0], [np.nan, np.nan, np.nan]], np.float32
    ),
    factors=np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32),
    neighbours=np.array([[2, 1], [0, -1], [0, -1], [-1, -1]], np.int32),
    neighbour_weights=np.array([[0.5, 0.25], [0.25, 0], [0.5, 0], [0, 0]], np.float32),
    gram=np.array([[2.0, 1.0], [1.0, 2.0]]),
    as_of_day=DAY,
)


def history(*events: tuple[int, float, bool, bool]) -> History:
    """Events (product row, age in days, same place, discounted), oldest first."""
    return History(
        rows=np.array([event[0] for event in events], np.int32),
        times=np.array([NOW - round(event[1] * SECONDS_PER_DAY) for event in events], np.int64),
        kinds=np.zeros(len(events), np.int8),
        same_place=np.array([event[2] for event in events], np.bool_),
        discounted=np.array([event[3] for event in events], np.bool_),
    )


def page(rows, past: History | None = None, scores=None, signals=None) -> Page:
    size = len(rows)
    if scores is None:
        scores = np.arange(size, 0, -1)
    if signals is None:
        signals = np.full((size, len(SIGNALS)), np.nan)
    return Page(
        query="milk",
        surface=0,
        time=NOW,
        rows=np.array(rows, np.int32),
        retrieval_scores=np.array(scores, np.float32),
        signals=np.array(signals, np.float32),
        history=history() if past is None else past,
    )


ages = st.lists(st.sampled_from([0.25, 1, 5, 13, 27.5, 30, 60, 90, 200]), max_size=9)


@st.composite
def histories(draw) -> History:
    drawn = sorted(draw(ages), reverse=True)
    return history(
        *(
            (draw(st.integers(0, UNKNOWN)), age, draw(st.booleans()), draw(st.booleans()))
            for age in drawn
        )
    )


@st.composite
def pages(draw) -> Page:
    known = draw(st.permutations([0, 1, 2]))[: draw(st.integers(0, 3))]
    unknown = [UNKNOWN] * draw(st.integers(0 if known else 1, 2))
    rows = draw(st.permutations([*known, *unknown]))
    number = st.one_of(st.just(float("nan")), st.floats(0, 50, width=32))
    return page(
        rows,
        draw(histories()),
        scores=[draw(number) for _ in rows],
        signals=[[draw(number) for _ in SIGNALS] for _ in rows],
    )
