"""A weak first pass for simulated searches that run without Elasticsearch.

Products of the searched leaf come with a score of 2, others of the same department with 1, both
with noise that is part of the product (which a ranker must not mistake for quality) and part of
the search (which lets examination be told from attraction).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deploy.loop.shop_tables import ShopTables

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FIXED_NOISE, FRESH_NOISE = 0.6, 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """Products that retrieval found, best first.

    Attributes:
        rows: Rows of the catalogue.
        scores: First-pass score of each.
    """

    rows: Ints
    scores: Doubles


class FirstPass(Protocol):
    """What finds the candidates of a search."""

    def find(self, leaf: str, limit: int, random: np.random.Generator) -> Found:
        """Return at most `limit` products for the name of a leaf."""
        ...


class LeafRetrieval:
    """Retrieval over the catalogue in memory."""

    def __init__(self, tables: ShopTables, seed: int) -> None:
        self._leaves = np.array(tables.leaves)
        self._middles: dict[str, str] = {}
        by_middle: defaultdict[str, list[int]] = defaultdict(list)
        for row, path in enumerate(tables.category_paths):
            self._middles[path[-1]] = path[0]
            by_middle[path[0]].append(row)
        self._rows = {name: np.array(rows, np.int64) for name, rows in by_middle.items()}
        random = np.random.default_rng((seed, 2))
        self._fixed: Doubles = random.normal(0.0, FIXED_NOISE, len(tables.product_ids))

    def find(self, leaf: str, limit: int, random: np.random.Generator) -> Found:
        """Return at most `limit` products of the leaf and its department; none of an unknown."""
        rows = self._rows.get(self._middles.get(leaf, ""), np.empty(0, np.int64))
        scores = 1.0 + (self._leaves[rows] == leaf) + self._fixed[rows]
        scores += random.normal(0.0, FRESH_NOISE, rows.size)
        order = np.argsort(-scores, kind="stable")[:limit]
        return Found(rows[order], scores[order] - min(scores.min(initial=0.0), 0.0))
