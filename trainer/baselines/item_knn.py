"""Item-kNN as a ranking of its own, where the network's feature of that name is made to assist.

As a feature, a product is no neighbour of itself, since own counts say already what was bought
before, and neighbours share shoppers. A shop that ranks by item-kNN alone does better with what
shares baskets, each product most similar to itself (Sarwar et al. 2001; Deshpande and Karypis
2004); on validation pages of the Complete Journey log that is .499 against .353 NDCG@10.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from implicit.nearest_neighbours import CosineRecommender
from implicit.utils import ParameterWarning
from scipy.sparse import csr_matrix

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.dataset import Prepared
from trainer.encoding.encoded import EncodedLog, cutoff_days
from trainer.encoding.pageset import Doubles, Integers, PageSet
from trainer.logs.windows import expand_slices

NEIGHBOURS = 100
REFIT_DAYS = 28
_PAGES_AT_ONCE = 2_000


def item_knn_scores(log: EncodedLog, pages: PageSet) -> Doubles:
    """Return score(c) = sum over past products h of weight(h) * similarity(h, c), shape (rows,).

    h are the products of c's category that the shopper bought before the page; the weight halves
    every half-life of the schema since the last time. Similarities are those of `similarities`
    before the page, fitted anew every `REFIT_DAYS`.

    Args:
        log: Holds the interactions.
        pages: Pages of that log.
    """
    scores = np.zeros(pages.candidates)
    cutoffs = np.array(cutoff_days(log.prepared, REFIT_DAYS))
    fit_of_page = np.searchsorted(cutoffs, pages.time // SECONDS_PER_DAY, side="right") - 1
    for fit in np.unique(fit_of_page).tolist():
        similar = similarities(log.prepared, int(cutoffs[fit]))
        chosen = np.flatnonzero(fit_of_page == fit)
        for start in range(0, chosen.size, _PAGES_AT_ONCE):
            part = chosen[start : start + _PAGES_AT_ONCE]
            _, rows = expand_slices(pages.offsets[part], pages.sizes[part])
            scores[rows] = _score_part(log, pages, part, rows, similar)
    return scores


def similarities(prepared: Prepared, day: int) -> csr_matrix:
    """Return the cosine of each two products' baskets before `day`, shape (products, products).

    A basket is what one shopper took at one time. A product has its `NEIGHBOURS` nearest, and
    itself with 1 when it was bought at all.
    """
    shoppers = np.repeat(np.arange(len(prepared.shoppers)), np.diff(prepared.shopper_offsets))
    times = np.asarray(prepared.interaction_times)
    used = times < day * SECONDS_PER_DAY
    # interactions are sorted by shopper, then time
    starts = (np.diff(shoppers[used], prepend=-1) != 0) | (np.diff(times[used], prepend=-1) != 0)
    rows = np.asarray(prepared.interaction_rows)[used]
    baskets = csr_matrix(
        (np.ones(rows.size, np.float32), (np.cumsum(starts) - 1, rows)),
        shape=(int(starts.sum()), prepared.size),
    )
    baskets.sum_duplicates()
    baskets.data[:] = 1.0
    model = CosineRecommender(K=NEIGHBOURS + 1)  # one more, since a product is its own nearest
    with warnings.catch_warnings():
        # implicit transposes its input and then warns of the outcome's type
        warnings.simplefilter("ignore", ParameterWarning)
        model.fit(baskets, show_progress=False)
    return csr_matrix(model.similarity.astype(np.float32))


def _score_part(
    log: EncodedLog, pages: PageSet, part: Integers, rows: Integers, similar: csr_matrix
) -> Doubles:
    """Return the scores of the candidates `rows` of the pages `part`, category by category."""
    past = list(_pasts(log, pages, part))
    page = np.repeat(np.arange(part.size), [products.size for products, _ in past])
    bought = np.concatenate([products for products, _ in past])
    weight = np.concatenate([weights for _, weights in past])
    owner = np.repeat(np.arange(part.size), pages.sizes[part])
    categories = pages.categories[rows]
    scores = np.zeros(rows.size)
    of_bought = log.prepared.product_categories[bought]
    for category in np.unique(categories).tolist():
        inside = of_bought == category
        history = csr_matrix(
            (weight[inside], (page[inside], bought[inside])), shape=(part.size, log.prepared.size)
        )
        here = np.flatnonzero(categories == category)
        scored = csr_matrix(history @ similar)
        scores[here] = _look_up(scored, owner[here], pages.rows[rows[here]].astype(np.int64))
    return scores


def _look_up(matrix: csr_matrix, rows: Integers, columns: Integers) -> Doubles:
    """Return the values at these places, zero where there is none."""
    matrix.sort_indices()
    width = matrix.shape[1]
    keys = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * width + matrix.indices
    if keys.size == 0:
        return np.zeros(rows.size)
    wanted = rows * width + columns
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    found: Doubles = np.where(keys[place] == wanted, matrix.data[place], 0.0).astype(np.float64)
    return found


def _pasts(
    log: EncodedLog, pages: PageSet, part: Integers
) -> Iterator[tuple[Integers, npt.NDArray[np.float32]]]:
    """Yield the distinct products that the shopper of each page bought before it, and weights."""
    prepared, half_life_days = log.prepared, log.schema.half_life_days
    for page in part.tolist():
        shopper, time = int(pages.shopper[page]), int(pages.time[page])
        first, last = (int(edge) for edge in prepared.shopper_offsets[shopper : shopper + 2])
        times = prepared.interaction_times[first:last]
        stop = int(np.searchsorted(times, time))
        # the latest interaction of a product comes first when read backwards
        latest_first = prepared.interaction_rows[first : first + stop][::-1]
        products, index = np.unique(latest_first, return_index=True)
        ages = (time - times[:stop][::-1][index]) / SECONDS_PER_DAY
        yield products.astype(np.int64), (0.5 ** (ages / half_life_days)).astype(np.float32)
