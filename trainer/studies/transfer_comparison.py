"""A transfer beside what the target's pages alone give, on the target's test pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.baselines.gbdt import GbdtBudget
from trainer.encoding.encoded import SPLITS
from trainer.encoding.page_draws import Draw, measured_pages
from trainer.encoding.pageset import PageSet, encoded_pages
from trainer.evaluation.comparison import baseline_scores
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluation import Evaluation
from trainer.journal import LOG
from trainer.reports.report import read_training_log
from trainer.studies.adaptation import (
    Setting,
    adapt,
    alone_scores,
    alone_tree_scores,
    check_target,
    shared_scores,
    target_scores,
)

TRANSFER = "CrossRank, transfer"
ZERO_SHOT = "CrossRank, no page of it"
ALONE = "CrossRank, its pages alone"
ALONE_TREES = "LightGBM, its pages alone"


@dataclass(frozen=True, slots=True)
class ComparedTransfer:
    """What a transfer reached.

    Attributes:
        target: The category.
        count: Its pages that were learned from.
        folder: Of the adaptation; of the sources' network where no page was given.
        evaluation: One task, the target; `TRANSFER` is its network.
        lines: The journal of the adaptation; empty where no page was given.
        best_step: The step whose weights were kept.
    """

    target: str
    count: int
    folder: Path
    evaluation: Evaluation
    lines: Sequence[Mapping[str, float]]
    best_step: int


def compare_transfer(
    setting: Setting,
    source: Path,
    target: str,
    count: int,
    draw: Draw,
    *,
    changes: Mapping[str, Any],
    trees: GbdtBudget,
) -> ComparedTransfer:
    """Adapt to a target, learn the same pages alone, and compare on the target's test pages.

    With no page, the network of the sources is compared as it is, and nothing is learned alone.

    Args:
        setting: Where the source was trained.
        source: Folder of the source's run.
        target: A category held out from it.
        count: Its pages to learn from, 0 for none.
        draw: Which pages these are.
        changes: As in `adapt`.
        trees: What LightGBM may spend.

    Raises:
        TransferError: As `check_target`.
    """
    check_target(setting, target, count)
    shared = shared_scores(setting, source, target)
    scores = {TRANSFER: shared}
    folder, best_step = source, 0
    lines: list[dict[str, float]] = []
    if count:
        folder, result = adapt(setting, source, target, count, draw, changes)
        lines, best_step = read_training_log(folder / LOG), result.progress.best_step
        scores = {
            TRANSFER: target_scores(setting, result.ranker, target),
            ZERO_SHOT: shared,
            ALONE: alone_scores(setting, target, count, draw),
        }
        alone_trees = alone_tree_scores(setting, target, count, draw, trees)
        if alone_trees is not None:
            scores[ALONE_TREES] = alone_trees
    pages = target_page_set(setting, [target])
    evaluation = evaluate(
        {target: pages},
        {
            **baseline_scores({target: pages}),
            **{name: {target: values} for name, values in scores.items()},
        },
        category_names=setting.log.schema.categories,
        network=TRANSFER,
    )
    return ComparedTransfer(target, count, folder, evaluation, lines, best_step)


def target_page_set(setting: Setting, targets: Sequence[str]) -> PageSet:
    """Return the test pages of some targets, by time."""
    log = setting.log
    splits = np.full_like(log.splits, -1)  # so that no other page's features are read
    for target in targets:
        splits[measured_pages(log, target, setting.surface)] = SPLITS.index("test")
    return encoded_pages(replace(log, splits=splits), "test", setting.surface)
