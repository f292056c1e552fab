"""Late fusion: how much of the trees' score each objective of the network takes.

Trees cut the dense features sharper than a network of this size; the network knows ids, texts
and sequences, which trees cannot read. The sum of both ranks better than either. A surface has
trees of its own, and each objective a weight on them, chosen on validation pages; where trees
do not help it is 0.
"""

from __future__ import annotations

import logging
import os

import numpy as np

from rerank_server.contract.schema import index_of
from trainer.baselines.gbdt import Gbdt, GbdtBudget, GbdtError
from trainer.baselines.teacher import fit_sharpness
from trainer.baselines.trees import normalised_trees
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog, heads_of_log
from trainer.encoding.pageset import Doubles, PageSet, encoded_pages
from trainer.evaluation.metrics import ndcg_at_k
from trainer.model.ranker import Ranker
from trainer.model.tree_term import TreeTerm
from trainer.objectives import Head
from trainer.training.network import score_pages

_FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
_CUTOFF = 10
_LOG = logging.getLogger(__name__)


def fit_tree_term(
    ranker: Ranker,
    catalogue: Catalogue,
    log: EncodedLog,
    surfaces: tuple[str, ...],
    *,
    every: int = 1,
) -> TreeTerm | None:
    """Return the trees of every surface with the weights that rank validation pages best.

    Of the factors on the trees' score, in units of the sharpness that fits their softmax to the
    purchases, the one with the best NDCG@10 is taken, objective by objective.

    Args:
        ranker: The trained network, without a tree term.
        catalogue: Inputs of the product tower.
        log: The encoded log.
        surfaces: Those the network was trained on.
        every: Trees learn from every so many-th training page.

    Returns:
        None when trees help on no surface.
    """
    names = log.schema.objectives
    weights = np.zeros((len(log.schema.surfaces), len(names)), np.float32)
    trees: dict[int, Gbdt] = {}
    budget = GbdtBudget(threads=len(os.sched_getaffinity(0)))
    for surface in surfaces:
        try:
            model = normalised_trees(log, surface, budget, every=every)
        except GbdtError as error:
            _LOG.info("%s: no trees: %s", surface, error)
            continue  # no page to learn from or to stop by: the network alone
        held = encoded_pages(log, "validation", surface)
        logits = score_pages(ranker, catalogue, log, log.pages_of("validation", surface))
        scores = model(held)
        unit = fit_sharpness(held.objective(names[0]), scores, held)
        row = index_of(surface, log.schema.surfaces, "surfaces")
        for index, head in enumerate(heads_of_log(log)):
            weights[row, index] = _best_factor(logits[:, index], unit * scores, held, head) * unit
        if weights[row].any():
            trees[row] = model
    return TreeTerm.of_surfaces(trees, weights, len(log.schema.categories)) if trees else None


def _best_factor(logits: Doubles, trees: Doubles, held: PageSet, head: Head) -> float:
    """Return the factor on the trees' logits with the best NDCG@10, the smallest of equals.

    What is learned among products never bought is judged there. Amounts and conditional heads
    take nothing: trees that order by the first objective say nothing of them.
    """
    if head.amount or head.parent >= 0:
        return 0.0
    if head.objective.among == "never_bought":
        rows = held.discovery_rows()
        held, logits, trees = held.discovery(), logits[rows], trees[rows]
    gains = held.objective(head.name)
    if not gains.any():
        return 0.0
    figures = [
        np.nanmean(ndcg_at_k(gains, logits + factor * trees, held.offsets, _CUTOFF))
        for factor in _FACTORS
    ]
    return _FACTORS[int(np.argmax(figures))]
