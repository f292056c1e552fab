"""Dense numbers as inputs of a network."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor, nn


class NumberEncoder(nn.Layer):
    """Piecewise linear encoding of each number, then one linear layer.

    A number becomes one value per quantile bin: 0 before the bin, 1 after it, its share of
    the bin inside it (Gorishniy, Rubachev and Babenko 2022, eq. 1), which gives a network
    the steps that trees take.
    """

    def __init__(self, bin_edges: np.ndarray, width: int) -> None:
        """Take the edges of each feature, shape (features, bins + 1), increasing."""
        super().__init__()
        features, edges = bin_edges.shape
        self._inputs = features * (edges - 1)
        low = bin_edges[:, :-1].astype(np.float32)
        step = (bin_edges[:, 1:] - bin_edges[:, :-1]).astype(np.float32)
        # edges that coincide (many equal values) make a step: 0 below, 1 at or above
        self.register_buffer("_low", paddle.to_tensor(low))
        self.register_buffer("_slope", paddle.to_tensor(1.0 / np.maximum(step, 1e-3)))
        self._linear = nn.Linear(self._inputs, width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return shape (pages, candidates, width) for (pages, candidates, features)."""
        share = (numbers.unsqueeze(-1) - self._low) * self._slope
        share = paddle.clip(share, 0.0, 1.0)
        return self._linear(share.reshape([0, 0, self._inputs]))
