"""Validation pages with every score of them, and what a ranking would give to a category there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerank_server.contract.schema import index_of
from trainer.baselines.gbdt import Gbdt, GbdtBudget, GbdtError
from trainer.baselines.trees import normalised_trees
from trainer.encoding.batches import rows_of
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog, heads_of_log
from trainer.encoding.pageset import Doubles, Mask, PageSet, encoded_pages
from trainer.guard.guard import POOLED_TREES
from trainer.model.ranker import Ranker
from trainer.model.tree_term import NO_TREES, TreeTerm
from trainer.tasks import counted_rows
from trainer.training.network import score_pages


@dataclass(frozen=True, slots=True)
class GuardCell:
    """What another ranking would give to a surface and category.

    Attributes:
        surface: Row of the surface.
        category: Row of the category.
        name: Of the ranking.
        model: Its trees; None for the network.
        raw: Its scores of the category's candidates, shape (rows, objectives).
        taken: As in `HeldScores`; the other objectives' scores are the network's logits.
        factor: Logits of the default per unit of the score, shape (objectives,).
        shift: Logits that are added, shape (objectives,).
    """

    surface: int
    category: int
    name: str
    model: Gbdt | None
    raw: Doubles
    taken: Mask
    factor: Doubles
    shift: Doubles

    @property
    def logits(self) -> Doubles:
        """The scores as logits of the default, shape (rows, objectives)."""
        return self.raw * self.factor + self.shift


@dataclass(frozen=True, slots=True)
class HeldScores:
    """Validation pages of one surface with every score of them.

    Attributes:
        pages: The pages.
        name: Of the surface.
        row: Of the surface in the schema.
        names: Of the categories, by row.
        counted: Which candidates say something of which objective, shape (rows, objectives).
        taken: Which objectives another ranking takes over, shape (objectives,); amounts and
            conditional ones stay the network's, since an order says nothing of them.
        network: The network's logits, shape (rows, objectives).
        default: With the trees fused in, the same shape.
        pooled: The surface's trees; None with too little to train them on.
        trees: Their score, shape (rows,).
    """

    pages: PageSet
    name: str
    row: int
    names: tuple[str, ...]
    counted: Mask
    taken: Mask
    network: Doubles
    default: Doubles
    pooled: Gbdt | None
    trees: Doubles

    @classmethod
    def of(
        cls,
        ranker: Ranker,
        catalogue: Catalogue,
        log: EncodedLog,
        surface: str,
        budget: GbdtBudget,
        every: int,
    ) -> HeldScores:
        """Score the pages with the network and the surface's trees."""
        pages, numbers = (
            encoded_pages(log, "validation", surface),
            log.pages_of("validation", surface),
        )
        network = score_pages(ranker, catalogue, log, numbers, trees=False).astype(np.float64)
        row = index_of(surface, log.schema.surfaces, "surfaces")
        try:
            pooled = normalised_trees(log, surface, budget, every=every)
        except GbdtError:
            pooled = None
        trees = np.zeros(pages.candidates) if pooled is None else pooled(pages)
        term, default = ranker.tree_term, network
        if term is not None:
            default = network + trees[:, None] * term.weights[row][pages.categories]
        return cls(
            pages=pages,
            name=surface,
            row=row,
            names=log.schema.categories,
            counted=counted_rows(log, rows_of(log, numbers)),
            taken=np.array([not head.amount and head.parent < 0 for head in heads_of_log(log)]),
            network=network,
            default=default,
            pooled=pooled,
            trees=trees,
        )


def with_cells(term: TreeTerm | None, cells: list[GuardCell], log: EncodedLog) -> TreeTerm | None:
    """Return the term with the cells that other rankings take over."""
    if not cells:
        return term
    surfaces, objectives = log.schema.surfaces, log.schema.objectives
    if term is None:
        nothing = np.zeros((len(surfaces), len(objectives)), np.float32)
        term = TreeTerm.of_surfaces({}, nothing, len(log.schema.categories))
    models, model_of = list(term.models), term.model_of.copy()
    weights, network, bias = term.weights.copy(), term.network.copy(), term.bias.copy()
    for cell in cells:
        at = cell.surface, cell.category
        bias[at] = cell.shift
        if cell.model is None:
            model_of[at], weights[at], network[at] = NO_TREES, 0, cell.factor
            continue
        pooled = int(term.model_of[cell.surface, 0])
        if cell.name == POOLED_TREES and pooled != NO_TREES:
            model_of[at] = pooled  # the same trees, which the default has too
        else:
            known = next((i for i, model in enumerate(models) if model is cell.model), len(models))
            models += [cell.model] if known == len(models) else []
            model_of[at] = known
        weights[at] = np.where(cell.taken, cell.factor, 0)
        network[at] = np.where(cell.taken, 0, 1)
    return TreeTerm(tuple(models), model_of, weights, network, bias)
