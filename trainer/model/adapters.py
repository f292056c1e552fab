"""The few parameters of each category: low-rank adapters, bias and scale; slot 0 is neutral."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional


class LowRankAdapter(nn.Layer):
    """A linear layer with a low-rank change per category (MLoRA, Yang et al. 2024, eq. 3).

    y = W x + b + B_c A_c x. All A_c are one matrix of categories * rank rows, and a mask keeps
    the rows of the candidate's own category, so a page of mixed categories costs two products.
    """

    def __init__(self, width_in: int, width_out: int, categories: int, rank: int) -> None:
        """Start as the plain layer: every B_c is zero."""
        super().__init__()
        self.shared = nn.Linear(width_in, width_out)
        self._down = nn.Linear(width_in, categories * rank, bias_attr=False)
        self._up = nn.Linear(
            categories * rank,
            width_out,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)),
            bias_attr=False,
        )
        own = np.kron(np.eye(categories), np.ones((1, rank)))
        own[0] = 0.0  # slot 0: categories never seen fall back to the shared layer
        self.register_buffer("_own", paddle.to_tensor(own.astype(np.float32)))

    def forward(self, values: Tensor, categories: Tensor) -> Tensor:
        """Return shape (pages, candidates, width_out) for categories (pages, candidates)."""
        own = functional.embedding(categories, self._own)
        return self.shared(values) + self._up(self._down(values) * own)


class CategoryAffine(nn.Layer):
    """One bias and one scale per category and objective; slot 0 changes nothing."""

    def __init__(self, categories: int, objectives: int) -> None:
        """Start as the identity."""
        super().__init__()
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self._scale = nn.Embedding(categories, objectives, weight_attr=zero)
        self._bias = nn.Embedding(categories, objectives, weight_attr=zero)
        seen = np.ones((categories, 1), np.float32)
        seen[0] = 0.0
        self.register_buffer("_seen", paddle.to_tensor(seen))

    def forward(self, logits: Tensor, categories: Tensor) -> Tensor:
        """Return logits, shape (pages, candidates, objectives), on the category's own scale."""
        seen = functional.embedding(categories, self._seen)
        return logits * (1.0 + seen * self._scale(categories)) + seen * self._bias(categories)


class PlattCalibration(nn.Layer):
    """Probabilities from logits: sigmoid(a_c z + b_c) (Platt 1999), fitted after training."""

    def __init__(self, categories: int, objectives: int) -> None:
        """Start as the plain sigmoid."""
        super().__init__()
        shape = [categories, objectives]
        self.register_buffer("_slope", paddle.ones(shape))
        self.register_buffer("_intercept", paddle.zeros(shape))

    def set(self, slopes: np.ndarray, intercepts: np.ndarray) -> None:
        """Take fitted values, each of shape (categories, objectives)."""
        self._slope.set_value(slopes.astype(np.float32))
        self._intercept.set_value(intercepts.astype(np.float32))

    def forward(self, logits: Tensor, categories: Tensor) -> Tensor:
        """Return probabilities, shape (pages, candidates, objectives)."""
        slope = functional.embedding(categories, self._slope)
        return functional.sigmoid(
            slope * logits + functional.embedding(categories, self._intercept)
        )
