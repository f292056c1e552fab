"""Rolling product statistics: what was known of every product before a given day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_server.contract.page import SECONDS_PER_DAY, Floats
from rerank_server.contract.schema import ProductColumn

SALES_WINDOWS_DAYS = (7, 28, 56, 91)
PRODUCT_COLUMNS = (
    *(ProductColumn(f"sales_{days}d", days) for days in SALES_WINDOWS_DAYS),
    ProductColumn("repeat_share_91d"),
    ProductColumn("discount_share_28d"),
    ProductColumn("price"),
    ProductColumn("price_leaf_ratio"),
    ProductColumn("log_age_days"),
)
_LONGEST = 91


@dataclass(frozen=True, slots=True)
class Purchases:
    """Every interaction in order of time, one row each.

    Attributes:
        shoppers: Shopper of each, shape (interactions,).
        rows: Product row of each.
        days: Integer day (UTC) of each, not decreasing.
        prices: Unit price; NaN when unknown.
        discounts: Share of the shelf price that was taken off, 0 to 1.
        repeats: Whether the shopper had bought the product before.
    """

    shoppers: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    days: npt.NDArray[np.int64]
    prices: Floats
    discounts: Floats
    repeats: npt.NDArray[np.bool_]


def purchases_in_time(
    shopper_offsets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    times: npt.NDArray[np.int64],
    prices: Floats,
    discounts: Floats,
) -> Purchases:
    """Order interactions, stored by shopper and then time, by time alone."""
    shoppers = np.repeat(
        np.arange(shopper_offsets.shape[0] - 1, dtype=np.int32), np.diff(shopper_offsets)
    )
    # the first row of each (shopper, product) is the trial, all later ones are repeats
    order = np.lexsort((times, rows, shoppers))
    repeats = np.zeros(rows.shape[0], np.bool_)
    ordered_shoppers, ordered_rows = shoppers[order], rows[order]
    repeats[order[1:]] = (ordered_shoppers[1:] == ordered_shoppers[:-1]) & (
        ordered_rows[1:] == ordered_rows[:-1]
    )
    by_time = np.argsort(times, kind="stable")
    return Purchases(
        shoppers=shoppers[by_time],
        rows=np.asarray(rows)[by_time],
        days=np.asarray(times)[by_time] // SECONDS_PER_DAY,
        prices=np.asarray(prices)[by_time],
        discounts=np.asarray(discounts)[by_time],
        repeats=repeats[by_time],
    )


class RollingStats:
    """The statistics columns of every product, moved forward one day at a time.

    Moving forward costs the purchases that enter and leave the windows, so a whole log
    costs time linear in its rows, and memory holds one value per product and window.
    """

    def __init__(self, purchases: Purchases, products: int, leaves: npt.NDArray[np.int32]) -> None:
        """Start before the first purchase; `leaves` is the leaf row of each product."""
        self._purchases = purchases
        self._products = products
        self._leaves = leaves[:products]
        first = int(purchases.days[0])
        self.day = first
        self._sums = {days: np.zeros(products) for days in SALES_WINDOWS_DAYS}
        self._repeats = np.zeros(products)
        self._discounts = np.zeros(products)
        self._prices = np.zeros(products)
        self._priced = np.zeros(products)
        self._last_price = np.full(products, np.nan)
        self._first_day = np.full(products, np.nan)

    def advance(self, day: int) -> None:
        """Move to `day`: count all purchases of whole days before it.

        Before the first advance the present day is that of the first purchase; an earlier day
        than that is one on which nothing is known.

        Raises:
            ValueError: When `day` lies before the present one.
        """
        if day < self.day and self._nothing_counted():
            self.day = day
        if day < self.day:
            raise ValueError(f"day: got {day}, want at least {self.day}")
        while self.day < day:
            self._add(self._slice(self.day), 1.0, None)
            self.day += 1
            for window in SALES_WINDOWS_DAYS:
                self._add(self._slice(self.day - window - 1), -1.0, window)

    def _nothing_counted(self) -> bool:
        return bool(np.isnan(self._first_day).all())

    def _slice(self, day: int) -> slice:
        start, stop = np.searchsorted(self._purchases.days, [day, day + 1])
        return slice(int(start), int(stop))

    def _add(self, part: slice, sign: float, window: int | None) -> None:
        """Add a day's purchases to every window, or take them out of one."""
        purchases = self._purchases
        rows = purchases.rows[part]
        if rows.shape[0] == 0:
            return
        for days, sums in self._sums.items():
            if window in (None, days):
                np.add.at(sums, rows, sign)
        if window in (None, _LONGEST):
            np.add.at(self._repeats, rows, sign * purchases.repeats[part])
        if window in (None, 28):
            prices = purchases.prices[part]
            known = np.isfinite(prices)
            np.add.at(self._discounts, rows, sign * purchases.discounts[part])
            np.add.at(self._prices, rows[known], sign * prices[known].astype(np.float64))
            np.add.at(self._priced, rows[known], sign)
            if window is None:
                self._last_price[rows[known]] = prices[known]
        if window is None:
            fresh = rows[np.isnan(self._first_day[rows])]
            self._first_day[fresh] = self.day

    def columns(self) -> Floats:
        """Return `PRODUCT_COLUMNS` of every product and the unknown row after them.

        Returns:
            float32, shape (products + 1, columns); the last row is NaN.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            sales_quarter, sales_month = self._sums[_LONGEST], self._sums[28]
            repeat = np.where(sales_quarter > 0, self._repeats / sales_quarter, np.nan)
            discount = np.where(sales_month > 0, self._discounts / sales_month, np.nan)
            price = np.where(self._priced > 0, self._prices / self._priced, self._last_price)
            log_price = np.log(np.maximum(price, 0.01))
        age = np.log1p(self.day - self._first_day)
        known = np.isfinite(log_price)
        total = np.bincount(self._leaves[known], log_price[known])
        count = np.bincount(self._leaves[known])
        mean = np.full(int(self._leaves.max(initial=0)) + 1, np.nan)
        mean[: count.shape[0]] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        stats = np.full((self._products + 1, len(PRODUCT_COLUMNS)), np.nan, np.float32)
        columns = [
            *(self._sums[days] for days in SALES_WINDOWS_DAYS),
            repeat,
            discount,
            price,
            log_price - mean[self._leaves],
            age,
        ]
        for index, values in enumerate(columns):
            stats[:-1, index] = values
        return stats
