"""A run beside other rankings: those without learning and trees, on the same test pages.

Every ranking sees the same pages and the same features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from trainer.baselines.baselines import BASELINES
from trainer.baselines.gbdt import GbdtBudget, GbdtError
from trainer.baselines.log_rankings import chosen_rankings
from trainer.baselines.trees import surface_trees
from trainer.calibration.calibration import BeforeAfter, CalibrationTrial, compare_calibration
from trainer.encoding.batches import rows_of
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles, PageSet, encoded_pages
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.objective_figures import ObjectiveFigure, objective_figures, served_on
from trainer.evaluation.page_figures import TaskFigures, task_figures
from trainer.guard.report import GuardFigures, guard_effects
from trainer.pipeline import Run
from trainer.tasks import counted_rows, log_tasks, served_scores
from trainer.training.network import score_pages

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
        figures: By task, the network's figure on every page.
        objectives: By task, each head by its own metric.
        guard: What the guard chose, and what that changed; None without one.
        calibration_trials: The ways to calibrate that were tried on validation pages.
    """

    evaluation: Evaluation
    calibration: dict[str, list[BeforeAfter]]
    pages: np.ndarray
    network_ndcg_at_10: Doubles
    figures: dict[str, TaskFigures]
    objectives: dict[str, list[ObjectiveFigure]]
    guard: GuardFigures | None
    calibration_trials: tuple[CalibrationTrial, ...]


def compare_rankings(
    run: Run, budget: GbdtBudget, *, baselines: Sequence[str] = (), progress: bool
) -> Comparison:
    """Score the test pages of every task with every ranking, and evaluate.

    Trees of an equal earlier call are read back.

    Args:
        run: The trained network.
        budget: Of the trees.
        baselines: Rankings of `trainer.baselines.log_rankings` that are shown besides.
        progress: Whether to draw bars.

    Raises:
        EvaluationError: When no surface of the run has a test page, or on an unknown baseline.
    """
    log, more = run.log, chosen_rankings(baselines)
    tasks = log_tasks(log, run.config.surfaces)
    page_sets = {task: encoded_pages(log, "test", surface) for task, surface in tasks.items()}
    scores = baseline_scores(page_sets)
    calibration, objectives, default = {}, {}, {}
    total = (2 + len(more)) * len(tasks)
    with tqdm(total=total, desc="Scoring", unit="ranking", disable=not progress) as bar:
        for task, surface in tasks.items():
            for name, ranking in more.items():
                scores.setdefault(name, {})[task] = ranking(log, page_sets[task])
                bar.update()
            trees = tree_scores(log, surface, budget, page_sets[task])
            if trees is not None:
                scores.setdefault(TREES, {})[task] = trees
            bar.update()
            logits = surface_logits(run, surface)
            scores.setdefault(NETWORK, {})[task] = served_scores(
                logits,
                page_sets[task].categories,
                run.calibration,
                run.objective_weights[surface],
                run.outputs,
            )
            calibration[task] = surface_calibration(run, surface, logits)
            objectives[task] = objective_figures(served_on(run, surface, "test", logits))
            if (unguarded := default_scores(run, surface)) is not None:
                default[task] = unguarded
            bar.update()
    figures = {
        task: task_figures(
            page_sets[task],
            scores[NETWORK][task],
            log.selection.pages[log.pages_of("test", surface)],
            log.schema.categories,
        )
        for task, surface in tasks.items()
    }
    first = figures[next(iter(tasks))]
    return Comparison(
        evaluation=evaluate(
            page_sets, scores, category_names=log.schema.categories, network=NETWORK
        ),
        calibration=calibration,
        pages=first.pages,
        network_ndcg_at_10=first.ndcg_at_10,
        figures=figures,
        objectives=objectives,
        guard=_guard_figures(run, page_sets, scores[NETWORK], default),
        calibration_trials=run.calibration.trials,
    )


def _guard_figures(
    run: Run,
    page_sets: Mapping[str, PageSet],
    served: Mapping[str, Doubles],
    default: Mapping[str, Doubles],
) -> GuardFigures | None:
    if run.guard is None:
        return None
    tasks = log_tasks(run.log, run.config.surfaces)
    switched = {task: switched_categories(run, surface) for task, surface in tasks.items()}
    effects = guard_effects(page_sets, served, default, switched, run.log.schema.categories)
    return GuardFigures(run.guard.choices, tuple(effects))


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


def default_scores(run: Run, surface: str) -> Doubles | None:
    """Return what would be served on the test pages of a surface without the guard.

    None where the guard changes nothing there.
    """
    if run.default is None or not switched_categories(run, surface):
        return None
    ranker, guarded = run.ranker, run.ranker.tree_term
    ranker.tree_term = run.default.term
    try:
        logits = surface_logits(run, surface)
    finally:
        ranker.tree_term = guarded
    categories = run.log.categories[rows_of(run.log, run.log.pages_of("test", surface))]
    weights = run.objective_weights[surface]
    return served_scores(logits, categories, run.default.calibration, weights, run.outputs)


def switched_categories(run: Run, surface: str) -> frozenset[str]:
    """Return the categories of a surface that another ranking than the default serves."""
    choices = () if run.guard is None else run.guard.choices
    return frozenset(c.category for c in choices if c.switched and c.surface == surface)


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
