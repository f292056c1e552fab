"""Isotonic calibration: it rises, it shrinks, and it follows what no line can."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from trainer.calibration.calibration import (
    Calibration,
    CalibrationError,
    fit_calibration,
    reliability,
)
from trainer.calibration.isotonic import fit_isotonic


def bent(rows, seed=0, shift=0.0):
    """Labels that happen with a probability that no line of the logit gives."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1.5, 1.5, rows)
    truth = expit(np.where(logits < 0, 0.2 * logits - 2.5, 2.5 * logits - 2.5) + shift)
    return logits, (random.random(rows) < truth).astype(np.uint8), truth


def line_of(labels, logits, categories, count):
    return fit_calibration(labels[:, None], logits[:, None], categories, count)


def curve_of(labels, logits, categories, count, strength=1.0):
    line = line_of(labels, logits, categories, count)
    return fit_isotonic(labels, logits, categories, line, strength=strength)


def test_a_curve_follows_what_no_line_can():
    logits, labels, truth = bent(40_000)
    ones = np.ones(logits.size, np.int64)
    line, curve = line_of(labels, logits, ones, 2), curve_of(labels, logits, ones, 2)
    other, told, expected = bent(40_000, seed=1)
    errors = [
        np.abs(fit.probabilities(other[:, None], ones)[:, 0] - expected).mean()
        for fit in (line, curve)
    ]
    assert errors[1] < errors[0] / 2
    got = curve.probabilities(other[:, None], ones)[:, 0]
    assert reliability(told, got).error < 0.01
    assert truth.mean() == pytest.approx(got.mean(), abs=0.01)


@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0, math.inf])
def test_a_curve_rises_everywhere_beyond_the_data_too(strength):
    random = np.random.default_rng(3)
    logits, labels = random.normal(size=900), (random.random(900) < 0.2).astype(np.uint8)
    categories = random.integers(0, 4, 900)  # labels say nothing: own shares fall and rise
    curve = curve_of(labels, logits, categories, 6, strength)
    grid = np.linspace(-8, 8, 2001)
    for category in range(6):
        odds = curve.logits(grid[:, None], np.full(grid.size, category))[:, 0]
        assert (np.diff(odds) > 0).all()


def test_infinite_strength_is_pooled_and_zero_is_a_categorys_own():
    first, second = bent(6_000, 1, shift=1.0), bent(6_000, 2, shift=-1.0)
    logits = np.concatenate([first[0], second[0]])
    labels = np.concatenate([first[1], second[1]])
    categories = np.repeat([1, 2], 6_000)
    pooled = curve_of(labels, logits, categories, 3, math.inf)
    line = line_of(labels, logits, categories, 3)
    grid = np.linspace(-3, 3, 50)[:, None]
    inner = [pooled.logits(grid, np.full(50, row)) for row in range(3)]
    middle = np.abs(grid[:, 0]) < 2  # inside the outermost bins, beyond which each has its slope
    np.testing.assert_allclose(inner[1][middle], inner[2][middle], atol=1e-3)
    own = fit_isotonic(labels, logits, categories, line, strength=0.0)
    strengths = [own, *(curve_of(labels, logits, categories, 3, s) for s in (4.0, 400.0)), pooled]
    gaps = [
        float((fit.logits(grid, np.full(50, 1)) - fit.logits(grid, np.full(50, 2)))[middle].mean())
        for fit in strengths
    ]
    assert gaps[0] == pytest.approx(2.0, abs=0.35)  # the shift between the two
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(0.0, abs=1e-3)


def test_a_category_without_candidates_is_pooled():
    logits, labels, _ = bent(2_000)
    curve = curve_of(labels, logits, np.ones(2_000, np.int64), 3, 0.0)
    pooled = curve_of(labels, logits, np.ones(2_000, np.int64), 3, math.inf)
    np.testing.assert_array_equal(curve.turns[2], pooled.turns[2])


def test_logits_that_are_all_alike_are_no_error():
    labels = np.array([0, 1, 0, 0], np.uint8)
    curve = fit_isotonic(
        labels,
        np.ones(4),
        np.zeros(4, np.int64),
        Calibration(np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)),
    )
    assert curve.probabilities(np.ones((1, 1)), np.array([0]))[0, 0] == pytest.approx(0.25)


def test_what_cannot_be_fitted_is_refused():
    logits, labels, _ = bent(10)
    labels[:2] = 0, 1
    zeros = np.zeros(10, np.int64)
    line = Calibration(np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32))
    with pytest.raises(CalibrationError, match="strength: got -1"):
        fit_isotonic(labels, logits, zeros, line, strength=-1)
    with pytest.raises(CalibrationError, match="labels: got only 0"):
        fit_isotonic(labels * 0, logits, zeros, line)
    with pytest.raises(CalibrationError, match="categories: got 1 to 1, want 0 to 0"):
        fit_isotonic(labels, logits, zeros + 1, line)
