"""Counts and histories of the past only: every window ends before the day it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.logs.log_arrays import InteractionArrays

Ints = npt.NDArray[np.int64]


def expand_slices(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return, for slices `starts[i] : starts[i] + counts[i]`, each member's slice and position."""
    owner = np.repeat(np.arange(counts.shape[0], dtype=np.int64), counts)
    before = np.cumsum(counts) - counts
    position = np.arange(owner.shape[0], dtype=np.int64) - np.repeat(before - starts, counts)
    return owner, position


class SalesWindows:
    """Purchase lines per product, and per product and place, over trailing complete days.

    A window of `w` days seen from day `d` counts the lines of days `d - w` to `d - 1`, whoever
    bought. Memory is linear in the products and in the pairs of place and product that occur.
    """

    def __init__(
        self,
        interactions: InteractionArrays,
        products: int,
        chain_days: Sequence[int],
        place_days: Sequence[int],
    ) -> None:
        order = np.argsort(interactions.day, kind="stable")
        self._days = interactions.day[order]
        self._rows = interactions.row[order]
        self._products = products
        keys = self._key(interactions.place[order], self._rows)
        self._pair_keys, self._pairs = np.unique(keys, return_inverse=True)
        self._chain = {days: np.zeros(products, np.int32) for days in chain_days}
        self._place = {days: np.zeros(len(self._pair_keys), np.int32) for days in place_days}
        self._bounds = dict.fromkeys({*chain_days, *place_days}, (0, 0))

    def _key(self, places: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> Ints:
        return places.astype(np.int64) * self._products + rows

    def advance(self, day: int) -> None:
        """Move every window to end before `day`; days must not decrease."""
        end = int(np.searchsorted(self._days, day))
        for window, (old_start, old_end) in self._bounds.items():
            start = int(np.searchsorted(self._days, day - window))
            if end < old_end:
                raise ValueError(f"day: got {day}, want days in ascending order")
            for counts, codes in self._counters(window):
                np.add.at(counts, codes[old_end:end], 1)
                np.subtract.at(counts, codes[old_start:start], 1)
            self._bounds[window] = (start, end)

    def _counters(self, window: int) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]]:
        counters = []
        if window in self._chain:
            counters.append((self._chain[window], self._rows.astype(np.intp, copy=False)))
        if window in self._place:
            counters.append((self._place[window], self._pairs))
        return counters

    def chain(self, window: int, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return the lines of each product anywhere, int32, shape of `rows`."""
        return self._chain[window][rows]

    def place(
        self, window: int, places: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int32]:
        """Return the lines of each product at its place, int32, shape of `rows`; 0 at place -1."""
        return self._counts_at(self._place[window], places, rows)

    def _counts_at(
        self,
        counts: npt.NDArray[np.int32],
        places: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.int32]:
        keys = self._key(places, rows)
        index = np.searchsorted(self._pair_keys, keys)
        index[index == len(self._pair_keys)] = 0
        known = (places >= 0) & (self._pair_keys[index] == keys)
        return np.where(known, counts[index], 0).astype(np.int32)


class PastPurchases:
    """What each shopper bought before a day, weighted by recency."""

    def __init__(self, interactions: InteractionArrays, *, decay_days: float) -> None:
        self._row = interactions.row
        self._day = interactions.day
        self._offsets = interactions.shopper_offsets
        self._first_day = int(self._day.min())
        self._span = int(self._day.max()) - self._first_day + 2
        self._keys = self._key(interactions.shopper.astype(np.int64), self._day)
        self._decay_days = decay_days
        self._products = int(self._row.max()) + 1

    def _key(self, shopper: Ints, day: Ints | int) -> Ints:
        key: Ints = shopper * self._span + np.clip(day - self._first_day, 0, self._span - 1)
        return key

    def weights(
        self, shoppers: npt.NDArray[np.int32], day: int
    ) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Return each shopper's products bought before `day`.

        Args:
            shoppers: Shopper indices, shape (shoppers,).
            day: Integer day; purchases on it or later do not count.

        Returns:
            Position in `shoppers`, product row, and weight: the sum over its purchase lines of
            0.5^(age in days / half-life). Sorted by position, then row.
        """
        starts = self._offsets[shoppers]
        ends = np.searchsorted(self._keys, self._key(shoppers.astype(np.int64), day))
        owner, line = expand_slices(starts, ends - starts)
        weight = 0.5 ** ((day - self._day[line]) / self._decay_days)
        keys, inverse = np.unique(owner * self._products + self._row[line], return_inverse=True)
        totals = np.bincount(inverse, weights=weight, minlength=len(keys))
        row = (keys % self._products).astype(np.int32)
        return keys // self._products, row, totals.astype(np.float64)
