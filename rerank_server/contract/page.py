"""One search's candidates with everything known about them when the page is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int32]
Times: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class History:
    """The shopper's past events, oldest first; events of one time are one basket.

    Attributes:
        rows: Product row of each event, shape (events,); the unknown row for a product
            that the product table does not hold.
        times: Unix seconds, shape (events,), not decreasing.
        kinds: Index into `Schema.event_kinds`, shape (events,).
        same_place: Whether the event happened at the page's place, shape (events,).
        discounted: Whether the product was bought at a discount, shape (events,).
    """

    rows: Rows
    times: Times
    kinds: npt.NDArray[np.int8]
    same_place: Flags
    discounted: Flags

    @property
    def size(self) -> int:
        """The number of events."""
        return int(self.rows.shape[0])


def empty_history() -> History:
    """Return the history of a shopper of whom nothing is known."""
    return History(
        rows=np.empty(0, np.int32),
        times=np.empty(0, np.int64),
        kinds=np.empty(0, np.int8),
        same_place=np.empty(0, np.bool_),
        discounted=np.empty(0, np.bool_),
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One search's candidates in retrieval order, by product row.

    Attributes:
        query: What the shopper typed; empty for a recommendation slot.
        surface: Index into `Schema.surfaces`.
        time: Unix seconds at which the page is shown.
        rows: Product row of each candidate, shape (candidates,); the unknown row for a
            product that the product table does not hold.
        retrieval_scores: First-pass scores, shape (candidates,); NaN when absent.
        signals: One column per `Schema.signals`, shape (candidates, signals); NaN when absent.
        history: The shopper's past events, all before `time`.
    """

    query: str
    surface: int
    time: int
    rows: Rows
    retrieval_scores: Floats
    signals: Floats
    history: History = field(default_factory=empty_history)

    @property
    def size(self) -> int:
        """The number of candidates."""
        return int(self.rows.shape[0])

    @property
    def day(self) -> int:
        """The integer day (UTC) on which the page is shown."""
        return self.time // SECONDS_PER_DAY
