"""Trees that learn from the pages of one category alone, for the guard to compare."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rerank_server.contract.schema import Normaliser
from trainer.baselines.gbdt import Gbdt, GbdtBudget, GbdtError, train_gbdt
from trainer.baselines.single_category import of_category
from trainer.baselines.trees import normalised_trees
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, Integers, encoded_pages


@dataclass(frozen=True, slots=True)
class OwnTrees:
    """Trees of single categories, trained when they are asked for and kept as `trees` keeps them.

    Attributes:
        log: The whole log.
        of_pages: Category row of each page, from `categories_of_pages`.
        budget: What training may spend.
        every: They learn from every so many-th training page.
    """

    log: EncodedLog
    of_pages: Integers
    budget: GbdtBudget
    every: int = 1

    def train(self, category: int, surface: str) -> Gbdt | None:
        """Return the trees of a category's pages of one surface; None with too few pages."""
        alone = of_category(self.log, category, self.of_pages)
        try:
            return normalised_trees(alone, surface, self.budget, every=self.every)
        except GbdtError:
            return None

    def cross_fitted_scores(self, category: int, surface: str) -> Doubles | None:
        """Return scores of the category's validation pages by trees that did not stop on them.

        Trees stop where validation pages rank best, and so look better on these pages than they
        are. Here shoppers are halved, and trees that stop on one half score the other.

        Returns:
            Shape (rows,); None where a half has no page with a positive.
        """
        log = of_category(self.log, category, self.of_pages)
        train, held = (encoded_pages(log, split, surface) for split in ("train", "validation"))
        if self.every > 1:
            train = train.select(np.arange(train.pages) % self.every == 0)
        normaliser = Normaliser(log.schema)
        _, shopper = np.unique(held.shopper, return_inverse=True)
        scores = np.zeros(held.candidates)
        for half in (0, 1):
            stops = shopper % 2 == half
            if stops.all() or not stops.any():
                return None
            try:
                model = train_gbdt(
                    train,
                    held.select(stops),
                    log.schema.objectives[0],
                    replace(self.budget, threads=1),
                    normaliser=normaliser,
                )
            except GbdtError:
                return None
            scores[~stops[held.page_of_row]] = model(held.select(~stops))
        return scores
