"""From a page to the arrays the graphs take; trainer and server call the same encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerank_server.contract.collaborative import als_scores, knn_scores
from rerank_server.contract.errors import SchemaError, nearest
from rerank_server.contract.feature_list import FEATURE_GROUPS
from rerank_server.contract.history import HistoryView, history_features, view_history
from rerank_server.contract.keyed import KeyMatch
from rerank_server.contract.page import Flags, Floats, Page, Rows
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import Schema

SEQUENCE_FEATURES = ("log_age_days", "same_place", "discounted", "page_category", "same_basket")


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """The arrays of one page.

    Attributes:
        dense: Raw features, shape (candidates, features), float32; NaN is missing.
        rows: Product row of each candidate, shape (candidates,).
        categories: Category row of each candidate, shape (candidates,).
        sequence_rows: Product row of each event of the sequence, oldest first, shape (events,).
        sequence_features: Shape (events, len(SEQUENCE_FEATURES)), float32.
    """

    dense: Floats
    rows: Rows
    categories: Rows
    sequence_rows: Rows
    sequence_features: Floats


class FeatureEncoder:
    """Encodes pages against a product table; holds scratch memory, so one per thread."""

    def __init__(self, schema: Schema, product_rows: int) -> None:
        """Prepare for tables of `product_rows` rows, the unknown row included.

        Raises:
            SchemaError: When the schema asks for a feature that this code cannot compute.
        """
        known = (*FEATURE_GROUPS, *(column.name for column in schema.product_columns))
        known = (*known, *(signal.name for signal in schema.signals))
        for name in schema.feature_names:
            if name not in known:
                raise SchemaError(
                    f"feature: got {name!r}, want one this version computes{nearest(name, known)}"
                )
        self._schema = schema
        self._names = schema.feature_names
        self._slots = np.full(product_rows, -1, np.int32)

    def encode(self, page: Page, products: ProductTable) -> EncodedPage:
        """Return the arrays of one page; deterministic, and in the order of the candidates."""
        history = view_history(page, self._schema.history_limit)
        own = history.match(page.rows, products.unknown_row)
        columns = retrieval_features(page)
        columns |= product_features(page, products, history, own, self._schema)
        columns |= history_features(page, products, history, own)
        columns |= self._collaborative_features(page, products, history)
        dense = np.empty((page.size, len(self._names)), np.float32)
        for index, name in enumerate(self._names):
            dense[:, index] = columns[name]
        categories = products.categories[page.rows]
        on_page = _marked(products.categories[history.rows], categories)
        sequence = sequence_positions(on_page, self._schema.sequence_length)
        return EncodedPage(
            dense=dense,
            rows=page.rows,
            categories=categories,
            sequence_rows=history.rows[sequence],
            sequence_features=sequence_features(history, on_page, sequence),
        )

    def _collaborative_features(
        self, page: Page, products: ProductTable, history: HistoryView
    ) -> dict[str, np.ndarray]:
        known = page.rows != products.unknown_row
        rows = page.rows[known]
        if products.named_as is not None:
            rows = products.named_as(rows)
        self._slots[rows] = np.flatnonzero(known)
        past_rows, past_ages = history.distinct(products.unknown_row)
        weights = (0.5 ** (past_ages / self._schema.half_life_days)).astype(np.float32)
        own, other = knn_scores(page.rows, self._slots, past_rows, weights, products)
        self._slots[rows] = -1
        als = als_scores(
            page.rows,
            past_rows,
            weights,
            products,
            regularisation=self._schema.als_regularisation,
            confidence=self._schema.als_confidence,
        )
        return {
            "knn_own_category": own,
            "knn_other_categories": other,
            "knn_all": own + other,
            "als": als,
        }


def retrieval_features(page: Page) -> dict[str, np.ndarray]:
    """Return what the first pass says of each candidate."""
    scores = page.retrieval_scores.astype(np.float64)
    best = np.nanmax(scores) if np.isfinite(scores).any() else np.nan
    return {
        "retrieval_score": scores,
        "retrieval_score_gap": best - scores,
        "retrieval_log_rank": np.log1p(np.arange(page.size)),
        "page_log_size": np.full(page.size, np.log1p(page.size)),
    }


def product_features(
    page: Page, products: ProductTable, history: HistoryView, own: KeyMatch, schema: Schema
) -> dict[str, np.ndarray]:
    """Return product statistics and the caller's signals without the shopper's own purchases.

    `own` is `history.match` of the page's candidates.
    """
    # what needs a column that this shop does not have is missing
    missing = np.full(page.size, np.nan)
    columns = dict.fromkeys(("sales_trend", "sales_page_share", "price_page_ratio"), missing)
    day = products.as_of_day
    stats = products.stats[page.rows]
    for index, column in enumerate(schema.product_columns):
        values = stats[:, index].astype(np.float64)
        if column.window_days:
            inside = history.within_days(day, column.window_days)
            values = np.maximum(values - own.total(inside.astype(np.float64)), 0)
        columns[column.name] = values
    for index, signal in enumerate(schema.signals):
        values = page.signals[:, index].astype(np.float64)
        if signal.window_days:
            inside = history.within_days(page.day, signal.window_days) & history.same_place
            values = np.maximum(values - own.total(inside.astype(np.float64)), 0)
        columns[signal.name] = values
    if {"sales_28d", "sales_91d"} <= columns.keys():
        monthly, quarterly = columns["sales_28d"], columns["sales_91d"]
        columns["sales_trend"] = np.log((monthly + 1) / (quarterly * 28 / 91 + 1))
        total = np.nansum(monthly)
        columns["sales_page_share"] = monthly / total if total > 0 else np.zeros(page.size)
    if "price" in columns:
        price = np.log(np.maximum(columns["price"], 0.01))
        finite = np.isfinite(price)
        middle = np.median(price[finite]) if finite.any() else np.nan
        columns["price_page_ratio"] = price - middle
    return columns


def sequence_positions(on_page: Flags, length: int) -> np.ndarray:
    """Choose the events the sequence encoder sees, oldest first.

    Events of the page's categories, which `on_page` marks, come first, filled up with the most
    recent others: the hard search of SIM (Pi et al. 2020), so that a long past does not hide what
    matters here.
    """
    count = on_page.shape[0]
    if count <= length:
        return np.arange(count)
    recent_first = np.arange(count)[::-1]
    order = np.concatenate([recent_first[on_page[::-1]], recent_first[~on_page[::-1]]])
    return np.sort(order[:length])


def sequence_features(history: HistoryView, on_page: Flags, positions: np.ndarray) -> Floats:
    """Return what the sequence encoder knows of each event beside its product."""
    ages = history.ages_days[positions]
    same_basket = np.zeros(positions.shape[0])
    if positions.shape[0] > 1:
        same_basket[1:] = ages[1:] == ages[:-1]
    return np.stack(
        [
            np.log1p(ages) / np.log1p(365.0),
            history.same_place[positions],
            history.discounted[positions],
            on_page[positions],
            same_basket,
        ],
        axis=1,
    ).astype(np.float32)


def _marked(values: Rows, wanted: Rows) -> Flags:
    """Mark which of `values`, all >= 0, are among `wanted`."""
    marks = np.zeros(max(values.max(initial=0), wanted.max(initial=0)) + 1, np.bool_)
    marks[wanted] = True
    flags: Flags = marks[values]
    return flags
