"""The rankings without learning that every report shows; each maps a page set to scores.

Scores have shape (rows,), higher is better; ties keep retrieval order, and a candidate whose
feature is missing comes after those that have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from trainer.encoding.pageset import Doubles, PageSet

Ranking: TypeAlias = Callable[[PageSet], Doubles]


def random_order(pages: PageSet, seed: int = 0) -> Doubles:
    """Return an order drawn at random, the same for the same `seed`."""
    return np.random.default_rng(seed).random(pages.candidates)


def retrieval_order(pages: PageSet) -> Doubles:
    """Return the order of the first pass."""
    return -pages.position.astype(np.float64)


def popularity(pages: PageSet) -> Doubles:
    """Return sales of the last four weeks, the shopper's own left out."""
    return _present_first(pages.feature("sales_28d"))


def own_repeat(pages: PageSet) -> Doubles:
    """Return how often the shopper bought the product, 60-day decay; then retrieval order."""
    return _present_first(pages.feature("own_decayed_60d"))


def item_knn(pages: PageSet) -> Doubles:
    """Return the network's item-kNN feature, from the past in the candidate's category.

    A product is no neighbour of itself there; `trainer.baselines.item_knn` has item-kNN as a
    ranking.
    """
    return _present_first(pages.feature("knn_own_category"))


def item_knn_all(pages: PageSet) -> Doubles:
    """Return the network's item-kNN feature from the shopper's whole past."""
    return _present_first(pages.feature("knn_all"))


def als(pages: PageSet) -> Doubles:
    """Return the ALS score (Hu, Koren and Volinsky 2008), folded in from the shopper's past."""
    return _present_first(pages.feature("als"))


BASELINES: dict[str, Ranking] = {
    "random": random_order,
    "retrieval order": retrieval_order,
    "popularity": popularity,
    "own repeat": own_repeat,
    "item-kNN, without itself": item_knn,
    "item-kNN, without itself, all categories": item_knn_all,
    "ALS": als,
}


def _present_first(values: Doubles) -> Doubles:
    return np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
