"""Scores pages by fits on their past: what the rankings of nearest shoppers and sessions share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.dataset import Prepared
from trainer.encoding.encoded import EncodedLog, cutoff_days
from trainer.encoding.pageset import Doubles, Integers, PageSet
from trainer.logs.windows import expand_slices

# as item-kNN is, see `trainer.baselines.item_knn`
REFIT_DAYS = 28
# of similarities at once: what a part of the pages may take, whatever the size of the log
_MOST_CELLS = 20_000_000
_MOST_PAGES = 2_000

Fit = TypeVar("Fit")


@dataclass(frozen=True, slots=True)
class Visits:
    """Pages without what is equal for several of one shopper at one time.

    Attributes:
        shopper: Shape (visits,).
        time: Unix seconds, shape (visits,).
        of_row: The visit of each candidate, ascending, shape (rows,).
        rows: The product of each candidate, shape (rows,).
    """

    shopper: Integers
    time: Integers
    of_row: Integers
    rows: Integers


def scores_by_fit(
    log: EncodedLog,
    pages: PageSet,
    fit: Callable[[int], Fit],
    score: Callable[[Fit, Visits], Doubles],
    *,
    width: Callable[[Fit], int],
) -> Doubles:
    """Return scores of shape (rows,), each page by the latest fit that knows none of its day.

    Args:
        log: Holds the interactions.
        pages: Pages of that log.
        fit: What is learned of the interactions before a day, anew every `REFIT_DAYS`.
        score: Scores of visits by a fit, shape (rows of the visits,).
        width: How many neighbours a visit is compared with, which bounds the visits at once.
    """
    scores = np.zeros(pages.candidates)
    cutoffs = np.array(cutoff_days(log.prepared, REFIT_DAYS))
    fit_of_page = np.searchsorted(cutoffs, pages.time // SECONDS_PER_DAY, side="right") - 1
    for number in np.unique(fit_of_page).tolist():
        fitted = fit(int(cutoffs[number]))
        at_once = int(np.clip(_MOST_CELLS // max(width(fitted), 1), 1, _MOST_PAGES))
        chosen = np.flatnonzero(fit_of_page == number)
        # pages of one visit side by side
        chosen = chosen[np.lexsort((pages.time[chosen], pages.shopper[chosen]))]
        for start in range(0, chosen.size, at_once):
            part = chosen[start : start + at_once]
            owner, rows = expand_slices(pages.offsets[part], pages.sizes[part])
            keys = np.stack([pages.shopper[part].astype(np.int64), pages.time[part]], axis=1)
            visits, of_page = np.unique(keys, axis=0, return_inverse=True)
            of_row = of_page.ravel()[owner]
            products = pages.rows[rows].astype(np.int64)
            scores[rows] = score(fitted, Visits(visits[:, 0], visits[:, 1], of_row, products))
    return scores


def largest_in_row(matrix: csr_matrix, count: int) -> csr_matrix:
    """Return the `count` largest entries of every row; of equal ones those of lower columns."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, row))
    place = np.arange(order.size) - matrix.indptr[row[order]]
    kept = order[(place < count) & (matrix.data[order] > 0)]
    return csr_matrix((matrix.data[kept], (row[kept], matrix.indices[kept])), shape=matrix.shape)


def past_lines(prepared: Prepared, visits: Visits) -> tuple[Integers, Integers]:
    """Return the interactions before each visit: its number, and the interaction's, oldest first.

    What has the time of the visit itself is not its past.
    """
    starts = np.asarray(prepared.shopper_offsets[visits.shopper], np.int64)
    ends = np.asarray(prepared.shopper_offsets[visits.shopper + 1], np.int64)
    times = prepared.interaction_times
    counts = np.array(
        [
            np.searchsorted(times[start:end], time)
            for start, end, time in zip(starts, ends, visits.time, strict=True)
        ],
        np.int64,
    )
    return expand_slices(starts, counts)


def lines_before(prepared: Prepared, day: int) -> tuple[Integers, Integers]:
    """Return the interactions before a day: their shopper and their number, by shopper and time."""
    used = np.flatnonzero(np.asarray(prepared.interaction_times) < day * SECONDS_PER_DAY)
    shopper = np.searchsorted(prepared.shopper_offsets, used, side="right") - 1
    return shopper.astype(np.int64), used
