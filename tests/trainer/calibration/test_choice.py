"""How calibration is fitted is chosen by cross-fitting, by order and by error."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from trainer.calibration.calibration import CalibrationTrial, fit_objectives
from trainer.calibration.choice import (
    CURVE,
    LINE,
    STRENGTHS,
    choose_trial,
    cross_fit,
    fit_chosen,
    trials_from_json,
    trials_to_json,
)


def mixed_pages(pages=400, *, shifts=(0.0, 1.5, -1.5), seed=0):
    """Pages of 20 candidates; the logits of each category are off by its shift."""
    random = np.random.default_rng(seed)
    categories = random.integers(1, 1 + len(shifts), pages * 20)
    truth = random.normal(-2, 1.2, pages * 20)
    labels = (random.random(truth.size) < expit(truth)).astype(np.uint8)
    logits = truth - np.array([0.0, *shifts])[categories]
    return labels, logits, categories, np.arange(pages + 1) * 20, np.arange(pages) % 80


def trial(ndcg, error, kind=LINE, strength=1.0):
    return CalibrationTrial(kind, strength, ndcg, error, error)


def tried(labels, logits, categories, offsets, shoppers):
    return cross_fit(labels, logits, categories, offsets, shoppers, 4)


def test_every_kind_and_strength_is_tried():
    trials = tried(*mixed_pages())
    assert [(t.kind, t.strength) for t in trials] == [
        (kind, strength) for kind in (LINE, CURVE) for strength in STRENGTHS
    ]
    by_strength = {t.strength: t for t in trials if t.kind == LINE}
    # true probabilities would be off by nothing but noise; pooled ones by the shifts
    assert by_strength[1.0].category_error < by_strength[math.inf].category_error / 2
    assert by_strength[1.0].ndcg_at_10 > by_strength[math.inf].ndcg_at_10 + 0.05
    chosen = choose_trial(trials)
    assert chosen is not None
    assert chosen.strength < math.inf


def test_categories_that_are_alike_lose_nothing_when_they_are_pooled():
    pages = mixed_pages(60, shifts=(0.0, 0.0, 0.0))
    trials = {(t.kind, t.strength): t for t in tried(*pages)}
    assert trials[LINE, math.inf].ndcg_at_10 >= trials[LINE, 1.0].ndcg_at_10 - 0.01
    assert trials[LINE, math.inf].category_error <= trials[CURVE, 1.0].category_error


def test_the_best_order_is_taken_of_those_with_errors_near_the_least():
    good, better, far = trial(0.30, 0.0100), trial(0.31, 0.0149), trial(0.40, 0.0200)
    assert choose_trial([good, better, far]) is better
    assert choose_trial([good, replace(good, kind=CURVE)]) is good  # of equals the first
    assert choose_trial([]) is None


def test_too_few_shoppers_or_labels_of_one_kind_try_nothing():
    labels, logits, categories, offsets, shoppers = mixed_pages(40)
    assert cross_fit(labels, logits, categories, offsets, shoppers % 19, 4) == []
    assert cross_fit(labels * 0, logits, categories, offsets, shoppers, 4) == []


def test_what_is_chosen_is_fitted_on_all_pages_and_told():
    labels, logits, categories, *_ = mixed_pages()
    columns = np.stack([labels, labels * 0, 1 - labels], axis=1)
    scores = np.stack([logits, logits, -logits], axis=1)
    counted = np.ones(columns.shape, np.bool_)
    trials = [trial(0.3, 0.01), trial(0.4, 0.01, CURVE, 4.0)]
    curve = fit_chosen(columns, scores, categories, counted, 4, trials=trials)
    assert [t.chosen for t in curve.trials] == [False, True]
    assert curve.knots is not None
    # an objective that never happened keeps its logits
    np.testing.assert_array_equal(
        curve.logits(scores, categories)[:, 1], scores[:, 1].astype(np.float64)
    )
    expected = curve.probabilities(scores, categories)
    assert expected[:, 0].mean() == pytest.approx(labels.mean(), abs=0.01)
    assert expected[:, 2].mean() == pytest.approx(1 - labels.mean(), abs=0.01)
    line = fit_chosen(columns, scores, categories, counted, 4)
    np.testing.assert_array_equal(
        line.scale, fit_objectives(columns, scores, categories, counted, 4).scale
    )
    assert line.knots is None
    assert line.trials == ()


def test_trials_survive_json():
    trials = [trial(0.3, 0.01), trial(0.31, 0.02, CURVE, math.inf)]
    text = json.dumps(trials_to_json(trials), allow_nan=False)
    assert trials_from_json(json.loads(text)) == trials
