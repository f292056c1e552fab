"""Trees of one category alone, and their fair scores."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.baselines.gbdt import GbdtBudget
from trainer.baselines.own_trees import OwnTrees
from trainer.baselines.single_category import categories_of_pages, of_category, trained_categories
from trainer.encoding.pageset import encoded_pages

BUDGET = GbdtBudget(rounds=10, threads=1)


@pytest.fixture(scope="module")
def alone(tiny_log) -> OwnTrees:
    return OwnTrees(tiny_log, categories_of_pages(tiny_log), BUDGET)


@pytest.fixture(scope="module")
def largest(tiny_log, alone) -> int:
    return int(trained_categories(tiny_log, "search", alone.of_pages)[-1])


def test_trees_of_a_category_are_those_of_its_pages(alone, largest, tiny_log) -> None:
    model = alone.train(largest, "search")
    assert model is not None
    assert model.normaliser is not None
    again = alone.train(largest, "search")
    held = encoded_pages(of_category(tiny_log, largest, alone.of_pages), "validation", "search")
    assert again is not None
    np.testing.assert_array_equal(model(held), again(held))


def test_cross_fitted_scores_are_of_two_models_that_stopped_elsewhere(
    alone, largest, tiny_log
) -> None:
    held = encoded_pages(of_category(tiny_log, largest, alone.of_pages), "validation", "search")
    scores = alone.cross_fitted_scores(largest, "search")
    assert scores is not None
    assert scores.shape == (held.candidates,)
    assert np.isfinite(scores).all()
    assert np.unique(scores).size > 2


def test_a_category_without_pages_has_no_trees(alone) -> None:
    assert alone.train(0, "search") is None
    assert alone.cross_fitted_scores(0, "search") is None


def test_pages_that_mix_categories_give_no_own_trees(alone, largest) -> None:
    assert alone.train(largest, "promotion") is None
