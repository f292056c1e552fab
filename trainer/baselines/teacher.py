"""Trees as a teacher: what LambdaMART makes of the dense features, as targets for the network.

A purchase is a noisy label: one of several products that the shopper could as well have taken.
Trees learn the smooth part of it from the dense features, and the network learns from a
mixture of both, its ids and sequences adding what trees cannot see (distillation, Hinton,
Vinyals and Dean 2015; trees to networks, Qin et al. 2021).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from trainer.baselines.gbdt import GbdtBudget, GbdtError
from trainer.baselines.trees import normalised_trees
from trainer.config import TrainConfig
from trainer.encoding.batches import rows_of
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, PageSet, encoded_pages

_SHARPNESS = (0.05, 20.0)


def teacher_logits(config: TrainConfig, log: EncodedLog, folder: Path) -> np.ndarray:
    """Return the teacher's logit of every row of the log; NaN where it has none.

    A model per surface is trained on every `trees_every`-th training page and stopped early
    on validation; its scores are scaled so that their softmax fits the validation pages best.
    The scores are kept in `folder`.

    Returns:
        Shape (rows,), float32; rows outside training pages are NaN.
    """
    path = folder / "teacher.npy"
    if not path.exists():
        logits = np.full(int(log.offsets[-1]), np.nan, np.float32)
        for surface in config.surfaces:
            _teach(config, log, surface, logits)
        temporary = path.with_suffix(".unfinished.npy")
        np.save(temporary, logits, allow_pickle=False)
        temporary.replace(path)
    kept: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return kept


def _teach(config: TrainConfig, log: EncodedLog, surface: str, logits: np.ndarray) -> None:
    """Fill in the training pages of one surface; leave them NaN when there is too little."""
    budget = GbdtBudget(threads=len(os.sched_getaffinity(0)))
    try:
        model = normalised_trees(log, surface, budget, every=config.trees_every)
    except GbdtError:
        return  # no page with a positive to learn from or to stop by
    train = encoded_pages(log, "train", surface)
    held = encoded_pages(log, "validation", surface)
    objective = log.schema.objectives[0]
    sharpness = fit_sharpness(held.objective(objective), model(held), held)
    rows = rows_of(log, log.pages_of("train", surface))
    logits[rows] = sharpness * model(train)


def fit_sharpness(gains: Doubles, scores: Doubles, pages: PageSet) -> float:
    """Return the factor on `scores` that minimises their softmax cross-entropy over the pages."""
    starts = pages.offsets[:-1]
    positives = pages.sums(gains)
    used = positives > 0

    def loss(sharpness: float) -> float:
        scaled = sharpness * scores
        top = np.maximum.reduceat(scaled, starts)[pages.page_of_row]
        total = np.log(pages.sums(np.exp(scaled - top)))[pages.page_of_row] + top
        page_loss = pages.sums(gains * (total - scaled)) / np.maximum(positives, 1)
        return float(page_loss[used].mean())

    return float(minimize_scalar(loss, bounds=_SHARPNESS, method="bounded").x)
