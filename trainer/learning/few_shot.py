"""Few-shot curves: a target category learned from few of its pages, with the others and alone.

With the others, trees learn from all pages together, and a network that was trained on the others
goes on with the target's; alone, both see the target's pages only. Networks have no product
identities here, so that weights of one fit the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainer.baselines.gbdt import GbdtBudget, GbdtError, train_gbdt
from trainer.benchmark.kept_parts import Arrays, FinishedPart, Part, compute_parts
from trainer.encoding.pageset import Doubles, PageSet
from trainer.errors import TrainingError
from trainer.evaluation.metrics import ndcg_at_k
from trainer.formats.encode import Texts, catalogue_of, content_hash, encoded_fold
from trainer.formats.labelled_pages import OBJECTIVE, TEST, TRAIN, VALIDATION
from trainer.learning.cost import measured
from trainer.learning.curves import (
    ALL,
    ALONE,
    NETWORK,
    NETWORK_ALONE,
    TENTH,
    TRANSFER,
    TREES,
    TREES_ALONE,
    UNTUNED,
    Curve,
    curve_of,
)
from trainer.learning.guard import choose
from trainer.learning.parts import (
    CODE,
    LearningBudget,
    LearningParts,
    network_config,
    split_scores,
    unstopped_scores,
)
from trainer.learning.warm_start import kept_weights, warm_start
from trainer.training.provenance import code_hash
from trainer.training.train import train

_SEED = 11
_FEWEST_TESTED, _FEWEST_LABELLED = 15, 10
_VALIDATION_SHARE = 5  # of a target's pages, one in so many validates
_ENOUGH_TO_CHOOSE = 20  # validation pages of the target, to choose by them alone
_TUNING_STEPS, _TUNING_RATE = 100, 5e-4
_CUTOFF = 10
_USUAL = ("BM25", "sequential item-kNN", "item-kNN")  # what a shop would rank by without learning


@dataclass(frozen=True, slots=True)
class FewShot:
    """Which curves are drawn.

    Attributes:
        counts: Labelled pages of the target; `ALL` and `TENTH` are of what it has. None is none.
        targets: Categories, those of fewest pages first.
    """

    counts: tuple[int, ...] = ()
    targets: int = 2


def few_shot_curves(
    parts: LearningParts, study: FewShot, budget: LearningBudget, work: Path, *, progress: bool
) -> list[Curve]:
    """Return the curve of each target; none where no count is asked for or no target fits."""
    if not study.counts:
        return []
    curves = []
    for code in _targets(parts, study.targets):
        target = _Target(parts, code, study.counts, budget, work, progress=progress)
        curves.append(target.curve())
    return curves


def _targets(parts: LearningParts, most: int) -> list[int]:
    """Return the categories with enough pages to test and to learn, those of fewest first."""
    pages = parts.pages
    tested = np.any([splits == TEST for splits in pages.folds], axis=0)
    labelled = np.isin(pages.folds[0], (TRAIN, VALIDATION))
    of_pages, width = parts.of_pages, len(pages.category_names)
    inside = of_pages > 0
    tests, counts = (
        np.bincount(of_pages[flags & inside], minlength=width) for flags in (tested, labelled)
    )
    fit = np.flatnonzero((tests >= _FEWEST_TESTED) & (counts >= _FEWEST_LABELLED))
    others = int(counts.sum()) - counts[fit]
    fit = fit[others > 0]
    return [int(code) for code in fit[np.argsort(counts[fit], kind="stable")][:most]]


@dataclass(frozen=True, slots=True)
class _Case:
    """What is learned from: of one fold, so many pages of the target, with the others or alone.

    Attributes:
        base: The fold of the data set.
        count: Pages of the target; `ALL` and `TENTH` are of what it has.
        joint: The number of the fold with the others' pages.
        alone: That without them; -1 where the target has no page.
        tune: That of the network which goes on from the others'; -1 alike.
        labelled: The target's pages that are learned from or validate.
    """

    base: int
    count: int
    joint: int
    alone: int
    tune: int
    labelled: int


class _Target:
    """The parts and the curve of one target."""

    def __init__(
        self,
        parts: LearningParts,
        code: int,
        counts: tuple[int, ...],
        budget: LearningBudget,
        work: Path,
        *,
        progress: bool,
    ) -> None:
        self._name = parts.name(code)
        self._own = parts.of_pages == code
        self._budget, self._work, self._progress = budget, work, progress
        self._cases: list[_Case] = []
        folds: list[np.ndarray] = []
        for base, splits in enumerate(parts.pages.folds):
            for count in dict.fromkeys((0, *counts, ALL)):
                self._cases.append(self._case(base, splits, count, folds))
        self._pages = replace(parts.pages, folds=tuple(folds))
        self._hash = content_hash(self._pages)

    def _case(self, base: int, splits: np.ndarray, count: int, folds: list[np.ndarray]) -> _Case:
        own = np.flatnonzero(self._own & np.isin(splits, (TRAIN, VALIDATION)))
        own = np.random.default_rng((_SEED, base)).permutation(own)
        wanted = {ALL: own.size, TENTH: max(own.size // 10, 1)}.get(count, count)
        chosen = own[:wanted]
        held, learned = chosen[::_VALIDATION_SHARE][: wanted // _VALIDATION_SHARE], chosen
        joint = np.where(self._own | (splits == TEST), -1, splits).astype(np.int8)
        alone = np.full(splits.size, -1, np.int8)
        tested = self._own & (splits == TEST)
        for fold in (joint, alone):
            fold[tested] = TEST
            fold[learned] = TRAIN
            fold[held] = VALIDATION
        tune = alone.copy()
        if held.size < _ENOUGH_TO_CHOOSE:
            tune[joint == VALIDATION] = VALIDATION
        folds.append(joint)
        if not chosen.size:
            return _Case(base, count, len(folds) - 1, -1, -1, 0)
        folds += [alone, tune]
        return _Case(base, count, len(folds) - 3, len(folds) - 2, len(folds) - 1, chosen.size)

    @cached_property
    def _texts(self) -> Texts:
        return Texts.of(self._pages)

    def curve(self) -> Curve:
        """Train what is missing and return the curve."""
        folder = self._work / "learning"
        first = compute_parts(self._first(), folder, progress=self._progress)
        second = compute_parts(self._second(first), folder, progress=self._progress)
        finished = first | second
        everything = self._pages.page_set()
        tested = self._own & np.any([fold == TEST for fold in self._pages.folds], axis=0)
        test = everything.select(tested)
        scores: dict[int, dict[str, Doubles]] = {}
        labelled: dict[int, int] = {}
        for case in self._cases:
            rows = (self._pages.folds[case.joint] == TEST)[everything.page_of_row]
            labelled[case.count] = max(labelled.get(case.count, 0), case.labelled)
            for name, values in self._scores(case, finished).items():
                of_count = scores.setdefault(case.count, {})
                of_count.setdefault(name, np.full(everything.candidates, np.nan))[rows] = values
        inside = tested[everything.page_of_row]
        gains = test.objective(OBJECTIVE)
        figures = {
            count: {
                name: ndcg_at_k(gains, values[inside], test.offsets, _CUTOFF)
                for name, values in by_name.items()
            }
            for count, by_name in scores.items()
        }
        return curve_of(self._name, test, figures, labelled, self._simple(test), finished)

    def _simple(self, test: PageSet) -> dict[str, Doubles]:
        gains = test.objective(OBJECTIVE)
        return {
            name: ndcg_at_k(
                gains,
                np.nan_to_num(test.feature(feature), nan=-np.inf)
                if feature
                else -test.position.astype(np.float64),
                test.offsets,
                _CUTOFF,
            )
            for name, feature in self._pages.rankings.items()
        }

    def _first(self) -> Iterator[Part]:
        """Yield all trees, the networks of the others, and the networks alone."""
        for case in self._cases:
            yield self._tree_part("with the others", case.joint)
            if case.alone >= 0:
                yield self._tree_part("alone", case.alone)
                yield self._network_part("alone", case.alone, None, case)
            if case.count == 0:
                yield self._network_part("of the others", case.joint, None, case)

    def _second(self, first: Mapping[str, FinishedPart]) -> Iterator[Part]:
        """Yield the networks that go on from those of the others."""
        for case in self._cases:
            if case.tune >= 0:
                source = next(c for c in self._cases if c.base == case.base and c.count == 0)
                arrays = first[self._label("network", "of the others", source.joint)].arrays
                yield self._network_part("with the others", case.tune, (source.joint, arrays), case)

    def _label(self, kind: str, how: str, fold: int) -> str:
        return f"{kind}, {self._name} {how}, few pages {fold + 1}"

    def _tree_part(self, how: str, fold: int) -> Part:
        spend = GbdtBudget(trials=1, rounds=300, threads=self._budget.threads)

        def compute() -> tuple[Arrays, dict[str, Any]]:
            everything = self._pages.page_set()
            sets = [
                everything.select(self._pages.folds[fold] == split)
                for split in (TRAIN, VALIDATION, TEST)
            ]
            with measured() as cost:
                try:
                    model = train_gbdt(sets[0], sets[1], OBJECTIVE, spend, _small(sets[0]))
                except GbdtError as error:
                    return _untrained(sets[1], sets[2], str(error))
                arrays = {"test": model(sets[2])}
            arrays["validation"] = unstopped_scores(sets[0], sets[1], spend, _small(sets[0]), model)
            return arrays, {"cost": asdict(cost)}

        name = self._label("LightGBM", how, fold)
        made_from = [self._hash, asdict(replace(spend, threads=1)), code_hash(_OWN_CODE)]
        return Part(name, made_from, compute)

    def _network_part(
        self, how: str, fold: int, source: tuple[int, Arrays] | None, case: _Case
    ) -> Part:
        training = int((self._pages.folds[fold] == TRAIN).sum())
        config = network_config(training, self._pages.surface, self._budget)
        if source is not None:
            tuning = replace(self._budget, epochs=0, steps=_TUNING_STEPS)
            config = network_config(training, self._pages.surface, tuning)
            config = replace(config, learning_rate=_TUNING_RATE)

        def compute() -> tuple[Arrays, dict[str, Any]]:
            scaled_on = fold if source is None else source[0]
            log = encoded_fold(self._pages, fold, scaled_on=scaled_on)
            folder = self._work / "learning" / "unfinished" / f"{log.folder.name}-few-{len(how)}"
            with measured() as cost:
                catalogue = catalogue_of(self._pages, fold, log, self._texts, identities=False)
                try:
                    if source is not None:
                        warm_start(config, log, catalogue, folder, source[1])
                    result = train(config, log, catalogue, folder, progress=self._progress)
                except TrainingError as error:
                    held, tested = (
                        self._pages.page_set().select(self._pages.folds[fold] == split)
                        for split in (VALIDATION, TEST)
                    )
                    return _untrained(held, tested, str(error))
                arrays = split_scores(self._pages, result, log, catalogue)
                if case.count == 0:
                    arrays |= kept_weights(result.ranker)
            shutil.rmtree(folder)
            return arrays, {"cost": asdict(cost), "steps": result.progress.step}

        name = self._label("network", how, fold)
        # what it is tuned from is trained within the same budget
        made_from = [self._hash, asdict(config), asdict(self._budget), code_hash(_OWN_CODE)]
        return Part(name, made_from, compute)

    def _scores(self, case: _Case, finished: Mapping[str, FinishedPart]) -> dict[str, Doubles]:
        """Return the test scores of every ranking of one case, CrossRank's by its guard."""

        def arrays(kind: str, how: str, fold: int) -> Arrays:
            return finished[self._label(kind, how, fold)].arrays

        source = next(c for c in self._cases if c.base == case.base and c.count == 0)
        joint = {
            TREES: arrays("LightGBM", "with the others", case.joint),
            UNTUNED: arrays("network", "of the others", source.joint),
        }
        if case.count == 0:
            fold = case.joint
            chosen = self._guarded(fold, joint, TREES)
            return {TRANSFER: chosen, **{name: of["test"] for name, of in joint.items()}}
        tuned = {NETWORK: arrays("network", "with the others", case.tune)}
        alone = {
            TREES_ALONE: arrays("LightGBM", "alone", case.alone),
            NETWORK_ALONE: arrays("network", "alone", case.alone),
        }
        return {
            TRANSFER: self._guarded_tuned(case, joint, tuned),
            ALONE: self._guarded(case.alone, alone, TREES_ALONE),
            **{name: of["test"] for name, of in (joint | tuned | alone).items()},
        }

    def _guarded_tuned(
        self, case: _Case, joint: dict[str, Arrays], tuned: dict[str, Arrays]
    ) -> Doubles:
        """Return the guard's choice of joint trees and tuned network, on what validates both."""
        folds, everything = self._pages.folds, self._pages.page_set()
        validates = folds[case.tune] == VALIDATION
        of_joint = (folds[case.joint] == VALIDATION)[everything.page_of_row]
        inside = validates[everything.page_of_row][of_joint]
        held = {
            TREES: joint[TREES]["validation"][inside],
            NETWORK: tuned[NETWORK]["validation"],
        }
        test = {TREES: joint[TREES]["test"], NETWORK: tuned[NETWORK]["test"]}
        return self._chosen(
            everything.select(validates), folds[case.joint] == TEST, held, test, TREES
        )

    def _guarded(self, fold: int, parts: dict[str, Arrays], trusted: str) -> Doubles:
        splits = self._pages.folds[fold]
        held = {name: of["validation"] for name, of in parts.items()}
        test = {name: of["test"] for name, of in parts.items()}
        pages = self._pages.page_set().select(splits == VALIDATION)
        return self._chosen(pages, splits == TEST, held, test, trusted)

    def _chosen(
        self,
        held: PageSet,
        tested: np.ndarray,
        validation: dict[str, Doubles],
        test: dict[str, Doubles],
        trusted: str,
    ) -> Doubles:
        """Choose with the rankings without learning beside the others; the rule if nothing can."""
        pages = self._pages.page_set().select(tested)
        simple = {name: feature for name, feature in self._pages.rankings.items() if feature}
        of_test = test | {name: _feature(pages, feature) for name, feature in simple.items()}
        rule = next((name for name in _USUAL if name in simple), next(iter(simple), trusted))
        if not (held.objective(OBJECTIVE) > 0).any():
            return of_test[rule]
        of_held = validation | {name: _feature(held, feature) for name, feature in simple.items()}
        trust = trusted if held.pages >= _ENOUGH_TO_CHOOSE else rule
        choice = choose(of_held, held, trusted=trust, learned=tuple(validation))
        return choice(of_test, pages)


_OWN_CODE = (*CODE, "learning/few_shot", "learning/warm_start")


def _small(train: PageSet) -> dict[str, Any] | None:
    """Return a setting for few pages; None, the default, for many."""
    if train.pages >= 200:  # noqa: PLR2004  where leaves of a hundred rows begin to be possible
        return None
    return {
        "learning_rate": 0.08,
        "num_leaves": 7,
        "min_data_in_leaf": max(train.candidates // 40, 3),
        "lambda_l2": 5.0,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "lambdarank_truncation_level": 20,
    }


def _untrained(held: PageSet, tested: PageSet, why: str) -> tuple[Arrays, dict[str, Any]]:
    arrays = {"validation": np.zeros(held.candidates), "test": np.zeros(tested.candidates)}
    return arrays, {"cost": {"seconds": 0.0, "peak_mib": 0.0}, "untrained": why}


def _feature(pages: PageSet, feature: str) -> Doubles:
    return np.nan_to_num(pages.feature(feature), nan=-np.inf)
