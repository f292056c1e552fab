"""What a shop had sold before a moment, anywhere and at each of its places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deploy.demo.promotions import PlacePromotions
from deploy.demo.retrieval.catalogue import PlaceRows, PlaceTable
from rerank_server.contract.page import SECONDS_PER_DAY, Floats, Rows
from trainer.encoding.counts import PRODUCT_COLUMNS, RollingStats, purchases_in_time
from trainer.encoding.dataset import Prepared

# Product rows, and a number for each.
_Column: TypeAlias = tuple[npt.NDArray[np.integer], npt.NDArray[np.generic]]

CHAIN_WINDOWS_DAYS = (28, 56, 91)
PLACE_WINDOWS_DAYS = (28, 91)


def chain_sales(prepared: Prepared, now: int) -> Floats:
    """Purchases of each product in 28, 56 and 91 whole days before the day of `now`.

    Returns:
        float32, shape (products, 3).
    """
    purchases = purchases_in_time(
        prepared.shopper_offsets,
        prepared.interaction_rows,
        prepared.interaction_times,
        prepared.interaction_prices,
        prepared.interaction_discounts,
    )
    stats = RollingStats(purchases, prepared.size, np.asarray(prepared.product_leaves))
    stats.advance(now // SECONDS_PER_DAY)
    names = [column.name for column in PRODUCT_COLUMNS]
    wanted = [names.index(f"sales_{days}d") for days in CHAIN_WINDOWS_DAYS]
    sales: Floats = stats.columns()[:-1, wanted]
    return sales


def place_table(
    prepared: Prepared, now: int, promotions: Mapping[str, PlacePromotions]
) -> PlaceTable:
    """What each place sold in 28 and 91 whole days before the day of `now`, and promotes."""
    counts = _place_sales(prepared, now)
    by_place = {}
    for index, place in enumerate(prepared.places):
        columns: list[_Column] = [
            _of_place(keys, values, index, prepared.size) for keys, values in counts
        ]
        if place in promotions:
            promoted = promotions[place]
            columns += [(promoted.rows, promoted.display), (promoted.rows, promoted.mailer)]
        else:
            columns += [(np.zeros(0, np.int64), np.zeros(0))] * 2
        rows = np.unique(np.concatenate([listed for listed, _ in columns])).astype(np.int32)
        by_place[place] = PlaceRows(rows, *(_spread(rows, *column) for column in columns))
    return PlaceTable(by_place)


def _place_sales(
    prepared: Prepared, now: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Per window: ascending keys place * products + row, and purchases of each."""
    today = now // SECONDS_PER_DAY
    days = prepared.interaction_times // SECONDS_PER_DAY
    keys = prepared.interaction_places.astype(np.int64) * prepared.size + prepared.interaction_rows
    known = (prepared.interaction_places >= 0) & (days < today)
    return [
        np.unique(keys[known & (days >= today - window)], return_counts=True)
        for window in PLACE_WINDOWS_DAYS
    ]


def _of_place(
    keys: npt.NDArray[np.int64], values: npt.NDArray[np.int64], place: int, products: int
) -> _Column:
    """Product rows of one place, and their values."""
    start, end = np.searchsorted(keys, [place * products, (place + 1) * products]).tolist()
    return keys[start:end] - place * products, values[start:end]


def _spread(rows: Rows, listed: npt.NDArray[np.integer], values: npt.NDArray[np.generic]) -> Floats:
    """`values` of the `listed` rows in the order of `rows`, which hold them all; 0 elsewhere."""
    spread = np.zeros(rows.shape, np.float32)
    spread[np.searchsorted(rows, listed)] = values
    return spread
