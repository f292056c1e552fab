"""What the scorer graph serves where heads predict amounts, or products over the whole space."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from trainer.objectives import Head
from trainer.training.losses import LARGEST_LOG


class OutputLayer(nn.Layer):
    """From calibrated probabilities and logits to what is served; see `ServedOutputs`."""

    def __init__(self, heads: tuple[Head, ...], factors: np.ndarray, shifts: np.ndarray) -> None:
        """Take the heads, the factor on each amount and the shift of each grade, (heads,) each."""
        super().__init__()
        self._heads = heads
        self._factors = [float(factor) for factor in factors]
        self._shifts = [float(shift) for shift in shifts]

    def forward(self, probabilities: Tensor, logits: Tensor) -> Tensor:
        """Return what is served, shape (pages, candidates, objectives), as the inputs have it."""
        own = [
            self._own(index, probabilities[:, :, index], logits[:, :, index])
            for index in range(len(self._heads))
        ]
        served = []
        for index, head in enumerate(self._heads):
            output, parent = own[index], head.parent
            while head.whole and parent >= 0:
                output = output * own[parent]
                parent = self._heads[parent].parent
            served.append(output)
        return paddle.stack(served, axis=-1)

    def _own(self, index: int, probability: Tensor, logits: Tensor) -> Tensor:
        head = self._heads[index]
        if head.label.type == "graded":
            return functional.sigmoid(logits + self._shifts[index])
        if not head.amount:
            return probability
        unit = self._factors[index] * head.scale
        cut = paddle.clip(logits, max=LARGEST_LOG)
        if head.link == "expm1":
            return unit * (paddle.exp(paddle.clip(cut, min=0.0)) - 1.0)
        return unit * paddle.exp(cut)
