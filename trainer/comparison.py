"""A run beside its rivals: the network, the rankings without learning and the trees, on test pages.

Every ranking sees the same pages and the same features; the trees learn from the network's pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from trainer.baselines import BASELINES
from trainer.calibration import BeforeAfter, compare_calibration
from trainer.encoded import EncodedLog
from trainer.evaluate import evaluate
from trainer.evaluation import Evaluation
from trainer.gbdt import Gbdt, GbdtBudget, GbdtError, read_gbdt, train_gbdt, write_gbdt
from trainer.metrics import ndcg_at_k
from trainer.network import score_pages
from trainer.pageset import Doubles, PageSet, encoded_pages
from trainer.pipeline import Run
from trainer.tasks import TASKS, served_scores

NETWORK = "CrossRank"
TREES = "LightGBM"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a run reaches on the test pages.

    Attributes:
        evaluation: Every ranking on every task.
        calibration: Of each category and objective, before and after it was fitted.
        pages: Pages of the prepared log that the next two speak of: those of the first task.
        network_ndcg_at_10: Of the network on each of `pages`; NaN without a reached positive.
        retrieval_ndcg_at_10: Of retrieval order, alike.
    """

    evaluation: Evaluation
    calibration: list[BeforeAfter]
    pages: np.ndarray
    network_ndcg_at_10: Doubles
    retrieval_ndcg_at_10: Doubles


def compare_rankings(run: Run, budget: GbdtBudget, *, progress: bool) -> Comparison:
    """Score the test pages of every task with every ranking, and evaluate.

    The trees of each task are kept in the run's folder and read back by the next call.

    Raises:
        EvaluationError: When no task of the run has a test page.
    """
    log, config = run.log, run.config
    tasks = {
        task: log.pages_of("test", surface)
        for task, surface in TASKS.items()
        if surface in config.surfaces
    }
    tasks = {task: pages for task, pages in tasks.items() if pages.size}
    sets = {task: encoded_pages(log, "test", TASKS[task]) for task in tasks}
    scores: dict[str, dict[str, Doubles]] = {}
    logits, labels, categories = [], [], []
    with tqdm(total=len(sets) * 2, desc="Scoring", unit="ranking", disable=not progress) as bar:
        for task, held in sets.items():
            surface = TASKS[task]
            for name, ranking in BASELINES.items():
                scores.setdefault(name, {})[task] = ranking(held)
            trees = _trees(run, surface, budget)
            if trees is not None:
                scores.setdefault(TREES, {})[task] = trees(held)
            bar.update()
            of_network = score_pages(run.ranker, run.catalogue, log, tasks[task])
            scores.setdefault(NETWORK, {})[task] = served_scores(
                of_network, held.categories, run.calibration, run.objective_weights[surface]
            )
            logits.append(of_network)
            labels.append(held.labels[:, : of_network.shape[1]])
            categories.append(held.categories)
            bar.update()
    evaluation = evaluate(sets, scores, category_names=log.schema.categories, network=NETWORK)
    first = next(iter(sets))
    gains = sets[first].objective(log.schema.objectives[0])
    offsets = sets[first].offsets
    return Comparison(
        evaluation=evaluation,
        calibration=compare_calibration(
            np.concatenate(logits),
            np.concatenate(labels),
            np.concatenate(categories),
            run.calibration,
            category_names=log.schema.categories,
            objectives=config.objectives,
        ),
        pages=log.selection.pages[tasks[first]],
        network_ndcg_at_10=ndcg_at_k(gains, scores[NETWORK][first], offsets, 10),
        retrieval_ndcg_at_10=ndcg_at_k(gains, scores["retrieval order"][first], offsets, 10),
    )


def _trees(run: Run, surface: str, budget: GbdtBudget) -> Gbdt | None:
    """The trees of one surface; None when there is nothing to train them on."""
    path = run.folder / f"lightgbm-{surface}.txt"
    if path.exists():
        return read_gbdt(path)
    train = _learned_from(run.log, "train", surface, run.config.max_pages)
    validation = _learned_from(run.log, "validation", surface, run.config.validation_pages)
    if train is None or validation is None:
        return None
    try:
        model = train_gbdt(train, validation, run.log.schema.objectives[0], budget)
    except GbdtError:
        return None  # no page with a positive: no trees, and the table shows none
    write_gbdt(model, path)
    return model


def _learned_from(log: EncodedLog, split: str, surface: str, most: int) -> PageSet | None:
    """The latest `most` pages, as the network is given; 0 takes all."""
    pages = encoded_pages(log, split, surface)
    if not pages.pages:
        return None
    if 0 < most < pages.pages:
        return pages.select(np.arange(pages.pages) >= pages.pages - most)
    return pages
