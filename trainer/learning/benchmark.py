"""The learning benchmark: one table of rankings for a data folder of a known format.

Every ranking sees the same pages, split alike. Each part is kept once it is done, so that a
benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.benchmark.kept_parts import FinishedPart, compute_parts
from trainer.encoding.pageset import Doubles, PageSet
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluation import Difference, Evaluation
from trainer.formats.errors import DataError
from trainer.formats.folder import Reading, read_pages
from trainer.formats.labelled_pages import TEST, VALIDATION, LabelledPages
from trainer.formats.leaks import refuse_leaks
from trainer.learning.calibration import calibration_of
from trainer.learning.categories import shown_categories
from trainer.learning.curves import Curve
from trainer.learning.few_shot import FewShot, few_shot_curves
from trainer.learning.guard import choose, choose_alone
from trainer.learning.kappa import Kappa, kappa_of_rows
from trainer.learning.parts import (
    LearningBudget,
    LearningParts,
    network_part,
    single_network_part,
    single_trees_part,
    trees_part,
)
from trainer.learning.rankings import CROSSRANK, NETWORK, RANDOM, SINGLE, SINGLE_TREES, TREES


@dataclass(frozen=True, slots=True)
class LearningStudy:
    """What a benchmark does beside the table.

    Attributes:
        few_shot: Curves of targets learned from few pages.
        kappa_runs: Times that judged rows are dealt to folds for the kappa; 0 leaves it out.
        allowed_leaks: Features that may tell positives apart by themselves.
    """

    few_shot: FewShot = field(default_factory=FewShot)
    kappa_runs: int = 0
    allowed_leaks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LearningResult:
    """What a benchmark of one folder gives.

    Attributes:
        pages: What was ranked.
        evaluation: Every ranking; differences are CrossRank minus the others.
        network_differences: By task and ranking, the shared network alone minus the others.
        costs: By ranking, seconds and peak MiB of its training, all folds, of one seed.
        choices: Of every seed and fold, what the guard chose and why.
        calibration: Of the shared network's probabilities, before and after, by category.
        curves: Of targets learned from few pages.
        kappa: Agreement with the grades of judged rows, where it was asked for.
        tested: Test pages by category, those with nothing found included.
        parts: Of the computation.
    """

    pages: LabelledPages
    evaluation: Evaluation
    network_differences: dict[str, dict[str, Difference]]
    costs: dict[str, dict[str, float]]
    choices: list[dict[str, Any]]
    calibration: dict[str, Any]
    curves: list[Curve]
    kappa: Kappa | None
    tested: dict[str, int]
    parts: list[FinishedPart]


def run_learning_benchmark(
    folder: Path,
    reading: Reading,
    budget: LearningBudget,
    work: Path,
    *,
    study: LearningStudy | None = None,
    progress: bool,
) -> LearningResult:
    """Read a folder, train every ranking on its pages and compare them.

    Raises:
        FormatError: When the folder is of no known format, or not of the one that was named.
        DataError: When there is nothing to rank or to learn, or a feature gives labels away.
    """
    study = study or LearningStudy()
    pages = read_pages(folder, reading)
    _check(pages)
    refuse_leaks(pages, study.allowed_leaks)
    parts = LearningParts(pages, budget, work, progress=progress)
    finished = compute_parts(parts.parts(), work / "learning", progress=progress)
    table = _Table(parts, finished)
    task = pages.surface.capitalize()
    page_sets, by_task = table.by_task(task)
    names, codes = shown_categories(pages, page_sets[task])

    def compare(network: str) -> Evaluation:
        shown = {name: codes(page_set) for name, page_set in page_sets.items()}
        return evaluate(shown, by_task, category_names=names, network=network)

    alone = compare(NETWORK)
    return LearningResult(
        pages=pages,
        evaluation=compare(CROSSRANK),
        network_differences={name: task.differences for name, task in alone.tasks.items()},
        costs=_costs(parts, finished),
        choices=table.choices,
        calibration=calibration_of(parts, finished),
        curves=few_shot_curves(parts, study.few_shot, budget, work, progress=progress),
        kappa=kappa_of_rows(pages, study.kappa_runs, budget, work, progress=progress)
        if study.kappa_runs
        else None,
        tested=_tested(page_sets[task], pages),
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


class _Table:
    """The scores of every ranking on the test pages of all folds.

    Attributes:
        choices: Of every seed and fold, what the guard chose and why.
    """

    def __init__(self, parts: LearningParts, finished: Mapping[str, FinishedPart]) -> None:
        self.choices: list[dict[str, Any]] = []
        self._parts, self._finished, self._pages = parts, finished, parts.pages
        self._all = parts.pages.page_set()
        self._simple = simple_scores(parts.pages, self._all)
        self._tested = np.any([splits == TEST for splits in parts.pages.folds], axis=0)
        seeds = len(parts.seeds)
        self._network = np.zeros((seeds, self._all.candidates))
        self._single = np.zeros_like(self._network)
        self._fused = np.zeros_like(self._network)
        self._trees = np.zeros(self._all.candidates)
        self._single_trees = np.zeros_like(self._trees)
        self._alone = np.zeros(parts.pages.count, np.bool_)
        for fold in range(len(parts.pages.folds)):
            for index, seed in enumerate(parts.seeds):
                self._fill(fold, index, seed)

    def by_task(self, task: str) -> tuple[dict[str, PageSet], dict[str, dict[str, np.ndarray]]]:
        """Return the pages of each task, and by ranking and task the scores on them."""
        random = np.random.default_rng(0).random(self._all.candidates)
        scores: dict[str, np.ndarray] = {
            CROSSRANK: self._fused,
            NETWORK: self._network,
            TREES: self._trees,
            **self._simple,
            RANDOM: random,
        }
        page_sets = {task: self._all.select(self._tested)}
        inside = self._tested[self._all.page_of_row]
        by_task = {name: {task: values[..., inside]} for name, values in scores.items()}
        if self._alone.any():
            rows = self._alone[self._all.page_of_row]
            second = f"{task}, categories also learned alone"
            page_sets[second] = self._all.select(self._alone)
            single = {SINGLE: self._single, SINGLE_TREES: self._single_trees}
            for name, values in {**scores, **single}.items():
                by_task.setdefault(name, {})[second] = values[..., rows]
        return page_sets, by_task

    def _fill(self, fold: int, index: int, seed: int) -> None:
        """Put the scores of one fold and seed in their places."""
        splits = self._pages.folds[fold]
        held, tested = (self._all.select(splits == split) for split in (VALIDATION, TEST))
        rows = {
            "validation": (splits == VALIDATION)[self._all.page_of_row],
            "test": (splits == TEST)[self._all.page_of_row],
        }
        trees = self._finished[trees_part(fold)].arrays
        network = self._finished[network_part(fold, seed)].arrays
        scores = {
            split: {
                TREES: trees[split],
                NETWORK: network[split],
                **{name: values[rows[split]] for name, values in self._simple.items()},
            }
            for split in rows
        }
        choice = choose(scores["validation"], held, trusted=TREES, learned=(TREES, NETWORK))
        self._trees[rows["test"]] = trees["test"]
        self._network[index, rows["test"]] = network["test"]
        self._fused[index, rows["test"]] = choice(scores["test"], tested)
        chosen = choice(scores["validation"], held)
        routes = {
            self._parts.name(code): self._route(fold, index, seed, code, chosen)
            for code in self._parts.alone
        }
        self.choices.append(
            {
                "fold": fold + 1,
                "seed": seed,
                "serves": choice.name,
                "weights": {name: round(value, 3) for name, value in choice.weights.items()},
                "reason": choice.reason,
                "categories": {name: told for name, told in routes.items() if told},
            }
        )

    def _route(self, fold: int, index: int, seed: int, code: int, chosen: Doubles) -> str:
        """Serve a category by what was learned from it alone where that is better; tell why."""
        name, splits = self._parts.name(code), self._pages.folds[fold]
        of_category = self._parts.of_pages == code
        arrays = {
            SINGLE: self._finished[single_network_part(fold, name, seed)].arrays,
            SINGLE_TREES: self._finished[single_trees_part(fold, name)].arrays,
        }
        tested = (splits == TEST) & of_category
        self._alone |= tested
        rows = tested[self._all.page_of_row]
        self._single[index, rows] = arrays[SINGLE]["test"]
        self._single_trees[rows] = arrays[SINGLE_TREES]["test"]
        held = (splits == VALIDATION) & of_category
        inside = held[self._all.page_of_row][(splits == VALIDATION)[self._all.page_of_row]]
        better, reason = choose_alone(
            {ranking: of["validation"] for ranking, of in arrays.items()},
            chosen[inside],
            self._all.select(held),
        )
        if better is None:
            return ""
        self._fused[index, rows] = arrays[better]["test"]
        return reason


def simple_scores(pages: LabelledPages, everything: PageSet) -> dict[str, Doubles]:
    """Return the scores of every ranking without learning, shape (rows,); missing is -inf."""
    return {
        name: np.nan_to_num(everything.feature(feature), nan=-np.inf)
        if feature
        else -everything.position.astype(np.float64)
        for name, feature in pages.rankings.items()
    }


def _tested(pages: PageSet, labelled: LabelledPages) -> dict[str, int]:
    """Return the number of test pages of each category, mixed pages left out."""
    of_pages = pages.page_categories()
    codes, counts = np.unique(of_pages[of_pages >= 0], return_counts=True)
    names = labelled.category_names
    return {names[code]: count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}


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
