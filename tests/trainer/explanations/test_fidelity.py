from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.explanations.hand_made_pages import (
    NEUTRAL,
    SCHEMA,
    hand_made_page,
    of_features,
)
from trainer.explanations.fidelity import LEAVE_ONE_OUT, RANDOM, SHAPLEY, measure_fidelity
from trainer.explanations.pages import ExplanationError


def pages(count=40):
    random = np.random.default_rng(2)
    return [
        hand_made_page(random.normal(size=(6, 4)), number=number, category=1)
        for number in range(count)
    ]


def measure(formula):
    return measure_fidelity(
        pages(), SCHEMA, NEUTRAL, of_features(formula), np.random.default_rng(1)
    )


def test_the_one_group_that_matters_is_removed_first_and_random_orders_find_it_by_chance():
    found = measure(lambda dense: dense[:, 0])
    shapley, random = found.curves[SHAPLEY], found.curves[RANDOM]
    # one step takes everything; of four groups a random order finds it first in a quarter
    assert [each.mean for each in shapley] == pytest.approx([shapley[0].mean] * 4)
    for step, each in enumerate(random):
        assert each.mean == pytest.approx(shapley[0].mean * (step + 1) / 4, rel=0.25)
    for name in (SHAPLEY, LEAVE_ONE_OUT):
        assert found.against_random[name].low > 0
    assert (found.pages, found.products) == (40, 120)


def test_no_order_is_better_where_all_groups_matter_alike():
    found = measure(lambda dense: dense[:, 0] * 1e-9 + np.arange(dense.shape[0]))
    # what no group moves cannot be moved more by an explanation
    for each in found.against_random.values():
        assert abs(each.mean) < 1e-6


def test_leaving_one_out_is_best_at_the_first_step():
    weights = np.array([1.0, 0.5, 0.5, 0.7])
    found = measure(lambda dense: np.tanh(dense @ weights) * (1 + np.abs(dense[:, 0])))
    first = [found.curves[name][0].mean for name in (LEAVE_ONE_OUT, SHAPLEY, RANDOM)]
    assert first[0] >= first[1] >= first[2]


def test_pages_on_which_all_scores_are_equal_are_refused():
    with pytest.raises(ExplanationError, match="got 40 on which no score differs"):
        measure(lambda dense: np.zeros(dense.shape[0]))
