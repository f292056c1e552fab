"""Popularity that forgets: a product scores by its purchases, each counting less as it ages."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, PageSet

HALF_LIFE_DAYS = 7.0


def decayed_popularity_scores(log: EncodedLog, pages: PageSet) -> Doubles:
    """Return score(c) = sum over purchases of c of 0.5^(age in days / half-life), shape (rows,).

    DecayPop of Ji et al. (2020), with days for its steps. Purchases of the page's own day are
    not counted, whoever made them. One pass over the days, memory linear in purchases.

    Args:
        log: Holds the interactions.
        pages: Pages of that log.
    """
    prepared = log.prepared
    of_purchase = np.asarray(prepared.interaction_times) // SECONDS_PER_DAY
    order = np.argsort(of_purchase, kind="stable")
    bought = np.asarray(prepared.interaction_rows)[order]
    of_purchase = of_purchase[order]
    of_row = (pages.time // SECONDS_PER_DAY)[pages.page_of_row]
    by_day = np.argsort(of_row, kind="stable")
    days, starts = np.unique(of_row[by_day], return_index=True)
    totals, scores = np.zeros(prepared.size), np.zeros(pages.candidates)
    done, before = 0, int(days[0]) if days.size else 0
    for day, rows in zip(days.tolist(), np.split(by_day, starts[1:]), strict=True):
        totals *= 0.5 ** ((day - before) / HALF_LIFE_DAYS)
        stop = int(np.searchsorted(of_purchase, day))
        weights = 0.5 ** ((day - of_purchase[done:stop]) / HALF_LIFE_DAYS)
        totals += np.bincount(bought[done:stop], weights, prepared.size)
        scores[rows] = totals[pages.rows[rows]]
        done, before = stop, day
    return scores
