"""A run beside other rankings: those without learning and trees, on the same test pages.

Every ranking sees the same pages and the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from trainer.baselines import BASELINES
from trainer.batches import rows_of
from trainer.calibration import BeforeAfter, compare_calibration
from trainer.encoded import EncodedLog
from trainer.evaluate import evaluate
from trainer.evaluation import Evaluation
from trainer.gbdt import GbdtBudget, GbdtError
from trainer.metrics import ndcg_at_k
from trainer.network import score_pages
from trainer.pageset import Doubles, PageSet, encoded_pages
from trainer.pipeline import Run
from trainer.tasks import counted_rows, log_tasks, served_scores
from trainer.trees import surface_trees

NETWORK = "CrossRank"
TREES = "LightGBM"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a run reaches on the test pages.

    Attributes:
        evaluation: Every ranking on every task.
        calibration: By task, each category and objective, before and after it was fitted.
        pages: Pages of the prepared log that the next speaks of: those of the first task.
        network_ndcg_at_10: Of the network on each of `pages`; NaN without a reached positive.
    """

    evaluation: Evaluation
    calibration: dict[str, list[BeforeAfter]]
    pages: np.ndarray
    network_ndcg_at_10: Doubles


def compare_rankings(run: Run, budget: GbdtBudget, *, progress: bool) -> Comparison:
    """Score the test pages of every task with every ranking, and evaluate.

    Trees of an equal earlier call are read back.

    Raises:
        EvaluationError: When no surface of the run has a test page.
    """
    log = run.log
    tasks = log_tasks(log, run.config.surfaces)
    page_sets = {task: encoded_pages(log, "test", surface) for task, surface in tasks.items()}
    scores = baseline_scores(page_sets)
    calibration = {}
    with tqdm(total=2 * len(tasks), desc="Scoring", unit="ranking", disable=not progress) as bar:
        for task, surface in tasks.items():
            trees = tree_scores(log, surface, budget, page_sets[task])
            if trees is not None:
                scores.setdefault(TREES, {})[task] = trees
            bar.update()
            logits = surface_logits(run, surface)
            scores.setdefault(NETWORK, {})[task] = served_scores(
                logits, page_sets[task].categories, run.calibration, run.objective_weights[surface]
            )
            calibration[task] = surface_calibration(run, surface, logits)
            bar.update()
    first = next(iter(tasks))
    gains = page_sets[first].objective(log.schema.objectives[0])
    return Comparison(
        evaluation=evaluate(
            page_sets, scores, category_names=log.schema.categories, network=NETWORK
        ),
        calibration=calibration,
        pages=log.selection.pages[log.pages_of("test", tasks[first])],
        network_ndcg_at_10=ndcg_at_k(gains, scores[NETWORK][first], page_sets[first].offsets, 10),
    )


def baseline_scores(page_sets: Mapping[str, PageSet]) -> dict[str, dict[str, Doubles]]:
    """Return the scores of the rankings without learning, by their names and tasks."""
    return {
        name: {task: ranking(pages) for task, pages in page_sets.items()}
        for name, ranking in BASELINES.items()
    }


def tree_scores(
    log: EncodedLog, surface: str, budget: GbdtBudget, pages: PageSet
) -> Doubles | None:
    """Return the scores of the trees of one surface; None with too little to train them on."""
    try:
        return surface_trees(log, surface, budget)(pages)
    except GbdtError:
        return None  # the table then shows no trees


def surface_logits(run: Run, surface: str, split: str = "test") -> np.ndarray:
    """Return the network's logits on the pages of a surface, shape (rows, objectives)."""
    return score_pages(run.ranker, run.catalogue, run.log, run.log.pages_of(split, surface))


def surface_calibration(run: Run, surface: str, logits: np.ndarray) -> list[BeforeAfter]:
    """Return how well the network is calibrated on the test pages of a surface."""
    log = run.log
    rows = rows_of(log, log.pages_of("test", surface))
    return compare_calibration(
        log.labels[rows],
        logits,
        log.categories[rows],
        run.calibration,
        counted_rows(log, rows),
        category_names=log.schema.categories,
        objectives=log.schema.objectives,
    )
