"""Agreement with the grades of judged rows: the quadratic weighted kappa, rows dealt to folds.

Unlike the table's, these folds deal the rows of every query: each query is trained on and tested,
as in the competition whose figure is compared with.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from rerank_server.contract.text import TextEncoder
from trainer.benchmark.kept_parts import Arrays, Part, compute_parts
from trainer.encoding.pageset import Doubles
from trainer.encoding.words import read_tokenizer, read_word_vectors, text_vectors
from trainer.errors import TrainingError
from trainer.evaluation.bootstrap import DRAWS, Interval
from trainer.formats.encode import Texts, catalogue_of, content_hash, encoded_fold
from trainer.formats.labelled_pages import TEST, TRAIN, VALIDATION, LabelledPages
from trainer.learning.cost import measured
from trainer.learning.parts import CODE, LearningBudget, network_config, split_scores
from trainer.learning.rankings import CROSSRANK, NETWORK, TREES
from trainer.training.provenance import code_hash
from trainer.training.train import train

FOLDS = 3
_VALIDATION_SHARE = 6  # of the rows that are not tested, one in so many
_SHARPNESS = 8.0  # of the weight that a judged row has by its likeness
_ROUNDS, _PATIENCE = 500, 40
_PASSES = 12
_STEPS = 41  # cut points tried at a time

NEIGHBOUR_FEATURES = (
    "grade_of_like",
    "grade_of_nearest",
    "likeness_of_nearest",
    "grade_of_query",
    "share_best_of_query",
    "judged_of_query",
    *(f"likeness_of_grade_{grade}" for grade in range(4)),
)


@dataclass(frozen=True, slots=True)
class Kappa:
    """The quadratic weighted kappa of each ranking.

    Attributes:
        protocol: In words.
        rankings: Mean over runs and folds.
        differences: By ranking, CrossRank minus it, its interval over resampled queries.
        folds: By ranking, of every run and fold.
        seconds: Of all training.
    """

    protocol: str
    rankings: dict[str, float]
    differences: dict[str, Interval]
    folds: dict[str, list[float]]
    seconds: float


def quadratic_kappa(counts: npt.NDArray[Any]) -> float:
    """Return the quadratic weighted kappa of a table of (true grade, given grade) counts.

    kappa = 1 - sum w_ij O_ij / sum w_ij E_ij with w_ij = (i - j)^2 and E the product of the
    margins over the total (Cohen 1968).

    Args:
        counts: Shape (grades, grades).

    Returns:
        At most 1; 1 where all grades are one and the same.
    """
    table = counts.astype(np.float64)
    grades = np.arange(table.shape[0])
    weight = (grades[:, None] - grades[None, :]) ** 2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1.0)
    disagreement = float((weight * expected).sum())
    return 1.0 - float((weight * table).sum()) / disagreement if disagreement else 1.0


def fit_cuts(grades: npt.NDArray[Any], scores: Doubles, count: int) -> Doubles:
    """Return the `count` - 1 ascending cut points on scores with the best kappa.

    They start where they give the grades' own shares, and are moved one at a time.

    Args:
        grades: True ones, 0 to `count` - 1, shape (rows,).
        scores: Shape (rows,).
        count: Of grades.
    """
    shares = np.cumsum(np.bincount(grades, minlength=count))[:-1] / grades.size
    cuts = np.quantile(scores, shares)
    places = np.quantile(scores, np.linspace(0, 1, _STEPS))
    best = _kappa_of(grades, graded(scores, cuts), count)
    for _ in range(_PASSES):
        before = best
        for index in range(count - 1):
            for place in places.tolist():
                tried = cuts.copy()
                tried[index] = place
                if np.any(np.diff(tried) < 0):
                    continue
                value = _kappa_of(grades, graded(scores, tried), count)
                if value > best:
                    best, cuts = value, tried
        if best == before:
            break
    return cuts


def graded(scores: Doubles, cuts: Doubles) -> npt.NDArray[np.int64]:
    """Return the grade of each score: how many cut points it is above."""
    return np.searchsorted(cuts, scores, side="left").astype(np.int64)


def kappa_of_rows(
    pages: LabelledPages, runs: int, budget: LearningBudget, work: Path, *, progress: bool
) -> Kappa:
    """Train on rows of all queries, grade the others, and return the agreement.

    Both learned rankings read the features of the table and what rows of the same query that are
    trained on say; a row is no neighbour of itself. LightGBM is fitted to the grades; CrossRank is
    the least-squares sum of it and the network. Cut points are chosen on validation rows.

    Args:
        pages: Judged searches.
        runs: Times that the rows are dealt to folds.
        budget: What training may spend.
        work: Where parts are kept.
        progress: Whether to draw a bar.
    """
    study = _Study(pages, budget, work, progress=progress)
    names = [(run, fold) for run in range(runs) for fold in range(FOLDS)]
    finished = compute_parts(study.parts(names), work / "learning", progress=progress)
    tables: dict[str, list[npt.NDArray[np.int64]]] = {}
    seconds = 0.0
    for run, fold in names:
        part = finished[_name(run, fold)]
        seconds += part.facts["cost"]["seconds"]
        for ranking, given in study.grades(run, fold, part.arrays).items():
            tables.setdefault(ranking, []).append(given)
    folds = {
        ranking: [quadratic_kappa(table.sum(axis=0)) for table in by_fold]
        for ranking, by_fold in tables.items()
    }
    differences = {
        ranking: _difference(tables[CROSSRANK], tables[ranking])
        for ranking in tables
        if ranking != CROSSRANK
    }
    return Kappa(
        protocol=f"{runs} runs of {FOLDS} folds of rows within every query; cut points chosen on "
        "validation rows",
        rankings={name: float(np.mean(values)) for name, values in folds.items()},
        differences=differences,
        folds=folds,
        seconds=round(seconds, 1),
    )


class _Study:
    """The parts of the kappa, one for each deal and fold."""

    def __init__(
        self, pages: LabelledPages, budget: LearningBudget, work: Path, *, progress: bool
    ) -> None:
        self._pages, self._budget, self._work = pages, budget, work
        self._progress = progress
        self._texts = Texts.of(pages)
        self._vectors = text_vectors(
            pages.product_texts, read_word_vectors(), TextEncoder(read_tokenizer())
        )
        self._count = int(pages.grades.max(initial=0)) + 1

    def parts(self, names: list[tuple[int, int]]) -> Iterator[Part]:
        """Yield the part of each run and fold."""
        made_from = [content_hash(self._pages), asdict(self._budget), code_hash(CODE),
                     code_hash(("learning/kappa",))]  # fmt: skip
        for run, fold in names:

            def compute(run: int = run, fold: int = fold) -> tuple[Arrays, dict[str, Any]]:
                return self._train(run, fold)

            yield Part(_name(run, fold), made_from, compute)

    def _train(self, run: int, fold: int) -> tuple[Arrays, dict[str, Any]]:
        pages = self._dealt(run, fold)
        with measured() as cost:
            arrays = self._trees(pages) | self._network(pages, run)
        return arrays, {"cost": asdict(cost)}

    def _dealt(self, run: int, fold: int) -> LabelledPages:
        """Return the rows of each query as up to three pages, one of each split."""
        pages = self._pages
        random = np.random.default_rng(1_000 + run)
        page = np.repeat(np.arange(pages.count), np.diff(pages.offsets))
        order = np.lexsort((random.random(page.size), page))
        place = np.empty(page.size, np.int64)
        place[order] = np.arange(page.size) - pages.offsets[page[order]]
        shift = random.integers(FOLDS, size=pages.count)[page]  # short queries reach every fold
        split = np.full(page.size, TRAIN)
        split[(place + shift) % FOLDS == fold] = TEST
        rest = (split == TRAIN) & (random.random(page.size) < 1 / _VALIDATION_SHARE)
        split[rest] = VALIDATION
        dense = np.concatenate(
            [pages.dense, self._of_neighbours(page, split == TRAIN)], axis=1
        ).astype(np.float32)
        by_part = np.lexsort((np.arange(page.size), split, page))
        starts = np.flatnonzero(np.diff(page[by_part] * FOLDS + split[by_part], prepend=-1) != 0)
        first = by_part[starts]
        return replace(
            pages,
            offsets=np.append(starts, page.size).astype(np.int64),
            rows=pages.rows[by_part],
            grades=pages.grades[by_part],
            dense=dense[by_part],
            feature_names=(*pages.feature_names, *NEIGHBOUR_FEATURES),
            clusters=pages.clusters[page[first]],
            page_queries=pages.page_queries[page[first]],
            positives_total=pages.positives_total[page[first]],
            history=pages.history[page[first]],
            folds=(split[first].astype(np.int8),),
        )

    def _of_neighbours(
        self, page: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        """Return `NEIGHBOUR_FEATURES` of every row, by the known grades of its query's others."""
        pages = self._pages
        features = np.full((page.size, len(NEIGHBOUR_FEATURES)), np.nan)
        best = self._count - 1
        for number in range(pages.count):
            rows = np.arange(pages.offsets[number], pages.offsets[number + 1])
            judged = rows[known[rows]]
            if judged.size == 0:
                continue
            vectors = self._vectors[pages.rows[rows]]
            like = vectors @ self._vectors[pages.rows[judged]].T
            other = rows[:, None] != judged[None, :]
            grade = pages.grades[judged].astype(np.float64)
            weight = np.where(other, np.exp(_SHARPNESS * (like - 1.0)), 0.0)
            shown = np.where(other, like, -1.0)
            nearest = shown.argmax(axis=1)
            count = other.sum(axis=1)
            some = count > 0
            columns = [
                _ratio(weight @ grade, weight.sum(axis=1)),
                grade[nearest],
                shown.max(axis=1),
                _ratio(other @ grade, count),
                _ratio(other @ (grade == best), count),
                count,
            ]
            for level in range(4):
                of_level = other & (grade == level)[None, :]
                columns.append(_ratio((like * of_level).sum(axis=1), of_level.sum(axis=1)))
            features[rows] = np.where(some[:, None], np.stack(columns, axis=1), np.nan)
        return features

    def _trees(self, pages: LabelledPages) -> Arrays:
        split = np.repeat(pages.folds[0], np.diff(pages.offsets))
        categories = pages.product_categories[pages.rows][:, None]
        values = np.concatenate([pages.dense, categories], axis=1).astype(np.float64)
        parts = {
            part: lightgbm.Dataset(
                values[split == part],
                label=pages.grades[split == part],
                categorical_feature=[values.shape[1] - 1],
                params={"verbosity": -1},
            )
            for part in (TRAIN, VALIDATION)
        }
        booster = lightgbm.train(
            {
                "objective": "regression",
                "learning_rate": 0.05,
                "num_leaves": 31,
                "min_data_in_leaf": int(np.clip((split == TRAIN).sum() // 60, 3, 40)),
                "feature_fraction": 0.6,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "lambda_l2": 5.0,
                "num_threads": self._budget.threads,
                "seed": 0,
                "deterministic": True,
                "force_row_wise": True,
                "verbosity": -1,
            },
            parts[TRAIN],
            num_boost_round=_ROUNDS,
            valid_sets=[parts[VALIDATION]],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        return {
            f"trees {name}": np.asarray(booster.predict(values[split == part]), np.float64)
            for name, part in (("validation", VALIDATION), ("test", TEST))
        }

    def _network(self, pages: LabelledPages, run: int) -> Arrays:
        """Return the network's logits, pointwise above all: rows of all pages are compared."""
        training = int((pages.folds[0] == TRAIN).sum())
        config = network_config(training, pages.surface, self._budget)
        config = replace(config, seed=run + 1, pointwise_weight=3.0)
        log = encoded_fold(pages, 0)
        key = hashlib.sha256(json.dumps([asdict(config), code_hash(CODE)]).encode()).hexdigest()[:8]
        folder = self._work / "learning" / "unfinished" / f"kappa-{log.folder.name}-{key}"
        catalogue = catalogue_of(pages, 0, log, self._texts)
        try:
            result = train(config, log, catalogue, folder, progress=self._progress)
        except TrainingError:  # too few rows to learn from
            split = np.repeat(pages.folds[0], np.diff(pages.offsets))
            return {
                f"network {name}": np.zeros(int((split == part).sum()))
                for name, part in (("validation", VALIDATION), ("test", TEST))
            }
        scores = split_scores(pages, result, log, catalogue)
        shutil.rmtree(folder)
        return {f"network {name}": values for name, values in scores.items()}

    def grades(self, run: int, fold: int, arrays: Arrays) -> dict[str, npt.NDArray[np.int64]]:
        """Return by ranking the table of true and given grades of each query."""
        pages = self._dealt(run, fold)
        sizes = np.diff(pages.offsets)
        split = np.repeat(pages.folds[0], sizes)
        query = np.repeat(pages.page_queries, sizes)[split == TEST]
        truth = {part: pages.grades[split == part].astype(np.int64) for part in (VALIDATION, TEST)}
        both = {
            name: np.stack([arrays[f"trees {name}"], arrays[f"network {name}"]])
            for name in ("validation", "test")
        }
        weights = _least_squares(both["validation"], truth[VALIDATION])
        scores = {
            TREES: (both["validation"][0], both["test"][0]),
            NETWORK: (both["validation"][1], both["test"][1]),
            CROSSRANK: (weights @ both["validation"], weights @ both["test"]),
        }
        given = {}
        for ranking, (held, tested) in scores.items():
            cuts = fit_cuts(truth[VALIDATION], held, self._count)
            table = np.zeros((len(pages.queries), self._count, self._count), np.int64)
            np.add.at(table, (query, truth[TEST], graded(tested, cuts)), 1)
            given[ranking] = table
        return given


def _name(run: int, fold: int) -> str:
    return f"kappa, run {run + 1}, fold {fold + 1}"


def _ratio(total: Doubles, count: npt.NDArray[Any]) -> Doubles:
    result: Doubles = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return result


def _least_squares(scores: Doubles, grades: npt.NDArray[np.int64]) -> Doubles:
    """Return the weights of the sum of scores, shape (rankings, rows), that fits grades best."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    target = grades - grades.mean()
    ridge = 1e-3 * np.trace(centred @ centred.T) / scores.shape[0] * np.eye(scores.shape[0])
    found: Doubles = np.linalg.solve(centred @ centred.T + ridge + 1e-9 * np.eye(2),
                                     centred @ target)  # fmt: skip
    return np.maximum(found, 0.0)


def _kappa_of(grades: npt.NDArray[Any], given: npt.NDArray[np.int64], count: int) -> float:
    table = np.bincount(grades.astype(np.int64) * count + given, minlength=count * count)
    return quadratic_kappa(table.reshape(count, count))


def _difference(ours: list[npt.NDArray[np.int64]], others: list[npt.NDArray[np.int64]]) -> Interval:
    """Return the mean difference of kappa over all folds, queries resampled."""
    queries = ours[0].shape[0]
    random = np.random.default_rng(0)
    counts = random.multinomial(queries, np.full(queries, 1 / queries), size=DRAWS // 4)

    def mean(weights: npt.NDArray[Any]) -> float:
        return float(
            np.mean(
                [
                    quadratic_kappa(np.tensordot(weights, table, 1))
                    - quadratic_kappa(np.tensordot(weights, other, 1))
                    for table, other in zip(ours, others, strict=True)
                ]
            )
        )

    drawn = np.array([mean(row) for row in counts])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean(np.ones(queries)), float(low), float(high))
