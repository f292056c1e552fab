"""The last step of the scorer: from logits to probabilities that mean the same everywhere."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from trainer.calibration.calibration import Calibration


class CategoryCalibration(nn.Layer):
    """Probabilities from logits, fitted after training, per category and objective.

    sigmoid(a z + b) (Platt 1999), or with a rising piecewise linear curve in place of the line:
    sum over k of turn_k max(z - knot_k, 0) is added inside.
    """

    def __init__(self, categories: int, objectives: int) -> None:
        """Start as the plain sigmoid."""
        super().__init__()
        shape = [categories, objectives]
        self.register_buffer("_slope", paddle.ones(shape))
        self.register_buffer("_intercept", paddle.zeros(shape))
        self._knots = 0

    def set(self, calibration: Calibration) -> None:
        """Take what was fitted, its arrays of shape (categories, objectives[, knots])."""
        self._slope.set_value(calibration.scale.astype(np.float32))
        self._intercept.set_value(calibration.bias.astype(np.float32))
        self._knots = 0
        if calibration.knots is not None and calibration.turns is not None:
            self._knots = calibration.knots.shape[2]
            rows = calibration.knots.shape[0]
            for name, value in (("_knot", calibration.knots), ("_turn", calibration.turns)):
                flat = value.reshape(rows, -1).astype(np.float32)
                self.register_buffer(name, paddle.to_tensor(flat))

    def forward(self, logits: Tensor, categories: Tensor) -> Tensor:
        """Return probabilities, shape (pages, candidates, objectives)."""
        slope = functional.embedding(categories, self._slope)
        odds = slope * logits + functional.embedding(categories, self._intercept)
        if self._knots:
            shape = [*logits.shape[:2], -1, self._knots]
            knots = functional.embedding(categories, self._knot).reshape(shape)
            turns = functional.embedding(categories, self._turn).reshape(shape)
            odds = odds + (functional.relu(logits.unsqueeze(-1) - knots) * turns).sum(axis=-1)
        return functional.sigmoid(odds)
