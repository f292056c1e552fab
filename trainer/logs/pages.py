"""Pages of candidates as flat numpy columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from trainer.logs.windows import expand_slices

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]

SPLITS = ("train", "validation", "test")

# Where retrieval found a candidate, as bits of `candidates_source`.
SOURCES = ("popular", "own past", "affinity", "bought together", "shown")


@dataclass(frozen=True, slots=True)
class Requests:
    """Pages before retrieval, shape (pages,) each.

    Attributes:
        shopper: Shopper index, int32.
        time: Unix seconds, int64.
        place: Place index, int32; -1 unknown.
        period: Promotion period, int32; -1 none.
        query: Query index, int32; -1 none.
        surface: Surface index, int8.
        split: 0 train, 1 validation, 2 test, int8.
        category: Task category code, int32; 0 where the page mixes categories.
        scope: What the page may hold, int32: a match group for Search, else -1.
        basket_start: First interaction of the basket that answers the page, int64.
        basket_end: One past its last, int64.
    """

    shopper: Rows
    time: Ints
    place: Rows
    period: Rows
    query: Rows
    surface: Codes
    split: Codes
    category: Rows
    scope: Rows
    basket_start: Ints
    basket_end: Ints

    @property
    def count(self) -> int:
        """The number of pages."""
        return int(self.time.shape[0])

    def take(self, index: Ints | npt.NDArray[np.bool_]) -> Requests:
        """Return the requests at `index`."""
        return Requests(*(getattr(self, field.name)[index] for field in fields(self)))


def concatenate_requests(parts: Sequence[Requests]) -> Requests:
    """Return all requests in one."""
    return Requests(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Requests))
    )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Retrieved products of some pages, sorted by page, then retrieval order.

    Attributes:
        page: Page position, int64, not decreasing.
        row: Product row, int32, distinct within a page.
        score: Retrieval score, float32.
        source: Bits of `SOURCES`, uint8.
    """

    page: Ints
    row: Rows
    score: Floats
    source: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages with their candidates, sorted by time.

    Attributes:
        shopper, time, place, query, surface, split, category: As in `Requests`.
        positives_total: Products of the page that the shopper took, retrieved or not, int32.
        offsets: First candidate of each page, int64, shape (pages + 1,).
        row: Product rows in retrieval order, int32, shape (candidates,).
        retrieval_score: float32, shape (candidates,).
        signals: float32, shape (candidates, signals); NaN missing.
        labels: Shape (candidates, objectives); uint8 where every objective is binary, else
            float32.
        source: Bits of `SOURCES`, uint8, shape (candidates,).
    """

    shopper: Rows
    time: Ints
    place: Rows
    query: Rows
    surface: Codes
    split: Codes
    category: Rows
    positives_total: Rows
    offsets: Ints
    row: Rows
    retrieval_score: Floats
    signals: Floats
    labels: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    source: npt.NDArray[np.uint8]

    @property
    def count(self) -> int:
        """The number of pages."""
        return int(self.time.shape[0])

    def take(self, index: Ints) -> Pages:
        """Return the pages at `index`, in that order, with their candidates."""
        sizes = np.diff(self.offsets)[index]
        _, position = expand_slices(self.offsets[index], sizes)
        return Pages(
            **{name: getattr(self, name)[index] for name in PAGE_COLUMNS},
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            **{name: getattr(self, name)[position] for name in CANDIDATE_COLUMNS},
        )

    def reached(self) -> Ints:
        """Return how many positives each page's candidates hold, int64, shape (pages,)."""
        return sum_by_page((self.labels[:, 0] > 0).astype(np.int64), self.offsets)


PAGE_COLUMNS = (
    "shopper", "time", "place", "query", "surface", "split", "category", "positives_total",
)  # fmt: skip
CANDIDATE_COLUMNS = ("row", "retrieval_score", "signals", "labels", "source")


def sum_by_page(values: Ints, offsets: Ints) -> Ints:
    """Return the sum of each page's values; 0 for a page without candidates."""
    totals = np.concatenate([[0], np.cumsum(values)])
    sums: Ints = totals[offsets[1:]] - totals[offsets[:-1]]
    return sums


def concatenate_pages(parts: Sequence[Pages]) -> Pages:
    """Return all pages in one, in the order of `parts`."""
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    return Pages(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in PAGE_COLUMNS},
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in CANDIDATE_COLUMNS
        },
    )
