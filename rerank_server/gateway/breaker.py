"""Stops calling what fails again and again, and tries again now and then."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

FAILURES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


class Breaker:
    """Opens after 5 failures in a row; then one call may try, after 0.5 s, later up to 5 s."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Begin closed."""
        self._clock = clock
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._try_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._failures >= FAILURES

    def lets_through(self) -> bool:
        """Return whether to call now; while open, true for one call in each pause."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._try_at:
            return False
        self._try_at = now + self._pause_s
        return True

    def count(self, *, failed: bool) -> None:
        """Count the end of a call."""
        if not failed:
            self._failures, self._pause_s = 0, FIRST_PAUSE_S
            return
        self._failures += 1
        if self._failures == FAILURES:
            self._try_at = self._clock() + self._pause_s
        elif self._failures > FAILURES:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._try_at = self._clock() + self._pause_s
