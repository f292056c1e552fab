"""Pages of a real search log: what was shown, and what shoppers did with it."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt

from trainer.logs.labels import Label, label_of_rows, packed, value_column
from trainer.logs.log import Frame
from trainer.logs.log_arrays import LogArrays, look_up, rank_ids, to_doubles
from trainer.logs.log_config import LogConfig
from trainer.logs.page_builder import SALES_SIGNALS
from trainer.logs.pages import SOURCES, Pages
from trainer.logs.searches import SEARCH

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]

SHOWN = np.uint8(1 << SOURCES.index("shown"))


def logged_pages(
    searches: Frame, events: Frame, log: LogArrays, config: LogConfig
) -> tuple[Pages, list[str]]:
    """Return the pages of the search log after the history window, and the query texts.

    Candidates keep the order shown; those the catalogue does not hold, and a second showing of
    one product, are left out. A page's labels are made of the events of its query id, whenever
    they came: 1 for each kind of event that a product has, and what the configuration's
    `[[objective]]` tables say. Retrieval scores fall back to NaN.

    Args:
        searches: Cleaned searches.
        events: Cleaned events.
        log: The coded log.
        config: `labels`, `further_signals` and the split times.

    Raises:
        LabelError: When a label is outside the range of its type.
    """
    split = np.searchsorted(np.array(config.split_times), searches["time"].to_numpy(), side="right")
    table = (
        searches.with_columns(
            split=nw.new_series("split", split - 1, backend=searches.implementation)
        )
        .filter(nw.col("split") >= 0)
        .sort("time", "query_id")
        .with_row_index("page")
    )
    queries, query = rank_ids(table, "text")
    page, row, score = _shown(table, log)
    joined, positions = _events_by_page(table, events, log)
    products = log.products.count
    labels = _labels(config.labels, page * products + row, joined, positions)
    counted = joined["kind"].is_in(config.event_kinds).to_numpy().astype(np.bool_)
    totals = np.bincount(np.unique(positions[counted]) // products, minlength=len(table))
    sizes = np.bincount(page, minlength=len(table))
    return Pages(
        shopper=look_up(table, "shopper", log.interactions.shoppers),
        time=table["time"].to_numpy().astype(np.int64),
        place=np.full(len(table), -1, np.int32),
        query=query,
        surface=np.full(len(table), SEARCH, np.int8),
        split=table["split"].to_numpy().astype(np.int8),
        category=_only_category(page, row, log, len(table)),
        positives_total=totals.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        row=row,
        retrieval_score=score,
        signals=np.full(
            (len(row), len(SALES_SIGNALS) + len(config.further_signals)), np.nan, np.float32
        ),
        labels=packed(config.labels, labels),
        source=np.full(len(row), SHOWN),
    ), queries


def _shown(table: Frame, log: LogArrays) -> tuple[Ints, Rows, npt.NDArray[np.float32]]:
    """Return page, product row and score of every known candidate, in the order shown."""
    lists = table["candidates"].to_list()
    scores = table["scores"].to_list()
    rows = {record["id"]: row for row, record in enumerate(log.products.records)}
    flat: list[tuple[int, int, float]] = []
    for page, (ids, values) in enumerate(zip(lists, scores, strict=True)):
        known = values if values is not None and len(values) == len(ids) else [None] * len(ids)
        seen: set[int] = set()
        for identifier, value in zip(ids, known, strict=True):
            row = rows.get(str(identifier))
            if row is not None and row not in seen:
                seen.add(row)
                flat.append((page, row, float("nan") if value is None else float(value)))
    columns: list[Any] = list(zip(*flat, strict=True)) or [(), (), ()]
    return (
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.float32),
    )


def _events_by_page(table: Frame, events: Frame, log: LogArrays) -> tuple[Frame, Ints]:
    """Return the events of the pages of the table in order of time, and page * products + row."""
    numbered = events.with_row_index("place in the log")
    joined = numbered.join(table.select("query_id", "page"), on="query_id", how="inner")
    # the place is for ties: what came first in the log stays first
    joined = joined.sort("time", "query_id", "product", "kind", "place in the log")
    row = look_up(joined, "product", [record["id"] for record in log.products.records])
    page = joined["page"].to_numpy().astype(np.int64)
    return joined, page * log.products.count + row


def _labels(
    labels: tuple[Label, ...], keys: Ints, events: Frame, positions: Ints
) -> npt.NDArray[np.float64]:
    """Return the labels of the candidates at `keys`, shape (candidates, labels)."""
    candidate = look_up_keys(keys, positions)
    shown = candidate >= 0
    kind = events["kind"].to_numpy()
    columns = []
    for label in labels:
        counted = shown & (kind == label.kind) if label.kind else shown
        values = to_doubles(events, value_column(label.column)) if label.column else None
        columns.append(
            label_of_rows(label, np.where(shown, candidate, 0), keys.size, values, counted)
        )
    return np.stack(columns, axis=1)


def look_up_keys(keys: Ints, wanted: Ints) -> Ints:
    """Return where each of `wanted` stands in the distinct `keys`, -1 where it does not."""
    if not keys.size:
        return np.full(wanted.shape, -1, np.int64)
    order = np.argsort(keys)
    found = np.minimum(np.searchsorted(keys[order], wanted), keys.size - 1)
    hit = keys[order][found] == wanted
    return np.where(hit, order[found], -1)


def _only_category(page: Ints, row: Rows, log: LogArrays, pages: int) -> Rows:
    """Return the category of the pages that hold one only, else 0."""
    category = log.products.category[row]
    low = np.full(pages, np.iinfo(np.int32).max, np.int32)
    high = np.zeros(pages, np.int32)
    np.minimum.at(low, page, category)
    np.maximum.at(high, page, category)
    return np.where(low == high, high, 0).astype(np.int32)
