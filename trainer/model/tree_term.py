"""The trees' part of the model: a score of the dense features, added to the network's logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.gbdt import Gbdt


@dataclass(frozen=True, slots=True)
class TreeTerm:
    """Trees of some surfaces and their weight in each objective's logit.

    Attributes:
        trees: Row of the surface in the schema -> its trees, trained on normalised features.
        weights: Logits per unit of the trees' score, shape (surfaces, objectives), float32; 0
            for a surface without trees.
    """

    trees: Mapping[int, Gbdt]
    weights: npt.NDArray[np.float32]

    def __call__(
        self,
        dense: npt.NDArray[Any],
        categories: npt.NDArray[Any],
        surface: npt.NDArray[Any],
    ) -> npt.NDArray[np.float32]:
        """Return what is added to the logits, shape (pages, candidates, objectives).

        Args:
            dense: Normalised features, shape (pages, candidates, features).
            categories: Category rows, shape (pages, candidates).
            surface: Surface row of each page, shape (pages,).
        """
        pages, candidates = categories.shape
        added = np.zeros((pages, candidates, self.weights.shape[1]), np.float32)
        for row, trees in self.trees.items():
            here = np.flatnonzero(surface == row)
            if here.size:
                flat = dense[here].reshape(-1, dense.shape[2])
                scores = trees.scores(flat, categories[here].ravel())
                added[here] = scores.reshape(here.size, candidates, 1) * self.weights[row]
        return added
