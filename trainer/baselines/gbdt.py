"""The tree baseline: LightGBM LambdaMART (Burges 2010; Ke et al. 2017) on the network's features.

As a baseline it reads the raw features, missing ones as missing, and the category as a
categorical column. As a part of the exported model it reads what the scorer graph reads:
normalised features and the category row, both as numbers.
Its tuning budget is a number of trials, the same that the network is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rerank_server.contract.errors import RerankError
from rerank_server.contract.schema import Normaliser
from trainer.atomic_text import write_text
from trainer.encoding.pageset import Doubles, Integers, PageSet

CATEGORY_COLUMN = "category_row"
CUTOFF = 10
_PREDICT_ROWS = 200_000

_DEFAULT: dict[str, Any] = {
    "learning_rate": 0.08,
    "num_leaves": 63,
    "min_data_in_leaf": 100,
    "lambda_l2": 1.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "lambdarank_truncation_level": 20,
}


class GbdtError(RerankError):
    """Pages that trees cannot be trained on, or a model file that does not fit."""


@dataclass(frozen=True, slots=True)
class GbdtBudget:
    """What training may spend.

    Attributes:
        trials: Parameter settings tried; the first is the default setting.
        rounds: Most trees of one setting.
        patience: Trees without a better validation NDCG@10 before a setting stops.
        threads: CPU threads.
        seed: Seed of the search and of LightGBM.
    """

    trials: int = 1
    rounds: int = 600
    patience: int = 40
    threads: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting with the validation NDCG@10 it reached and its number of trees."""

    parameters: dict[str, Any]
    ndcg_at_10: float
    trees: int


@dataclass(frozen=True, slots=True)
class Gbdt:
    """A trained model of one objective.

    Attributes:
        booster: The trees, cut at the best round.
        feature_names: Features it reads, without the category column.
        trials: What the search tried; the best one is `best`. Empty after `read_gbdt`.
        normaliser: What it was trained through; None when it reads raw features.
    """

    booster: lightgbm.Booster
    feature_names: tuple[str, ...]
    trials: tuple[Trial, ...] = ()
    normaliser: Normaliser | None = None

    @property
    def width(self) -> int:
        """The columns it reads: the features and the category row."""
        return len(self.feature_names) + 1

    @property
    def best(self) -> Trial:
        """The trial that the model comes from."""
        return max(self.trials, key=lambda trial: trial.ndcg_at_10)

    def __call__(self, pages: PageSet) -> Doubles:
        """Return the scores of all candidates, shape (rows,), float64.

        Raises:
            GbdtError: When the features are not those of the training.
        """
        if pages.feature_names != self.feature_names:
            raise GbdtError(
                f"features: got {len(pages.feature_names)} of another list, want the "
                f"{len(self.feature_names)} that the model was trained with"
            )
        scores = np.empty(pages.candidates)
        for start in range(0, pages.candidates, _PREDICT_ROWS):
            part = slice(start, start + _PREDICT_ROWS)
            scores[part] = self.booster.predict(_matrix(pages, part, self.normaliser))
        return scores

    def scores(
        self, dense: npt.NDArray[np.float32], categories: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        """Return the scores of features as the trees read them, shape (rows,).

        Args:
            dense: Features, shape (rows, features); normalised when `normaliser` is set.
            categories: Category rows, shape (rows,).
        """
        return np.asarray(self.booster.predict(_with_category(dense, categories)), np.float64)


def train_gbdt(
    train: PageSet,
    validation: PageSet,
    objective: str,
    budget: GbdtBudget,
    parameters: dict[str, Any] | None = None,
    normaliser: Normaliser | None = None,
) -> Gbdt:
    """Train one model over all categories, stopped early on validation NDCG@10.

    Args:
        train: Pages to learn from; those without a positive are left out.
        validation: Pages that choose the round and the setting.
        objective: What the gains are.
        budget: What training may spend.
        parameters: Use this one setting instead of searching.
        normaliser: Train on what the network sees; None trains on raw features.

    Raises:
        GbdtError: When training or validation holds no page with a positive.
    """
    train = _with_positive(train, objective, "train")
    validation = _with_positive(validation, objective, "validation")
    train_set = _dataset(train, objective, normaliser)
    validation_set = _dataset(validation, objective, normaliser, train_set)
    settings = [parameters] if parameters else sample_settings(budget.trials, budget.seed)
    tried = [
        _train_one(train_set, validation_set, setting, budget)
        for setting in tqdm(settings, desc="LambdaMART settings", leave=False, disable=None)
    ]
    booster, _ = max(tried, key=lambda pair: pair[1].ndcg_at_10)
    return Gbdt(booster, train.feature_names, tuple(trial for _, trial in tried), normaliser)


def sample_settings(trials: int, seed: int) -> list[dict[str, Any]]:
    """Return `trials` settings: the default, then random ones; a longer list starts the same.

    Raises:
        GbdtError: When `trials` is not positive.
    """
    if trials < 1:
        raise GbdtError(f"trials: got {trials}, want at least 1")
    random = np.random.default_rng(seed)
    return [dict(_DEFAULT), *(_sample_setting(random) for _ in range(trials - 1))]


def _sample_setting(random: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": float(np.exp(random.uniform(np.log(0.03), np.log(0.15)))),
        "num_leaves": int(random.choice([15, 31, 63, 127, 255])),
        "min_data_in_leaf": int(random.choice([20, 50, 100, 200, 400, 800])),
        "lambda_l2": float(np.exp(random.uniform(np.log(0.1), np.log(50.0)))),
        "feature_fraction": float(random.uniform(0.4, 1.0)),
        "bagging_fraction": float(random.uniform(0.5, 1.0)),
        "lambdarank_truncation_level": int(random.choice([10, 15, 20, 30, 50])),
    }


def write_gbdt(model: Gbdt, path: Path) -> None:
    """Write the trees as LightGBM's text, all at once or not at all."""
    write_text(path, model.booster.model_to_string())


def read_gbdt(path: Path, normaliser: Normaliser | None = None) -> Gbdt:
    """Read what `write_gbdt` wrote.

    Args:
        path: The file.
        normaliser: What the model was trained through.

    Raises:
        GbdtError: When the file is missing, not a model, or of another kind of model.
    """
    try:
        booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
        raise GbdtError(f"{path}: got {error}, want a LightGBM text model") from error
    names = tuple(booster.feature_name())
    if not names or names[-1] != CATEGORY_COLUMN:
        raise GbdtError(f"{path}: got last feature {names[-1:]}, want {CATEGORY_COLUMN!r}")
    return Gbdt(booster, names[:-1], normaliser=normaliser)


class _Rows(lightgbm.Sequence):
    """The features with the category as last column, read piece by piece."""

    batch_size = 65_536

    def __init__(self, pages: PageSet, normaliser: Normaliser | None) -> None:
        self._pages, self._normaliser = pages, normaliser

    def __len__(self) -> int:
        return self._pages.candidates

    def __getitem__(self, index: int | slice | list[int]) -> Doubles:
        if isinstance(index, slice | list):
            return _matrix(self._pages, index, self._normaliser)
        row: Doubles = _matrix(self._pages, [index], self._normaliser)[0]
        return row


def _matrix(
    pages: PageSet, rows: slice | list[int] | Integers, normaliser: Normaliser | None = None
) -> Doubles:
    dense = pages.dense[rows]
    if normaliser is not None:
        dense = normaliser(dense)
    return _with_category(dense, pages.categories[rows])


def _with_category(dense: npt.NDArray[np.float32], categories: npt.NDArray[Any]) -> Doubles:
    return np.concatenate([dense, categories[:, None]], axis=1, dtype=np.float64)


def _with_positive(pages: PageSet, objective: str, what: str) -> PageSet:
    positive = pages.sums(pages.objective(objective)) > 0
    if not positive.any():
        raise GbdtError(f"{what}: got no page with a positive for {objective!r}, want at least one")
    return pages if positive.all() else pages.select(positive)


def _dataset(
    pages: PageSet,
    objective: str,
    normaliser: Normaliser | None,
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    names = [*pages.feature_names, CATEGORY_COLUMN]
    dataset = lightgbm.Dataset(
        _Rows(pages, normaliser),
        label=pages.objective(objective),
        group=pages.sizes,
        feature_name=names,
        # a graph compares numbers only, so trees that go into one have no sets of categories
        categorical_feature=[CATEGORY_COLUMN] if normaliser is None else [],
        reference=reference,
        # One binned data set serves every setting.
        params={"feature_pre_filter": False, "verbosity": -1},
    )
    return dataset.construct()


def _train_one(
    train: lightgbm.Dataset,
    validation: lightgbm.Dataset,
    setting: dict[str, Any],
    budget: GbdtBudget,
) -> tuple[lightgbm.Booster, Trial]:
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [CUTOFF],
        "bagging_freq": 1,
        "feature_pre_filter": False,
        "num_threads": budget.threads,
        "seed": budget.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        **setting,
    }
    booster = lightgbm.train(
        parameters,
        train,
        num_boost_round=budget.rounds,
        valid_sets=[validation],
        valid_names=["validation"],
        callbacks=[lightgbm.early_stopping(budget.patience, verbose=False)],
    )
    trees = booster.best_iteration or booster.current_iteration()
    reached = float(booster.best_score["validation"][f"ndcg@{CUTOFF}"])
    # Only the best trees are kept, and the booster lets go of its data.
    cut = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=trees))
    return cut, Trial(setting, reached, int(trees))
