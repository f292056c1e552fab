"""Session-kNN: a product scores by the past sessions that are like the shopper's latest ones.

V-SkNN (Ludewig and Jannach 2018), where the newer of the current session weighs more, with the
decay by a neighbour's age of STAN (Garg et al. 2019, eq. 3). A session is what one shopper took
on one day; a day has no order that a log of baskets could tell, so the decay runs over sessions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.dataset import Prepared
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, Integers, PageSet
from trainer.encoding.past_fits import (
    Visits,
    largest_in_row,
    lines_before,
    past_lines,
    scores_by_fit,
)
from trainer.formats.neighbours import look_up

NEIGHBOURS = 500
LATEST_SESSIONS = 5


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Sessions before a day: what each holds, shape (sessions, products), and their days."""

    products: csr_matrix
    days: Integers


def session_knn_scores(log: EncodedLog, pages: PageSet) -> Doubles:
    """Return score(c) = sum over neighbours n of s(n) 0.5^(age of n / half-life) [c in n].

    s(n) = sum over products h both in n and in the shopper's `LATEST_SESSIONS` of w(h) /
    sqrt(|latest| |n|); w(h) = 0.5^(sessions since h: 0 for the latest). The age is that of n on
    the page's day; n are the `NEIGHBOURS` sessions of the largest product of both factors, of
    any shopper and before the last fit, see `scores_by_fit`. Shape (rows,).

    Args:
        log: Holds the interactions.
        pages: Pages of that log.
    """
    prepared, half_life_days = log.prepared, log.schema.half_life_days

    def fit(day: int) -> _Sessions:
        return _sessions_before(prepared, day)

    def score(sessions: _Sessions, visits: Visits) -> Doubles:
        latest = _latest(prepared, visits)
        near = csr_matrix(latest @ sessions.products.T)
        visit = np.repeat(np.arange(visits.time.size), np.diff(near.indptr))
        sizes = np.diff(latest.indptr)[visit] * np.diff(sessions.products.indptr)[near.indices]
        ages = visits.time[visit] // SECONDS_PER_DAY - sessions.days[near.indices]
        near.data *= 0.5 ** (ages / half_life_days) / np.sqrt(sizes)
        return look_up(
            sessions.products, largest_in_row(near, NEIGHBOURS), visits.of_row, visits.rows
        )

    return scores_by_fit(log, pages, fit, score, width=lambda fitted: int(fitted.days.size))


def _sessions_before(prepared: Prepared, day: int) -> _Sessions:
    shopper, line = lines_before(prepared, day)
    days = prepared.interaction_times[line] // SECONDS_PER_DAY
    # interactions are sorted by shopper, then time
    first = (np.diff(shopper, prepend=-1) != 0) | (np.diff(days, prepend=-1) != 0)
    products = csr_matrix(
        (np.ones(line.size), (np.cumsum(first) - 1, prepared.interaction_rows[line])),
        shape=(int(first.sum()), prepared.size),
    )
    products.sum_duplicates()
    products.data[:] = 1.0
    return _Sessions(products, days[first].astype(np.int64))


def _latest(prepared: Prepared, visits: Visits) -> csr_matrix:
    """Return w(h) of each visit's latest sessions, shape (visits, products)."""
    owner, line = past_lines(prepared, visits)
    days = prepared.interaction_times[line] // SECONDS_PER_DAY
    first = (np.diff(owner, prepend=-1) != 0) | (np.diff(days, prepend=-1) != 0)
    session = np.cumsum(first)
    last = np.zeros(visits.time.size, np.int64)
    np.maximum.at(last, owner, session)
    back = last[owner] - session
    kept = back < LATEST_SESSIONS
    products = np.asarray(prepared.interaction_rows[line], np.int64)[kept]
    keys, group = np.unique(owner[kept] * prepared.size + products, return_inverse=True)
    weights = np.zeros(keys.size)
    np.maximum.at(weights, group, 0.5 ** back[kept])
    rows, columns = np.divmod(keys, prepared.size)
    return csr_matrix((weights, (rows, columns)), shape=(visits.time.size, prepared.size))
