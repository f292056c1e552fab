"""User-kNN: a product scores by the shoppers of a like past who had it (Resnick et al. 1994).

The form for what was bought rather than rated: cosine of pasts, summed over the neighbours that
have the product (Sarwar et al. 2000; Jannach and Ludewig 2017). As in `item_knn`, where
each product is most similar to itself, each shopper is among the neighbours with a similarity of
1: without that it could not tell what a shopper buys again and again.
"""

from __future__ import annotations

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

NEIGHBOURS = 100


def user_knn_scores(log: EncodedLog, pages: PageSet) -> Doubles:
    """Return score(c) = r_u(c) + sum over neighbours v of cos(r_u, r_v) r_v(c), shape (rows,).

    r_v(c) halves every half-life of the schema since v last bought c, 0 for never; of the page's
    shopper u it is as of the page, of the others as of the last fit, see `scores_by_fit`. v are
    the `NEIGHBOURS` other shoppers of the largest cosine.

    Args:
        log: Holds the interactions.
        pages: Pages of that log.
    """
    prepared, half_life_days = log.prepared, log.schema.half_life_days

    def fit(day: int) -> csr_matrix:
        owner, line = lines_before(prepared, day)
        ages = day - prepared.interaction_times[line] / SECONDS_PER_DAY
        return _recencies(prepared, owner, line, ages / half_life_days, len(prepared.shoppers))

    def score(others: csr_matrix, visits: Visits) -> Doubles:
        owner, line = past_lines(prepared, visits)
        ages = (visits.time[owner] - prepared.interaction_times[line]) / SECONDS_PER_DAY
        own = _recencies(prepared, owner, line, ages / half_life_days, visits.shopper.size)
        near = csr_matrix(_with_rows_of_length_1(own) @ _with_rows_of_length_1(others).T)
        visit = np.repeat(np.arange(visits.shopper.size), np.diff(near.indptr))
        near.data[near.indices == visits.shopper[visit]] = 0.0  # the shopper as of the last fit
        near = largest_in_row(near, NEIGHBOURS)
        themselves = csr_matrix(
            (np.ones(visits.shopper.size), (np.arange(visits.shopper.size),) * 2)
        )
        return look_up(others, near, visits.of_row, visits.rows) + look_up(
            own, themselves, visits.of_row, visits.rows
        )

    return scores_by_fit(log, pages, fit, score, width=lambda others: int(others.shape[0]))


def _recencies(
    prepared: Prepared, owner: Integers, line: Integers, half_lives: Doubles, size: int
) -> csr_matrix:
    """Return 0.5 ** half-lives since the last time, shape (size, products)."""
    bought = np.asarray(prepared.interaction_rows[line], np.int64)
    keys, group = np.unique(owner * prepared.size + bought, return_inverse=True)
    latest = np.full(keys.size, np.inf)
    np.minimum.at(latest, group, half_lives)
    rows, columns = np.divmod(keys, prepared.size)
    return csr_matrix((0.5**latest, (rows, columns)), shape=(size, prepared.size))


def _with_rows_of_length_1(matrix: csr_matrix) -> csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return csr_matrix(
        (matrix.data / lengths[row], matrix.indices, matrix.indptr), shape=matrix.shape
    )
