"""Sums and latest times over events that share a key with a candidate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


class KeyMatch:
    """Which events share a key with which candidates; key 0 or below matches nothing."""

    def __init__(
        self, event_keys: npt.NDArray[np.integer], candidate_keys: npt.NDArray[np.integer]
    ) -> None:
        """Match `event_keys`, shape (events,), with `candidate_keys`, shape (candidates,)."""
        # a key's slot is its first position among the sorted candidate keys
        keys = np.sort(candidate_keys)
        self._size = keys.shape[0]
        self._slots = keys.searchsorted(candidate_keys)
        position = np.minimum(keys.searchsorted(event_keys), self._size - 1)
        self.matched = (keys[position] == event_keys) & (event_keys > 0)
        self._position = position[self.matched]

    def total(self, weights: Doubles) -> Doubles:
        """Sum `weights`, shape (events,), over the events of each candidate's key."""
        sums = np.bincount(self._position, weights[self.matched], minlength=self._size)
        return sums[self._slots].astype(np.float64, copy=False)

    def count(self) -> Doubles:
        """Count the events of each candidate's key."""
        return np.bincount(self._position, minlength=self._size)[self._slots].astype(np.float64)

    def latest(self, times: Doubles) -> Doubles:
        """Return the latest of `times` (ascending) of each candidate's key; NaN without any."""
        latest = np.full(self._size, np.nan)
        latest[self._position] = times[self.matched]  # ascending: the last write wins
        return latest[self._slots]

    def earliest(self, times: Doubles) -> Doubles:
        """Return the earliest of `times` (ascending) of each candidate's key; NaN without any."""
        earliest = np.full(self._size, np.nan)
        earliest[self._position[::-1]] = times[self.matched][::-1]
        return earliest[self._slots]
