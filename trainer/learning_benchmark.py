"""The learning benchmark: one table of rankings for a data folder of a known format.

Every ranking sees the same pages, split alike. Each part is kept once it is done, so that a
benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluate import evaluate
from trainer.evaluation import Difference, Evaluation
from trainer.formats.errors import DataError
from trainer.formats.folder import Reading, read_pages
from trainer.formats.labelled_pages import OBJECTIVE, TEST, VALIDATION, LabelledPages
from trainer.kept_parts import FinishedPart, compute_parts
from trainer.learning_parts import (
    LearningBudget,
    LearningParts,
    network_part,
    single_network_part,
    single_trees_part,
    trees_part,
)
from trainer.metrics import ndcg_at_k
from trainer.pageset import Doubles, PageSet

CROSSRANK = "CrossRank"
NETWORK = "network, shared"
SINGLE = "network, single category"
TREES = "LightGBM"
SINGLE_TREES = "LightGBM, single category"
_FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
_CUTOFF = 10


@dataclass(frozen=True, slots=True)
class LearningResult:
    """What a benchmark of one folder gives.

    Attributes:
        pages: What was ranked.
        evaluation: Every ranking; differences are CrossRank minus the others.
        network_differences: By task and ranking, the shared network alone minus the others.
        costs: By ranking, seconds and peak MiB of its training, all folds, of one seed.
        factors: Of every seed and fold, the weight of the trees' score in CrossRank's.
        parts: Of the computation.
    """

    pages: LabelledPages
    evaluation: Evaluation
    network_differences: dict[str, dict[str, Difference]]
    costs: dict[str, dict[str, float]]
    factors: list[list[float]]
    parts: list[FinishedPart]


def run_learning_benchmark(
    folder: Path, reading: Reading, budget: LearningBudget, work: Path, *, progress: bool
) -> LearningResult:
    """Read a folder, train every ranking on its pages and compare them.

    Raises:
        FormatError: When the folder is of no known format, or not of the one that was named.
        DataError: When there is nothing to rank or to learn.
    """
    pages = read_pages(folder, reading)
    _check(pages)
    parts = LearningParts(pages, budget, work, progress=progress)
    finished = compute_parts(parts.parts(), work / "learning", progress=progress)
    page_sets, scores, factors = _assemble(pages, parts, finished)

    def compare(network: str) -> Evaluation:
        return evaluate(page_sets, scores, category_names=pages.category_names, network=network)

    alone = compare(NETWORK)
    return LearningResult(
        pages=pages,
        evaluation=compare(CROSSRANK),
        network_differences={name: task.differences for name, task in alone.tasks.items()},
        costs=_costs(parts, finished),
        factors=factors,
        parts=list(finished.values()),
    )


def _check(pages: LabelledPages) -> None:
    """Refuse pages of which some split has nothing to learn or to judge by."""
    with_positive = np.add.reduceat(pages.grades > 0, pages.offsets[:-1]) > 0
    for number, splits in enumerate(pages.folds):
        for split, name in enumerate(("training", "validation", "test")):
            inside = splits == split
            if not (with_positive & inside).any():
                raise DataError(
                    f"pages: got {int(inside.sum())} {name} pages of fold {number + 1}, none with "
                    f"a positive, want at least one"
                )


def _assemble(
    pages: LabelledPages, parts: LearningParts, finished: Mapping[str, FinishedPart]
) -> tuple[dict[str, PageSet], dict[str, dict[str, np.ndarray]], list[list[float]]]:
    """Return the test pages of each task, the scores of every ranking, and the trees' factors."""
    everything = pages.page_set()
    tested = np.zeros(pages.count, np.bool_)
    for splits in pages.folds:
        tested |= splits == TEST
    task, seeds = pages.surface.capitalize(), len(parts.seeds)
    network = np.zeros((seeds, everything.candidates))
    fused = np.zeros_like(network)
    trees = np.zeros(everything.candidates)
    factors: list[list[float]] = [[] for _ in parts.seeds]
    for fold, splits in enumerate(pages.folds):
        rows = (splits == TEST)[everything.page_of_row]
        held = everything.select(splits == VALIDATION)
        of_trees = finished[trees_part(fold)].arrays
        trees[rows] = of_trees["test"]
        for index, seed in enumerate(parts.seeds):
            of_network = finished[network_part(fold, seed)].arrays
            factor = _best_factor(of_network["validation"], of_trees["validation"], held)
            factors[index].append(factor)
            network[index, rows] = of_network["test"]
            fused[index, rows] = of_network["test"] + factor * of_trees["test"]
    scores: dict[str, np.ndarray] = {CROSSRANK: fused, NETWORK: network, TREES: trees}
    for name, feature in pages.rankings.items():
        scores[name] = (
            np.nan_to_num(everything.feature(feature), nan=-np.inf)
            if feature
            else -everything.position.astype(np.float64)
        )
    scores["random"] = np.random.default_rng(0).random(everything.candidates)
    inside = tested[everything.page_of_row]
    page_sets = {task: everything.select(tested)}
    by_task = {name: {task: values[..., inside]} for name, values in scores.items()}
    _add_single(pages, parts, finished, page_sets, by_task, scores)
    return page_sets, by_task, factors


def _add_single(
    pages: LabelledPages,
    parts: LearningParts,
    finished: Mapping[str, FinishedPart],
    page_sets: dict[str, PageSet],
    by_task: dict[str, dict[str, np.ndarray]],
    scores: Mapping[str, np.ndarray],
) -> None:
    """Add the task of the pages of categories that were also learned alone."""
    everything = pages.page_set()
    network = np.zeros((len(parts.seeds), everything.candidates))
    trees = np.zeros(everything.candidates)
    inside = np.zeros(pages.count, np.bool_)
    for fold, splits in enumerate(pages.folds):
        for code in parts.alone:
            chosen = (splits == TEST) & (parts.of_pages == code)
            inside |= chosen
            rows = chosen[everything.page_of_row]
            trees[rows] = finished[single_trees_part(fold, parts.name(code))].arrays["test"]
            for index, seed in enumerate(parts.seeds):
                part = single_network_part(fold, parts.name(code), seed)
                network[index, rows] = finished[part].arrays["test"]
    if not inside.any():
        return
    rows = inside[everything.page_of_row]
    task = f"{next(iter(page_sets))}, categories also learned alone"
    page_sets[task] = everything.select(inside)
    for name, values in {**scores, SINGLE: network, SINGLE_TREES: trees}.items():
        by_task.setdefault(name, {})[task] = values[..., rows]


def _best_factor(network: Doubles, trees: Doubles, held: PageSet) -> float:
    """Return the weight on the trees' score with the best NDCG@10, the smallest of equals.

    Weights are multiples of the ratio of both scores' deviations on validation pages.
    """
    spread = float(trees.std())
    if spread == 0:
        return 0.0
    unit = float(network.std()) / spread
    gains = held.objective(OBJECTIVE)
    figures = [
        np.nanmean(ndcg_at_k(gains, network + factor * unit * trees, held.offsets, _CUTOFF))
        for factor in _FACTORS
    ]
    return _FACTORS[int(np.argmax(figures))] * unit


def _costs(
    parts: LearningParts, finished: Mapping[str, FinishedPart]
) -> dict[str, dict[str, float]]:
    """Return what one training of each ranking cost, all folds and categories together."""
    seed, folds = parts.seeds[0], range(len(parts.pages.folds))
    names = [parts.name(code) for code in parts.alone]
    groups = {
        NETWORK: [network_part(fold, seed) for fold in folds],
        TREES: [trees_part(fold) for fold in folds],
        SINGLE: [single_network_part(fold, name, seed) for fold in folds for name in names],
        SINGLE_TREES: [single_trees_part(fold, name) for fold in folds for name in names],
    }
    costs = {}
    for ranking, members in groups.items():
        facts: list[dict[str, Any]] = [finished[member].facts["cost"] for member in members]
        if facts:
            costs[ranking] = {
                "seconds": round(sum(fact["seconds"] for fact in facts), 1),
                "peak_mib": max(fact["peak_mib"] for fact in facts),
            }
    return costs
