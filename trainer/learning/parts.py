"""The parts of a learning benchmark: a fold's network, its trees, and those of one category."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainer.baselines.gbdt import GbdtBudget, GbdtError, train_gbdt
from trainer.benchmark.kept_parts import Arrays, Part
from trainer.config import TrainConfig
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import PageSet, majority_categories
from trainer.errors import TrainingError
from trainer.formats.encode import Texts, catalogue_of, content_hash, encoded_fold, fold_pages
from trainer.formats.labelled_pages import OBJECTIVE, TEST, TRAIN, VALIDATION, LabelledPages
from trainer.learning.cost import measured
from trainer.training.network import score_pages
from trainer.training.provenance import NETWORK_CODE, code_hash
from trainer.training.train import TrainResult, train

CODE = ("formats/encode", "learning/parts", *NETWORK_CODE)
_MOST_EPOCHS = 12
_MANY_EPOCHS = 6  # of which each is evaluated once, of fewer twice
_STEPS_PER_EPOCH, _FEWEST_PAGES, _MOST_PAGES = 40, 4, 32


@dataclass(frozen=True, slots=True)
class LearningBudget:
    """What a benchmark may spend.

    Attributes:
        seeds: Trainings of each network; a page's figure is their mean.
        trials: Settings that LightGBM tries; the network has one.
        epochs: Passes over the training pages at most, 0 for as many as `steps` take; validation
            pages stop a network earlier.
        steps: Of a network, about; the passes are whole.
        alone: Categories that are also learned alone, those of fewest training pages first.
        threads: Of LightGBM.
    """

    seeds: int = 1
    trials: int = 2
    epochs: int = 0
    steps: int = 400
    alone: int = 6
    threads: int = 1


class LearningParts:
    """The parts for the pages of one data set.

    Attributes:
        pages: The data set.
        of_pages: Category code of each page, -1 where a page mixes categories.
        alone: Codes of the categories that are also learned alone.
        seeds: Of the networks.
    """

    def __init__(
        self, pages: LabelledPages, budget: LearningBudget, work: Path, *, progress: bool
    ) -> None:
        """Choose the categories to learn alone."""
        self.pages = pages
        self.seeds = range(1, 1 + budget.seeds)
        self._budget, self._work, self._progress = budget, work, progress
        self.of_pages = majority_categories(pages.offsets, pages.product_categories[pages.rows])
        self.alone = self._smallest() if len(pages.categories) > 1 else []
        self._hash = content_hash(pages)

    @cached_property
    def _texts(self) -> Texts:
        return Texts.of(self.pages)

    def parts(self) -> Iterator[Part]:
        """Yield every part."""
        folds = range(len(self.pages.folds))
        yield from (self._trees(fold) for fold in folds)
        yield from (self._network(fold, seed) for fold in folds for seed in self.seeds)
        for code in self.alone:
            yield from (self._single_trees(fold, code) for fold in folds)
            yield from (
                self._single_network(fold, code, seed) for fold in folds for seed in self.seeds
            )

    def name(self, code: int) -> str:
        """Return the name of a category."""
        return self.pages.category_names[code]

    def _smallest(self) -> list[int]:
        """Return the categories of fewest pages, of those with all splits in every fold."""
        counts = np.array(
            [
                [
                    np.bincount(
                        self.of_pages[(splits == split) & (self.of_pages >= 0)],
                        minlength=len(self.pages.category_names),
                    )
                    for split in (TRAIN, VALIDATION, TEST)
                ]
                for splits in self.pages.folds
            ]
        )
        whole = np.flatnonzero(counts.min(axis=(0, 1)) > 0)
        whole = whole[whole > 0]
        fewest = whole[np.argsort(counts[:, 0, whole].sum(axis=0), kind="stable")]
        return [int(code) for code in fewest[: self._budget.alone]]

    def _network(self, fold: int, seed: int) -> Part:
        training = int((self.pages.folds[fold] == TRAIN).sum())
        config = replace(network_config(training, self.pages.surface, self._budget), seed=seed)
        return self._network_part(network_part(fold, seed), fold, config, None)

    def _single_network(self, fold: int, code: int, seed: int) -> Part:
        name = self.name(code)
        training = int(((self.pages.folds[fold] == TRAIN) & (self.of_pages == code)).sum())
        config = network_config(training, self.pages.surface, self._budget)
        config = replace(config, seed=seed, categories=(name,))
        return self._network_part(single_network_part(fold, name, seed), fold, config, code)

    def _network_part(self, name: str, fold: int, config: TrainConfig, code: int | None) -> Part:
        def compute() -> tuple[Arrays, dict[str, Any]]:
            log = encoded_fold(self.pages, fold)
            folder = self._work / "learning" / "unfinished" / f"{log.folder.name}-{config.seed}"
            folder = folder.with_name(f"{folder.name}-{code}-{len(name)}")
            with measured() as cost:
                catalogue = catalogue_of(self.pages, fold, log, self._texts)
                try:
                    result = train(config, log, catalogue, folder, progress=self._progress)
                except TrainingError as error:
                    return self._untrained(fold, code, str(error))
                of_pages = None if code is None else self.of_pages == code
                arrays = split_scores(self.pages, result, log, catalogue, of_pages)
            shutil.rmtree(folder)
            parameters = sum(int(np.prod(p.shape)) for p in result.ranker.parameters())
            return arrays, {
                "cost": asdict(cost),
                "steps": result.progress.step,
                "best_step": result.progress.best_step,
                "parameters": parameters,
            }

        return Part(name, [self._hash, asdict(config), code_hash(CODE)], compute)

    def _untrained(self, fold: int, code: int | None, why: str) -> tuple[Arrays, dict[str, Any]]:
        """Return retrieval order, where there is too little to learn from."""
        arrays = {
            name: np.zeros(self._page_set(fold, split, code).candidates)
            for name, split in (("validation", VALIDATION), ("test", TEST))
        }
        return arrays, {"cost": {"seconds": 0.0, "peak_mib": 0.0}, "untrained": why}

    def _trees(self, fold: int) -> Part:
        return self._tree_part(trees_part(fold), fold, None)

    def _single_trees(self, fold: int, code: int) -> Part:
        return self._tree_part(single_trees_part(fold, self.name(code)), fold, code)

    def _tree_part(self, name: str, fold: int, code: int | None) -> Part:
        spend = GbdtBudget(trials=self._budget.trials, rounds=300, threads=self._budget.threads)

        def compute() -> tuple[Arrays, dict[str, Any]]:
            train, held, tested = (
                self._page_set(fold, split, code) for split in (TRAIN, VALIDATION, TEST)
            )
            with measured() as cost:
                try:
                    model = train_gbdt(train, held, OBJECTIVE, spend)
                except GbdtError as error:
                    return self._untrained(fold, code, str(error))
                arrays = {"test": model(tested)}
            arrays["validation"] = unstopped_scores(train, held, spend, None, model)
            return arrays, {"cost": asdict(cost)}

        settings = asdict(replace(spend, threads=1))
        return Part(name, [self._hash, settings, code_hash(CODE)], compute)

    def _page_set(self, fold: int, split: int, code: int | None) -> PageSet:
        if code is None:
            return fold_pages(self.pages, fold, split)
        chosen = (self.pages.folds[fold] == split) & (self.of_pages == code)
        return self.pages.page_set().select(chosen)


def unstopped_scores(
    train: PageSet,
    held: PageSet,
    spend: GbdtBudget,
    parameters: dict[str, Any] | None,
    model: Callable[[PageSet], np.ndarray],
) -> np.ndarray:
    """Return the trees' scores of validation pages as if these were test pages, shape (rows,).

    Trees that stop where some pages like them best look too good on those pages. So each half of
    the shoppers or queries is scored by trees that stopped by the other half.

    Args:
        train: Pages to learn from.
        held: Validation pages.
        spend: What a training may spend.
        parameters: The setting; None searches for one.
        model: Trees that stopped by all of `held`, taken where a half has no positive.
    """
    _, cluster = np.unique(held.shopper, return_inverse=True)
    half = np.random.default_rng(0).permutation(int(cluster.max(initial=0)) + 1)[cluster] % 2
    scores = model(held)
    for number in (0, 1):
        stops, scored = half != number, half == number
        try:
            other = train_gbdt(train, held.select(stops), OBJECTIVE, spend, parameters)
        except GbdtError:
            continue
        scores[scored[held.page_of_row]] = other(held.select(scored))
    return scores


def network_config(training: int, surface: str, budget: LearningBudget) -> TrainConfig:
    """Return the configuration of a network for so many training pages of a surface."""
    training = max(training, 1)
    batch = min(max(training // _STEPS_PER_EPOCH, _FEWEST_PAGES), _MOST_PAGES)
    epochs = min(budget.epochs or max(budget.steps * batch // training, 1), _MOST_EPOCHS)
    return TrainConfig(
        name="learning",
        log="",
        objectives=(OBJECTIVE,),
        objective_weights=(1.0,),
        surfaces=(surface,),
        width=32,
        hidden=(64, 32),
        dropout=0.2,
        modality_dropout=0.3,
        pages_per_batch=batch,
        epochs=epochs,
        evaluations_per_epoch=1 if epochs > _MANY_EPOCHS else 2,
        patience=6,
        validation_pages=400,
    )


def split_scores(
    pages: LabelledPages,
    result: TrainResult,
    log: EncodedLog,
    catalogue: Catalogue,
    wanted: np.ndarray | None = None,
) -> Arrays:
    """Return a network's scores of the validation pages and of the test pages of its log.

    Args:
        pages: The data set.
        result: The network.
        log: A fold of the data set.
        catalogue: Of the same fold.
        wanted: Flags the pages of the data set that are scored; all of them where not given.
    """
    arrays = {}
    for split in ("validation", "test"):
        chosen = log.pages_of(split, pages.surface)
        if wanted is not None:
            chosen = chosen[wanted[log.selection.pages[chosen]]]
        logits = score_pages(result.ranker, catalogue, log, chosen)
        arrays[split] = logits[:, 0].astype(np.float64)
    return arrays


def network_part(fold: int, seed: int) -> str:
    """Return the name of the part that trains a fold's network."""
    return f"network, fold {fold + 1}, seed {seed}"


def trees_part(fold: int) -> str:
    """Return the name of the part that trains a fold's trees."""
    return f"LightGBM, fold {fold + 1}"


def single_network_part(fold: int, category: str, seed: int) -> str:
    """Return the name of the part that trains a fold's network of one category."""
    return f"network, {category} alone, fold {fold + 1}, seed {seed}"


def single_trees_part(fold: int, category: str) -> str:
    """Return the name of the part that trains a fold's trees of one category."""
    return f"LightGBM, {category} alone, fold {fold + 1}"
