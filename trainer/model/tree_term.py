"""The trees' part of the model: a score of the dense features, mixed with the network's logits.

What is mixed may differ by surface and category: each cell of the two has weights of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.baselines.gbdt import Gbdt

NO_TREES = -1


@dataclass(frozen=True, slots=True)
class TreeTerm:
    """Which trees score each surface and category, and how they and the network mix.

    logit = network * z + weights * trees + bias, all of the candidate's surface and category.

    Attributes:
        models: At least one; trained on normalised features.
        model_of: Index into `models`, shape (surfaces, categories); -1 is none.
        weights: Logits per unit of the trees' score, shape (surfaces, categories, objectives),
            float32; 0 where there are no trees.
        network: Factor of the network's logit, the same shape.
        bias: What is added, the same shape.
    """

    models: tuple[Gbdt, ...]
    model_of: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    network: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @classmethod
    def of_surfaces(
        cls, trees: Mapping[int, Gbdt], weights: npt.NDArray[np.float32], categories: int
    ) -> TreeTerm:
        """Return the term that adds the trees of a surface alike in every category.

        Args:
            trees: Row of the surface in the schema -> its trees.
            weights: Logits per unit of the trees' score, shape (surfaces, objectives).
            categories: Categories of the schema, row 0 included.
        """
        surfaces, objectives = weights.shape
        model_of = np.full((surfaces, categories), NO_TREES, np.int64)
        for index, row in enumerate(trees):
            model_of[row] = index
        shape = (surfaces, categories, objectives)
        return cls(
            models=tuple(trees.values()),
            model_of=model_of,
            weights=np.broadcast_to(weights[:, None], shape).astype(np.float32),
            network=np.ones(shape, np.float32),
            bias=np.zeros(shape, np.float32),
        )

    @property
    def keeps_network(self) -> bool:
        """Whether the network's logits count in full everywhere."""
        return bool((self.network == 1).all())

    def __call__(
        self,
        dense: npt.NDArray[Any],
        categories: npt.NDArray[Any],
        surface: npt.NDArray[Any],
    ) -> npt.NDArray[np.float32]:
        """Return what is added to the network's part, shape (pages, candidates, objectives).

        Args:
            dense: Normalised features, shape (pages, candidates, features).
            categories: Category rows, shape (pages, candidates).
            surface: Surface row of each page, shape (pages,).
        """
        cells = surface[:, None], categories
        used = self.model_of[cells]
        scores = np.zeros(categories.shape, np.float32)
        for index, model in enumerate(self.models):
            here = used == index
            if here.any():
                scores[here] = model.scores(dense[here], categories[here])
        added: npt.NDArray[np.float32] = scores[..., None] * self.weights[cells] + self.bias[cells]
        return added

    def mixed(
        self,
        logits: npt.NDArray[Any],
        dense: npt.NDArray[Any],
        categories: npt.NDArray[Any],
        surface: npt.NDArray[Any],
    ) -> npt.NDArray[np.float32]:
        """Return the network's `logits` with the trees' part, both of the shape of `__call__`."""
        share = self.network[surface[:, None], categories]
        mixed: npt.NDArray[np.float32] = logits * share + self(dense, categories, surface)
        return mixed
