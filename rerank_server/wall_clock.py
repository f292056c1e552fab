"""The time of day, which goes on when the machine's clock is set back."""

from __future__ import annotations

import time
from collections.abc import Callable


class WallClock:
    """Unix time that never goes back; may be shared by threads.

    A clock set back would make every event of the last hours lie in the future, and pages with
    such events are refused.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at `wall` and go on with it, or with `steady` where that is later."""
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def now(self) -> float:
        """Return Unix seconds."""
        steady = self._steady()
        self._ahead = max(self._ahead, self._wall() - steady)
        return steady + self._ahead
