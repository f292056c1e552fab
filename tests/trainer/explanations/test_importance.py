from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.explanations.hand_made_pages import (
    NEUTRAL,
    SCHEMA,
    hand_made_page,
    of_features,
)
from trainer.explanations.importance import PageSample, surface_importance
from trainer.explanations.pages import ExplanationError


def pages(count=30):
    random = np.random.default_rng(4)
    found = []
    for number in range(count):
        dense = random.normal(size=(8, 4))
        gains = (dense[:, 0] == dense[:, 0].max()).astype(float)
        found.append(hand_made_page(dense, number=number, gains=gains, category=number % 2))
    return found


def test_the_feature_that_the_scorer_reads_is_the_one_that_matters():
    found = surface_importance(
        pages(), SCHEMA, NEUTRAL, of_features(lambda dense: dense[:, 0]), np.random.default_rng(0)
    )
    assert next(iter(found.groups)) == "retrieval"
    assert next(iter(found.features)) == "retrieval_score"
    best = found.features["retrieval_score"]
    assert best.ndcg_loss.low > 0.2
    assert best.places.mean == pytest.approx(21 / 8, abs=0.3)  # of two random orders of eight
    for name in ("price", "price_page_ratio", "promoted"):
        each = found.features[name]
        assert (each.moved.mean, each.places.mean, each.ndcg_loss.mean) == (0, 0, 0)
    assert found.by_category.keys() == {"(any)", "dairy"}
    assert found.by_category["dairy"]["retrieval"].mean > 0.5
    assert found.by_category["dairy"]["price"].mean == 0


def test_the_change_of_a_score_by_hand():
    page = hand_made_page([[3.0, 1.0, 0, 0], [1.0, 1.0, 0, 0]])
    sample = PageSample([page], of_features(lambda dense: dense[:, 0] + dense[:, 1]))
    without = sample.scores_without("retrieval", SCHEMA, NEUTRAL)
    np.testing.assert_array_equal(without, [1.0, 1.0])
    moved = sample.importance({"retrieval": without})["retrieval"].moved.mean
    assert moved == pytest.approx((3 + 1) / 2 / 1.0)  # scores 4 and 2 deviate by 1 from 3


def test_permuting_keeps_the_values_of_each_page():
    seen = []

    def formula(dense):
        seen.append(np.sort(dense[:, 0]))
        return dense[:, 0]

    sample = PageSample(pages(3), of_features(formula))
    before, seen[:] = list(seen), []
    sample.scores_permuted(0, np.random.default_rng(0))
    for got, want in zip(seen, before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_no_page_is_refused():
    with pytest.raises(ExplanationError, match="pages: got none"):
        surface_importance([], SCHEMA, NEUTRAL, of_features(np.sum), np.random.default_rng(0))
