"""Turns requests into labelled pages, day by day, from the past of each page only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rerank_server.contract.errors import nearest
from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.errors import LogColumnError
from trainer.logs.labels import Label, Labels, label_of_rows, packed
from trainer.logs.log_arrays import InteractionArrays
from trainer.logs.log_config import LogConfig
from trainer.logs.pages import Candidates, Pages, Requests, concatenate_pages
from trainer.logs.promotions import PromotionArrays
from trainer.logs.retrieval import TREND_DAYS, Past, Retrieval
from trainer.logs.windows import PastPurchases, SalesWindows, expand_slices

Ints = npt.NDArray[np.int64]

SALES_SIGNALS = (28, 91)
PROMOTION_SIGNALS = (
    "promotion_display",
    "promotion_mailer",
    "display_location",
    "mailer_location",
)


def signal_names(*, promotions: bool) -> tuple[str, ...]:
    """Return the names of the signal columns, in order."""
    sales = tuple(f"store_sales_{days}d" for days in SALES_SIGNALS)
    return sales + (PROMOTION_SIGNALS if promotions else ())


@dataclass(frozen=True, slots=True)
class PageBuilder:
    """Builds pages for any surface from one log.

    Attributes:
        interactions: The coded interactions.
        products: Number of products.
        promotions: Absent where the shop has none.
        config: Windows and limits.
    """

    interactions: InteractionArrays
    products: int
    promotions: PromotionArrays | None
    config: LogConfig

    def build(
        self, requests: Requests, retrievals: Mapping[int, Retrieval], *, progress: bool
    ) -> Pages:
        """Return the labelled pages of `requests`, sorted by time.

        Args:
            requests: Pages to fill, in any order.
            retrievals: How each surface index finds candidates.
            progress: Show a progress bar over the days.
        """
        config = self.config
        sales = SalesWindows(
            self.interactions,
            self.products,
            chain_days=(TREND_DAYS, config.chain_recent_days, config.chain_window_days),
            place_days=(*SALES_SIGNALS, config.place_window_days),
        )
        purchases = PastPurchases(self.interactions, decay_days=config.decay_days)
        first_buys = first_purchases(self.interactions, self.products)
        day_of_page = requests.time // SECONDS_PER_DAY
        parts = []
        for day in tqdm(np.unique(day_of_page).tolist(), "pages by day", disable=not progress):
            sales.advance(day)
            past = Past(day, sales, purchases)
            of_day = requests.take(day_of_page == day)
            for surface in np.unique(of_day.surface).tolist():
                subset = of_day.take(of_day.surface == surface)
                parts.append(self._fill(subset, retrievals[surface], past, first_buys))
        pages = concatenate_pages(parts)
        order = np.lexsort((pages.query, pages.surface, pages.shopper, pages.time))
        return pages.take(order)

    def _fill(
        self,
        requests: Requests,
        retrieval: Retrieval,
        past: Past,
        first_buys: npt.NDArray[np.bool_],
    ) -> Pages:
        found = retrieval.candidates(requests, past)
        labels, totals = self._label(requests, retrieval, found, first_buys)
        sizes = np.bincount(found.page, minlength=requests.count)
        return Pages(
            shopper=requests.shopper,
            time=requests.time,
            place=requests.place,
            query=requests.query,
            surface=requests.surface,
            split=requests.split,
            category=requests.category,
            positives_total=totals.astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            row=found.row,
            retrieval_score=found.score,
            signals=self._signals(requests, found, past),
            labels=labels,
            source=found.source,
        )

    def _signals(
        self, requests: Requests, found: Candidates, past: Past
    ) -> npt.NDArray[np.float32]:
        place, period = requests.place[found.page], requests.period[found.page]
        known = place >= 0
        columns = [
            np.where(known, past.sales.place(days, place, found.row), np.nan)
            for days in SALES_SIGNALS
        ]
        if self.promotions is not None:
            index, promoted = self.promotions.find(period, place, found.row)
            codes = [np.zeros(len(promoted), np.int8), np.zeros(len(promoted), np.int8)]
            codes[0][promoted] = self.promotions.display[index[promoted]]
            codes[1][promoted] = self.promotions.mailer[index[promoted]]
            columns += [code > 0 for code in codes] + codes
        return np.stack(columns, axis=1).astype(np.float32)

    def _label(
        self,
        requests: Requests,
        retrieval: Retrieval,
        found: Candidates,
        first_buys: npt.NDArray[np.bool_],
    ) -> tuple[Labels, Ints]:
        """Return labels per candidate and all positives per page."""
        page, line = expand_slices(
            requests.basket_start, requests.basket_end - requests.basket_start
        )
        row = self.interactions.row[line]
        wanted = retrieval.holds(requests, page, row)
        page, line, row = page[wanted], line[wanted], row[wanted]
        keys, first, inverse = np.unique(
            page * self.products + row, return_index=True, return_inverse=True
        )
        wanted_labels = self.config.labels
        made = [
            self._label_of_lines(label, inverse, len(keys), line, first_buys)
            for label in wanted_labels
        ]
        positives = packed(wanted_labels, np.stack(made, axis=1))
        totals = np.bincount(page[first], minlength=requests.count)
        labels = np.zeros((len(found.row), len(wanted_labels)), positives.dtype)
        if len(keys):
            wanted_keys = found.page * self.products + found.row
            index = np.minimum(np.searchsorted(keys, wanted_keys), len(keys) - 1)
            hit = keys[index] == wanted_keys
            labels[hit] = positives[index[hit]]
        return labels, totals

    def _label_of_lines(
        self,
        label: Label,
        group: Ints,
        groups: int,
        line: Ints,
        first_buys: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """Return the label of each group of interaction lines, shape (groups,)."""
        interactions = self.interactions
        counted = np.ones(line.size, np.bool_)
        if label.kind:
            kinds = interactions.kinds
            code = kinds.index(label.kind) if label.kind in kinds else len(kinds)
            counted &= interactions.kind[line] == code
        if label.first_time:
            counted &= first_buys[line]
        values = column_of(interactions, label.column)[line] if label.column else None
        return label_of_rows(label, group, groups, values, counted)


_OWN_COLUMNS = ("quantity", "price", "discount")


def column_of(interactions: InteractionArrays, column: str) -> npt.NDArray[np.floating[Any]]:
    """Return a column of interactions that a label reads: the file's, else one of ours.

    Raises:
        LogColumnError: When there is none of that name.
    """
    if column in interactions.values:
        return interactions.values[column]
    if column not in _OWN_COLUMNS:
        known = (*interactions.values, *_OWN_COLUMNS)
        raise LogColumnError(
            f"column of an objective: got {column!r}, want one of {', '.join(known)}"
            f"{nearest(column, known)}"
        )
    values: npt.NDArray[np.float32] = getattr(interactions, column)
    return values


def first_purchases(interactions: InteractionArrays, products: int) -> npt.NDArray[np.bool_]:
    """Return whether each interaction is at the shopper's first time with that product."""
    keys = interactions.shopper.astype(np.int64) * products + interactions.row
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    at_first: npt.NDArray[np.bool_] = interactions.time == interactions.time[first][inverse]
    return at_first
