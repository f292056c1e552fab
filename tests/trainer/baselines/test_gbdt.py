from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.synthetic_pages import synthetic_pages
from trainer.baselines.baselines import retrieval_order
from trainer.baselines.gbdt import (
    GbdtBudget,
    GbdtError,
    read_gbdt,
    sample_settings,
    train_gbdt,
    write_gbdt,
)
from trainer.evaluation.metrics import ndcg_at_k

BUDGET = GbdtBudget(rounds=60, patience=10, threads=1)
SMALL = {"learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 20}


@pytest.fixture(scope="module")
def splits():
    return synthetic_pages(600, seed=1), synthetic_pages(300, seed=2), synthetic_pages(300, seed=3)


@pytest.fixture(scope="module")
def model(splits):
    return train_gbdt(splits[0], splits[1], "purchase", BUDGET, SMALL)


def mean_ndcg(pages, scores):
    return np.nanmean(ndcg_at_k(pages.objective("purchase"), scores, pages.offsets, 10))


def test_trees_beat_retrieval_order(splits, model):
    test = splits[2]
    assert mean_ndcg(test, model(test)) > mean_ndcg(test, retrieval_order(test)) + 0.05


def test_the_validation_figure_of_lightgbm_is_our_metric(splits, model):
    assert model.best.ndcg_at_10 == pytest.approx(mean_ndcg(splits[1], model(splits[1])), abs=1e-6)
    assert 1 <= model.best.trees <= BUDGET.rounds


def test_training_twice_gives_the_same_scores(splits, model):
    again = train_gbdt(splits[0], splits[1], "purchase", BUDGET, SMALL)
    np.testing.assert_array_equal(again(splits[2]), model(splits[2]))


def test_what_is_written_reads_back_to_equal_scores(splits, model, tmp_path):
    path = tmp_path / "models" / "trees.txt"
    write_gbdt(model, path)
    np.testing.assert_array_equal(read_gbdt(path)(splits[2]), model(splits[2]))
    assert [entry.name for entry in path.parent.iterdir()] == ["trees.txt"]


def test_pages_without_a_positive_change_nothing(splits, model):
    train = splits[0]
    labels = train.labels.copy()
    labels[: train.offsets[50]] = 0
    cut = train_gbdt(replace(train, labels=labels), splits[1], "purchase", BUDGET, SMALL)
    dropped = train_gbdt(
        train.select(np.arange(train.pages) >= 50), splits[1], "purchase", BUDGET, SMALL
    )
    np.testing.assert_array_equal(cut(splits[2]), dropped(splits[2]))


def test_the_search_tries_the_default_first_and_keeps_the_best(splits):
    budget = replace(BUDGET, trials=3, rounds=20)
    found = train_gbdt(splits[0], splits[1], "purchase", budget)
    assert [trial.parameters for trial in found.trials] == sample_settings(3, 0)
    assert found.best.ndcg_at_10 == max(trial.ndcg_at_10 for trial in found.trials)
    assert mean_ndcg(splits[1], found(splits[1])) == pytest.approx(found.best.ndcg_at_10, abs=1e-6)
    assert sample_settings(5, 0)[:3] == sample_settings(3, 0)


def test_what_cannot_be_trained_on_is_refused(splits, model, tmp_path):
    nothing = replace(splits[0], labels=np.zeros_like(splits[0].labels))
    with pytest.raises(GbdtError, match="train: got no page with a positive for 'purchase'"):
        train_gbdt(nothing, splits[1], "purchase", BUDGET, SMALL)
    with pytest.raises(GbdtError, match="trials: got 0"):
        sample_settings(0, 0)
    renamed = replace(splits[2], feature_names=("x", *splits[2].feature_names[1:]))
    with pytest.raises(GbdtError, match="features: got"):
        model(renamed)
    with pytest.raises(GbdtError, match="want a LightGBM text model"):
        read_gbdt(tmp_path / "missing.txt")
    (tmp_path / "broken.txt").write_text("tree\nversion=v4\n")
    with pytest.raises(GbdtError, match="want a LightGBM text model"):
        read_gbdt(tmp_path / "broken.txt")
