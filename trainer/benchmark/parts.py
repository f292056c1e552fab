"""The parts of a benchmark: a seed of the network, the trees of a task, a category on its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.baselines.gbdt import GbdtBudget, GbdtError, train_gbdt
from trainer.baselines.item_knn import item_knn_scores
from trainer.baselines.single_category import (
    categories_of_pages,
    of_category,
    single_config,
    trained_categories,
)
from trainer.benchmark.kept_parts import Arrays, Part
from trainer.calibration.choice import trials_to_json
from trainer.config import TrainConfig
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import PageSet, encoded_pages
from trainer.errors import TrainingError
from trainer.evaluation.comparison import (
    NETWORK,
    TREES,
    default_scores,
    surface_calibration,
    surface_logits,
    tree_scores,
)
from trainer.guard.guard import guard_to_json
from trainer.pipeline import Run, run_training
from trainer.tasks import best_weights, log_tasks, mixed_surfaces, served_scores
from trainer.training.provenance import NETWORK_CODE, code_hash

ITEM_KNN = "item-kNN"
SMALL_CATEGORIES = 6
_TREE_CODE = ("baselines/gbdt", "baselines/trees", "encoding/pageset")
_KNN_CODE = ("baselines/item_knn", "encoding/pageset")
_NETWORK_CODE = (*NETWORK_CODE, *_TREE_CODE)


@dataclass(frozen=True, slots=True)
class BenchmarkBudget:
    """What a benchmark may spend.

    Attributes:
        seeds: Trainings of the network; a page's figure is their mean.
        trials: Settings that LightGBM tries on each task, and on each category alone.
        single_category: Whether to train trees for every category alone, and networks for the
            smallest categories.
    """

    seeds: int = 1
    trials: int = 2
    single_category: bool = True


@dataclass(frozen=True, slots=True)
class BenchmarkParts:
    """The parts of a benchmark, and how they are put together.

    Attributes:
        config: Of the network.
        log: Encoded, with the objectives of `config`.
        work: Where runs are kept.
        budget: What it may spend.
        tasks: Surface by task.
        mixed: The surfaces whose pages mix categories.
        page_sets: Test pages by task, those without what was bought before among them.
        of_pages: Category row of each page of the log.
        progress: Whether trainings draw bars.
    """

    config: TrainConfig
    log: EncodedLog
    work: Path
    budget: BenchmarkBudget
    tasks: dict[str, str]
    mixed: tuple[str, ...]
    page_sets: dict[str, PageSet]
    of_pages: np.ndarray
    progress: bool

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        log: EncodedLog,
        work: Path,
        budget: BenchmarkBudget,
        *,
        progress: bool,
    ) -> BenchmarkParts:
        """Read the test pages of every task."""
        tasks = log_tasks(log, config.surfaces)
        mixed = mixed_surfaces(log, "test", config.surfaces)
        page_sets = {task: encoded_pages(log, "test", surface) for task, surface in tasks.items()}
        for task, surface in tasks.items():
            fresh = page_sets[task].discovery() if surface in mixed else None
            if fresh is not None and 0 < fresh.candidates < page_sets[task].candidates:
                page_sets[never_bought(task)] = fresh
        of_pages = categories_of_pages(log)
        return cls(config, log, work, budget, tasks, mixed, page_sets, of_pages, progress)

    @property
    def seeds(self) -> range:
        """Seeds of the network's trainings."""
        return range(self.config.seed, self.config.seed + self.budget.seeds)

    @property
    def _spend(self) -> GbdtBudget:
        return GbdtBudget(trials=self.budget.trials, threads=len(os.sched_getaffinity(0)))

    @property
    def single_task(self) -> str | None:
        """The first task whose pages hold one category each."""
        return next((t for t, surface in self.tasks.items() if surface not in self.mixed), None)

    def small(self) -> list[int]:
        """Return the categories with fewest training pages of the single task.

        There a network of its own has least to learn from, and the shared one most to give.
        """
        if self.single_task is None or not self.budget.single_category:
            return []
        rows = trained_categories(self.log, self.tasks[self.single_task], self.of_pages)
        return [int(row) for row in rows[:SMALL_CATEGORIES]]

    def parts(self) -> Iterator[Part]:
        """Yield every part, those that all tables need first."""
        yield from (self._network(seed) for seed in self.seeds)
        yield from (self._item_knn(task) for task in self.tasks)
        yield from (self._trees(task) for task in self.tasks)
        yield from (self._fresh_trees(task) for task in self.tasks if self._has_fresh(task))
        if not self.budget.single_category:
            return
        for task, surface in self.tasks.items():
            if surface not in self.mixed:
                for row in trained_categories(self.log, surface, self.of_pages).tolist():
                    yield self._single_trees(task, row)
        for row in self.small():
            yield from (self._single_network(row, seed) for seed in self.seeds)

    def _has_fresh(self, task: str) -> bool:
        return never_bought(task) in self.page_sets

    def _network(self, seed: int) -> Part:
        config = replace(self.config, seed=seed)

        def compute() -> tuple[Arrays, dict[str, Any]]:
            run = run_training(config, self.log, self.work, progress=self.progress)
            arrays, calibration = {}, {}
            for task, surface in self.tasks.items():
                logits = surface_logits(run, surface)
                categories = self.page_sets[task].categories
                weights = run.objective_weights[surface]
                arrays[task] = served_scores(
                    logits, categories, run.calibration, weights, run.outputs
                )
                rows = surface_calibration(run, surface, logits)
                calibration[task] = [asdict(row) for row in rows]
                unguarded = default_scores(run, surface)
                if unguarded is not None:
                    arrays[without_guard(task)] = unguarded
                if self._has_fresh(task):
                    weights = _fresh_weights(run, surface)
                    scores = served_scores(
                        logits, categories, run.calibration, weights, run.outputs
                    )
                    arrays[never_bought(task)] = scores[self.page_sets[task].discovery_rows()]
            facts = {
                "seed": seed,
                "folder": str(run.folder.relative_to(self.work)),
                "steps": run.result.progress.step,
                "parameters": sum(int(np.prod(p.shape)) for p in run.ranker.parameters()),
                "objective_weights": run.objective_weights,
                "calibration": calibration,
                "calibration_trials": trials_to_json(run.calibration.trials),
                "guard": guard_to_json(() if run.guard is None else run.guard.choices),
            }
            return arrays, facts

        made_from = [self.log.folder.name, asdict(config), code_hash(_NETWORK_CODE)]
        return Part(network_part(seed), made_from, compute)

    def _item_knn(self, task: str) -> Part:
        def compute() -> tuple[Arrays, dict[str, Any]]:
            pages = self.page_sets[task]
            arrays = {task: item_knn_scores(self.log, pages)}
            if self._has_fresh(task):
                arrays[never_bought(task)] = arrays[task][pages.discovery_rows()]
            return arrays, {}

        made_from = [
            self.log.folder.name,
            self.tasks[task],
            code_hash(_KNN_CODE),
        ]
        return Part(f"{ITEM_KNN}, {task}", made_from, compute)

    def _trees(self, task: str) -> Part:
        surface = self.tasks[task]

        def compute() -> tuple[Arrays, dict[str, Any]]:
            scores = tree_scores(self.log, surface, self._spend, self.page_sets[task])
            return ({} if scores is None else {task: scores}), {}

        return self._tree_part(f"{TREES}, {task}", surface, compute)

    def _fresh_trees(self, task: str) -> Part:
        """Trees trained on the pages of a task without what the shopper bought before."""
        surface, name = self.tasks[task], never_bought(task)

        def compute() -> tuple[Arrays, dict[str, Any]]:
            train, held = (
                encoded_pages(self.log, split, surface).discovery()
                for split in ("train", "validation")
            )
            try:
                model = train_gbdt(train, held, self.log.schema.objectives[0], self._spend)
            except GbdtError:
                return {}, {}
            return {name: model(self.page_sets[name])}, {}

        return self._tree_part(f"{TREES}, {name}", surface, compute)

    def _single_trees(self, task: str, row: int) -> Part:
        """Trees of one category, with the budget that the trees of all categories have."""
        surface = self.tasks[task]

        def compute() -> tuple[Arrays, dict[str, Any]]:
            alone = of_category(self.log, row, self.of_pages)
            pages = encoded_pages(alone, "test", surface)
            scores = tree_scores(alone, surface, self._spend, pages)
            return ({} if scores is None else {task: scores}), {}

        return self._tree_part(single_trees_part(task, self.name(row)), surface, compute)

    def _tree_part(
        self, name: str, surface: str, compute: Callable[[], tuple[Arrays, dict[str, Any]]]
    ) -> Part:
        # LightGBM gives the same trees with any number of threads
        spend = asdict(replace(self._spend, threads=1))
        objectives = list(self.log.schema.objectives)
        return Part(
            name,
            [self.log.folder.name, objectives, surface, spend, code_hash(_TREE_CODE)],
            compute,
        )

    def _single_network(self, row: int, seed: int) -> Part:
        """Network of one category; where there is too little to train it, retrieval order."""
        assert self.single_task is not None  # there are small categories only with one
        task, surface = self.single_task, self.tasks[self.single_task]
        config = replace(single_config(self.config, self.log, self.name(row)), seed=seed)

        def compute() -> tuple[Arrays, dict[str, Any]]:
            alone = of_category(self.log, row, self.of_pages)
            test = encoded_pages(alone, "test", surface)
            try:
                run = run_training(config, alone, self.work, progress=self.progress)
            except TrainingError as error:
                return {task: np.zeros(test.candidates)}, {"untrained": str(error)}
            scores = served_scores(
                surface_logits(run, surface),
                test.categories,
                run.calibration,
                run.objective_weights[surface],
                run.outputs,
            )
            return {task: scores}, {"steps": run.result.progress.step}

        made_from = [self.log.folder.name, asdict(config), code_hash(_NETWORK_CODE)]
        return Part(single_network_part(self.name(row), seed), made_from, compute)

    def name(self, row: int) -> str:
        """Return the name of a category row."""
        return self.log.schema.categories[row]


def _fresh_weights(run: Run, surface: str) -> dict[str, float]:
    """Return objective weights chosen on validation pages without what was bought before."""
    held = encoded_pages(run.log, "validation", surface)
    logits = surface_logits(run, surface, "validation")[held.discovery_rows()]
    return best_weights(held.discovery(), logits, run.calibration, run.outputs)


def never_bought(task: str) -> str:
    """Return the task of a task's pages without what the shopper bought before."""
    return f"{task}, never bought"


def without_guard(task: str) -> str:
    """Return the name of a network's scores of a task without its guard."""
    return f"{task}, without the guard"


def network_part(seed: int) -> str:
    """Return the name of the part that trains the network with a seed."""
    return f"{NETWORK}, seed {seed}"


def single_trees_part(task: str, category: str) -> str:
    """Return the name of the part that trains trees for one category of a task alone."""
    return f"{TREES}, {task}, {category} alone"


def single_network_part(category: str, seed: int) -> str:
    """Return the name of the part that trains a network for one category alone."""
    return f"{NETWORK}, {category} alone, seed {seed}"
