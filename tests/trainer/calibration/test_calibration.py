from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy.special import expit, logit

from trainer.calibration.calibration import (
    Calibration,
    CalibrationError,
    before_after_from_json,
    compare_calibration,
    fit_calibration,
    fit_objectives,
    format_calibration,
    reliability,
)


def drawn(rows, scale, bias, seed=0):
    """Logits of one objective, and labels that happen with sigmoid(scale * logit + bias)."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1.5, 1.5, rows)
    labels = (random.random(rows) < expit(scale * logits + bias)).astype(np.uint8)
    return logits[:, None].astype(np.float32), labels[:, None]


def test_the_error_of_hand_made_bins():
    # Two bins of two: |.15 - .5| and |.75 - .5|, half the candidates each.
    got = reliability(np.array([0, 1, 1, 0]), np.array([0.1, 0.2, 0.7, 0.8]), bins=2)
    assert got.error == pytest.approx((0.35 + 0.25) / 2)
    assert got.predicted == pytest.approx((0.15, 0.75))
    assert got.observed == pytest.approx((0.5, 0.5))
    assert got.ratio == pytest.approx(2 / 1.8)
    expected = -(math.log(0.9) + math.log(0.2) + math.log(0.7) + math.log(0.2)) / 4
    assert got.log_loss == pytest.approx(expected)
    assert (got.rows, got.positives) == (4, 2)


def test_true_probabilities_have_almost_no_error():
    logits, labels = drawn(200_000, 1.0, 0.0)
    assert reliability(labels[:, 0], expit(logits[:, 0])).error < 0.005


def test_fewer_candidates_than_bins_are_no_error():
    got = reliability(np.array([1, 0]), np.array([1.0, 0.0]))
    assert got.error == 0.0
    assert len(got.predicted) == 2


def test_the_scale_and_bias_of_each_category_are_found():
    first, second = drawn(40_000, 0.5, 1.0, 1), drawn(40_000, 1.4, -0.7, 2)
    logits = np.concatenate([first[0], second[0]])
    labels = np.concatenate([first[1], second[1]])
    categories = np.repeat([1, 2], 40_000).astype(np.int32)
    got = fit_calibration(labels, logits, categories, 4)
    assert got.scale.shape == (4, 1)
    assert got.scale.dtype == np.float32
    assert got.scale[1:3, 0] == pytest.approx([0.5, 1.4], abs=0.05)
    assert got.bias[1:3, 0] == pytest.approx([1.0, -0.7], abs=0.08)
    # Rows 0 and 3 saw nothing and take the pooled values.
    assert got.scale[0] == got.scale[3]
    assert 0.5 < got.scale[0, 0] < 1.4


def test_the_pooled_fit_is_where_the_gradient_vanishes():
    logits, labels = drawn(5_000, 0.8, 0.3)
    got = fit_calibration(labels, logits, np.ones(5_000, np.int32), 2)
    slope = expit(got.scale[0, 0] * logits[:, 0] + got.bias[0, 0]) - labels[:, 0]
    assert abs(slope.mean()) < 1e-6
    assert abs((slope * logits[:, 0]).mean()) < 1e-6


def test_a_small_category_stays_near_the_pooled_fit_and_a_large_one_leaves_it():
    many = drawn(30_000, 1.0, 0.0, 1)
    for rows, near in ((20, True), (30_000, False)):
        few = drawn(rows, 1.0, 2.5, 2)
        logits = np.concatenate([many[0], few[0]])
        labels = np.concatenate([many[1], few[1]])
        categories = np.repeat([1, 2], [30_000, rows]).astype(np.int32)
        got = fit_calibration(labels, logits, categories, 3)
        assert (abs(got.bias[2, 0] - 2.5) > 0.3) == near
        assert got.bias[2, 0] > got.bias[0, 0]


def test_infinite_strength_is_the_pooled_fit_and_zero_each_categorys_own():
    parts = [drawn(4_000, 0.7, 1.0, 1), drawn(3_000, 1.3, -1.0, 2)]
    logits, labels = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    categories = np.repeat([1, 2], [4_000, 3_000])
    pooled = fit_calibration(labels, logits, categories, 3, strength=math.inf)
    assert (pooled.scale == pooled.scale[0]).all()
    assert (pooled.bias == pooled.bias[0]).all()
    own = fit_calibration(labels, logits, categories, 3, strength=0)
    for row, part in ((1, parts[0]), (2, parts[1])):
        alone = fit_calibration(part[1], part[0], np.zeros(part[0].shape[0], int), 1)
        assert own.scale[row] == pytest.approx(alone.scale[0], abs=1e-3)
        assert own.bias[row] == pytest.approx(alone.bias[0], abs=1e-3)
    assert own.scale[0] == pooled.scale[0]  # a category without candidates
    gaps = [
        float(fit.bias[1, 0] - fit.bias[2, 0])
        for strength in (0, 1, 100, 10_000, math.inf)
        for fit in [fit_calibration(labels, logits, categories, 3, strength=strength)]
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == 0
    with pytest.raises(CalibrationError, match="strength: got -1, want at least 0"):
        fit_calibration(labels, logits, categories, 3, strength=-1)


def test_objectives_are_fitted_on_the_candidates_that_count_for_them():
    logits, labels = drawn(4_000, 0.8, 0.3)
    counted = np.ones((4_000, 2), np.bool_)
    counted[2_000:, 1] = False
    both = np.repeat(labels, 2, axis=1)
    categories = np.ones(4_000, int)
    got = fit_objectives(both, np.repeat(logits, 2, axis=1), categories, counted, 2)
    half = fit_calibration(labels[:2_000], logits[:2_000], categories[:2_000], 2)
    assert got.scale[1, 1] == half.scale[1, 0]
    assert got.scale[1, 0] != half.scale[1, 0]


def test_the_order_within_a_category_never_turns_around():
    logits, labels = drawn(4_000, -1.0, 0.0)  # the head is worse than chance
    got = fit_calibration(labels, logits, np.ones(4_000, np.int32), 2)
    assert (got.scale > 0).all()
    probabilities = got.probabilities(logits, np.ones(4_000, np.int32))
    assert probabilities.mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_calibration_lowers_the_error_on_other_pages():
    names, objectives = ("neutral", "dairy", "pet"), ("purchase",)
    parts = [(drawn(20_000, 0.6, 0.8, s), drawn(20_000, 1.2, -0.4, s + 10)) for s in (1, 2)]
    (fit_logits, fit_labels), (logits, labels) = (
        (np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])) for a, b in parts
    )
    categories = np.repeat([1, 2], 20_000).astype(np.int32)
    calibration = fit_calibration(fit_labels, fit_logits, categories, 3)
    table = compare_calibration(
        labels,
        logits,
        categories,
        calibration,
        np.ones(labels.shape, np.bool_),
        category_names=names,
        objectives=objectives,
    )
    assert [row.category for row in table] == ["all", "dairy", "pet"]
    assert all(row.after.error < row.before.error / 4 for row in table)
    assert all(row.after.ratio == pytest.approx(1, abs=0.05) for row in table)
    text = format_calibration({"Promotion": table, "Search": table[:1]})
    assert len(text.splitlines()) == (3 + 3) + 1 + (3 + 1)
    assert "Calibration on Search" in text
    again = [before_after_from_json(json.loads(json.dumps(asdict(row)))) for row in table]
    assert again == table


def test_only_counted_candidates_are_compared():
    logits, labels = drawn(6, 1.0, 0.0)
    counted = np.array([[True], [False], [True], [True], [False], [False]])
    neutral = Calibration(np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32))
    table = compare_calibration(
        labels,
        logits,
        np.ones(6, np.int32),
        neutral,
        counted,
        category_names=("neutral", "dairy"),
        objectives=("trial",),
    )
    assert [(row.category, row.before.rows) for row in table] == [("all", 3), ("dairy", 3)]
    assert table[0].before.positives == labels[counted].sum()


def test_calibrated_logits_are_what_the_formula_says():
    calibration = Calibration(np.array([[1.0], [2.0]], np.float32), np.array([[0.0], [-1.0]]))
    logits = np.array([[0.5], [0.5]])
    got = calibration.probabilities(logits, np.array([0, 1]))
    assert logit(got[:, 0]) == pytest.approx([0.5, 0.0])


def test_what_cannot_be_fitted_is_refused():
    logits, labels = drawn(10, 1.0, 0.0)
    ones = np.ones(10, np.int32)
    with pytest.raises(CalibrationError, match="labels: got only 0 for objective 0"):
        fit_calibration(labels * 0, logits, ones, 2)
    with pytest.raises(CalibrationError, match="categories: got 1 to 1, want 0 to 0"):
        fit_calibration(labels, logits, ones, 1)
    with pytest.raises(CalibrationError, match="logits: got 10 that are not finite"):
        fit_calibration(labels, logits * np.nan, ones, 2)
    with pytest.raises(CalibrationError, match="categories: got shape"):
        fit_calibration(labels, logits, ones[:3], 2)
    with pytest.raises(CalibrationError, match="labels: got shape"):
        fit_calibration(labels[:3], logits, ones, 2)
