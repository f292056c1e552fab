"""Calibration in the network: what was fitted, as the graph computes it."""

from __future__ import annotations

import numpy as np
import paddle

from trainer.calibration.calibration import Calibration
from trainer.model.category_calibration import CategoryCalibration


def one(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_calibration_starts_as_the_sigmoid_and_is_no_parameter():
    layer = CategoryCalibration(3, 1)
    logits = paddle.to_tensor([[[0.5], [-2.0]]])
    got = layer(logits, paddle.to_tensor([[0, 2]])).numpy()
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-logits.numpy())), atol=1e-6)
    assert layer.parameters() == []


def test_calibration_takes_slope_and_intercept_of_each_category():
    layer = CategoryCalibration(2, 1)
    layer.set(Calibration(one(1.0, 2.0), one(0.0, -1.0)))
    got = layer(paddle.to_tensor([[[0.5], [0.5]]]), paddle.to_tensor([[0, 1]])).numpy()
    np.testing.assert_allclose(got.ravel(), [1 / (1 + np.exp(-0.5)), 0.5], atol=1e-6)
    assert set(layer.state_dict()) == {"_slope", "_intercept"}


def test_a_curve_turns_at_its_knots_by_category_and_objective():
    layer = CategoryCalibration(2, 2)
    random = np.random.default_rng(1)
    knots = np.sort(random.normal(size=(2, 2, 3)), axis=2).astype(np.float32)
    turns = random.uniform(0, 1, (2, 2, 3)).astype(np.float32)
    scale = random.uniform(0.5, 1.5, (2, 2)).astype(np.float32)
    calibration = Calibration(scale, scale - 1, knots, turns)
    layer.set(calibration)
    logits = random.normal(size=(4, 5, 2)).astype(np.float32)
    categories = random.integers(0, 2, (4, 5))
    got = layer(paddle.to_tensor(logits), paddle.to_tensor(categories)).numpy()
    expected = calibration.probabilities(logits.reshape(-1, 2), categories.ravel())
    np.testing.assert_allclose(got.reshape(-1, 2), expected, atol=1e-6)
    # by hand, of one candidate: a z + b + sum of turn max(z - knot, 0)
    z, row = float(logits[0, 0, 1]), int(categories[0, 0])
    odds = scale[row, 1] * z + scale[row, 1] - 1
    odds += sum(t * max(z - k, 0) for t, k in zip(turns[row, 1], knots[row, 1], strict=True))
    np.testing.assert_allclose(got[0, 0, 1], 1 / (1 + np.exp(-odds)), atol=1e-6)
    # a line again
    layer.set(Calibration(scale, scale))
    plain = layer(paddle.to_tensor(logits), paddle.to_tensor(categories)).numpy()
    np.testing.assert_allclose(
        plain.reshape(-1, 2),
        Calibration(scale, scale).probabilities(logits.reshape(-1, 2), categories.ravel()),
        atol=1e-6,
    )
