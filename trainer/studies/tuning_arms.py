"""What a trial of each arm trains, and the figure it is judged by: NDCG@10 on validation pages.

All arms learn from the same pages and are judged on the same validation pages; the network and
the trees by the mean over surfaces, the networks of single categories by the mean over these.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from optuna.exceptions import TrialPruned

from trainer.baselines.gbdt import GbdtBudget, sample_settings, train_gbdt
from trainer.baselines.single_category import categories_of_pages, of_category, single_config
from trainer.config import TrainConfig, config_from_values, run_objectives
from trainer.encoding.encoded import EncodedLog, with_objectives
from trainer.encoding.log_share import PageLimits, share_of_log
from trainer.encoding.pageset import PageSet, encoded_pages
from trainer.evaluation.metrics import ndcg_at_k
from trainer.pipeline import prepare_and_encode, run_folder, run_training
from trainer.reports.report import read_training_log
from trainer.studies.search_space import Drawn, SearchSpaces, Space
from trainer.studies.tuning_study import locked
from trainer.training.run_facts import CURVES
from trainer.training.run_pages import check_pages

ARMS = ("network", "trees", "single")
_CUTOFF = 10
# Told the number of an evaluation, from 1, and its figure; raises to end the trial.
Report: TypeAlias = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of a search, with the pages it learns from.

    Attributes:
        name: One of `ARMS`.
        base: The run's values by key, as its file has them; a trial's are laid over them.
        config: What they make.
        log: The pages, of the objectives of `config`.
        work: Where runs are kept.
        categories: Of the arm `single`: each is learned alone.
        threads: Of LightGBM.
    """

    name: str
    base: dict[str, Any]
    config: TrainConfig
    log: EncodedLog
    work: Path
    categories: tuple[str, ...]
    threads: int

    @property
    def evaluations(self) -> int:
        """Reports of a trial that is not pruned, at most."""
        if self.name == "trees":
            return len(self.config.surfaces)
        if self.name == "single":
            return len(self.categories)
        return self.config.epochs * self.config.evaluations_per_epoch + 1

    def present(self, space: Space) -> Drawn:
        """Return the present values of the keys of a space: those of the first trial."""
        if self.name == "trees":
            default = sample_settings(1, 0)[0]
            return {key: default[key] for key in space if key in default}
        values = {key: getattr(self.config, key) for key in space}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def judge(self, drawn: Drawn, report: Report) -> tuple[float, list[Path]]:
        """Train what a trial drew; return its figure and the folders of its runs.

        Raises:
            ConfigError, TrainingError, GbdtError: When what was drawn cannot be trained.
        """
        judges = {"network": self._network, "trees": self._trees, "single": self._single}
        return judges[self.name](drawn, report)

    def configured(self, drawn: Mapping[str, Any]) -> TrainConfig:
        """Return the configuration of a trial.

        Raises:
            ConfigError: When what was drawn does not fit together.
        """
        return config_from_values({**self.base, **drawn}, "of a trial")

    def _network(self, drawn: Drawn, report: Report) -> tuple[float, list[Path]]:
        # judged by the network alone, so trees beside it would only spend the budget
        config = replace(self.configured(drawn), trees=False)
        folder = run_folder(config, self.log, self.work)
        # two processes may have drawn the same, which is one run: the second reads it back
        with locked(self.work / "tuning" / "locks" / folder.name):
            try:
                run = run_training(
                    config,
                    self.log,
                    self.work,
                    progress=False,
                    on_evaluation=lambda _step, _figure: _report_all(folder, report),
                )
            except TrialPruned:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return run.result.progress.best, [folder]

    def _single(self, drawn: Drawn, report: Report) -> tuple[float, list[Path]]:
        config = self.configured(drawn)
        of_pages = categories_of_pages(self.log)
        figures: list[float] = []
        folders = []
        for number, category in enumerate(self.categories, start=1):
            row = self.log.schema.categories.index(category)
            alone = of_category(self.log, row, of_pages)
            own = replace(
                single_config(config, self.log, category),
                trees=False,
                **_drawn_passes(config, drawn),
            )
            folder = run_folder(own, alone, self.work)
            with locked(self.work / "tuning" / "locks" / folder.name):
                run = run_training(own, alone, self.work, progress=False)
            figures.append(run.result.progress.best)
            folders.append(folder)
            try:
                report(number, float(np.mean(figures)))
            except TrialPruned:
                for beaten in folders:
                    shutil.rmtree(beaten, ignore_errors=True)
                raise
        return float(np.mean(figures)), folders

    def _trees(self, drawn: Drawn, report: Report) -> tuple[float, list[Path]]:
        setting = {**sample_settings(1, 0)[0], **drawn}
        budget = GbdtBudget(threads=self.threads)
        objective = self.log.schema.objectives[0]
        figures: list[float] = []
        for number, surface in enumerate(self.config.surfaces, start=1):
            train = encoded_pages(self.log, "train", surface)
            held = _judged(encoded_pages(self.log, "validation", surface), self.config)
            model = train_gbdt(train, held, objective, budget, parameters=setting)
            gains = held.objective(objective)
            figures.append(float(np.nanmean(ndcg_at_k(gains, model(held), held.offsets, _CUTOFF))))
            report(number, float(np.mean(figures)))
        return float(np.mean(figures)), []


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """What an arm is made from, in every process that works on its study.

    Attributes:
        name: One of `ARMS`.
        config_path: The run's file; its log is found from there.
        base: The run's values by key, under the name of the trials' runs.
        work: Where prepared data, runs and studies are kept.
        limits: Pages of each surface that all arms see.
        categories: Of the arm `single`.
        spaces: What is searched.
        threads: Of LightGBM.
    """

    name: str
    config_path: Path
    base: dict[str, Any]
    work: Path
    limits: PageLimits
    categories: tuple[str, ...]
    spaces: SearchSpaces
    threads: int

    @property
    def space(self) -> Space:
        """The space of this arm."""
        return self.spaces.trees if self.name == "trees" else self.spaces.network

    def open(self, *, progress: bool) -> Arm:
        """Prepare and encode, or read what an equal earlier call has left.

        Raises:
            ConfigError, TrainingError: When the log cannot train what the arm names.
        """
        config = config_from_values(self.base, self.config_path.name)
        whole = prepare_and_encode(self.config_path, config, self.work, progress=progress)
        log = with_objectives(share_of_log(whole, self.limits), run_objectives(config))
        check_pages(config, log)
        for category in self.categories:
            check_pages(replace(config, categories=(category,)), log)
        return Arm(self.name, self.base, config, log, self.work, self.categories, self.threads)


def _report_all(folder: Path, report: Report) -> None:
    """Report every evaluation that a run's curves hold, those before it was stopped included."""
    lines = read_training_log(folder / CURVES)
    figures = [line["validation_ndcg_at_10"] for line in lines if "validation_ndcg_at_10" in line]
    for number, figure in enumerate(figures, start=1):
        report(number, figure)


def _judged(pages: PageSet, config: TrainConfig) -> PageSet:
    """Return the validation pages that the network is judged on, too."""
    count = min(config.validation_pages, pages.pages)
    chosen = np.zeros(pages.pages, np.bool_)
    chosen[np.arange(count) * pages.pages // max(count, 1)] = True
    return pages.select(chosen)


def _drawn_passes(config: TrainConfig, drawn: Drawn) -> dict[str, Any]:
    """Return the passes that a trial drew itself; a category alone has its own otherwise."""
    keys = ("epochs", "evaluations_per_epoch", "patience")
    return {key: getattr(config, key) for key in keys if key in drawn}
