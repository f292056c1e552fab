"""What the heads serve: probabilities, and amounts in their own unit; the graph's, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit

from trainer.encoding.pageset import Doubles
from trainer.objectives import Head
from trainer.training.losses import LARGEST_LOG

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.01, 100.0
_LARGEST_SHIFT = 100.0


@dataclass(frozen=True, slots=True)
class ServedOutputs:
    """From what the calibration gives and the logits to what is served.

    Attributes:
        heads: By column.
        factors: On each amount, so that its mean is the one seen on validation pages, shape
            (heads,), float32; 1 for what is no amount.
        shifts: On the logit of each grade, to the same end; 0 for what is no grade.
    """

    heads: tuple[Head, ...]
    factors: npt.NDArray[np.float32]
    shifts: npt.NDArray[np.float32]

    @property
    def plain(self) -> bool:
        """Whether the calibrated probabilities are what is served."""
        return all(head.label.type == "binary" and not head.whole for head in self.heads)

    def __call__(self, probabilities: npt.NDArray[np.generic], logits: Doubles) -> Doubles:
        """Return what is served, float64, shape (rows, heads).

        Args:
            probabilities: Calibrated, shape (rows, heads); only columns of binary heads are read.
            logits: The network's, the same shape.
        """
        own = probabilities.astype(np.float64)
        for index, head in enumerate(self.heads):
            if head.amount:
                own[:, index] = self.factors[index] * amounts(head, logits[:, index])
            elif head.label.type == "graded":
                own[:, index] = expit(logits[:, index] + self.shifts[index])
        served = own.copy()
        for index, head in enumerate(self.heads):
            parent = head.parent
            while head.whole and parent >= 0:
                served[:, index] *= own[:, parent]
                parent = self.heads[parent].parent
        return served


def amounts(head: Head, logits: npt.NDArray[np.generic]) -> Doubles:
    """Return the amounts that logits of a head stand for, in its own unit, >= 0."""
    cut = np.minimum(logits.astype(np.float64), LARGEST_LOG)
    if head.link == "expm1":
        above: Doubles = head.scale * np.expm1(np.maximum(cut, 0.0))
        return above
    powers: Doubles = head.scale * np.exp(cut)
    return powers


def plain_outputs(heads: tuple[Head, ...]) -> ServedOutputs:
    """Return the outputs of heads as they are, not corrected."""
    return ServedOutputs(heads, np.ones(len(heads), np.float32), np.zeros(len(heads), np.float32))


def fit_outputs(
    heads: tuple[Head, ...],
    labels: npt.NDArray[np.generic],
    logits: npt.NDArray[np.generic],
    counted: npt.NDArray[np.bool_],
) -> ServedOutputs:
    """Return the outputs, each amount and grade with the mean that validation candidates have.

    An amount is multiplied by the sum of what was seen / the sum of what the head predicts (the
    smearing estimate of Duan 1983, its retransformation bias taken as one factor), at most 100
    and at least 0.01; the logits of grades are shifted. Where nothing is seen, nothing changes.

    Args:
        heads: By column.
        labels: Shape (rows, heads).
        logits: The network's, the same shape.
        counted: Which candidates count, the same shape; see `counted_candidates`.
    """
    outputs = plain_outputs(heads)
    for index, head in enumerate(heads):
        rows = counted[:, index]
        seen = labels[rows, index].astype(np.float64)
        given = logits[rows, index].astype(np.float64)
        if head.amount:
            predicted = float(amounts(head, given).sum())
            if seen.sum() > 0 and predicted > 0:
                factor = float(seen.sum()) / predicted
                outputs.factors[index] = np.clip(factor, _SMALLEST_FACTOR, _LARGEST_FACTOR)
        elif head.label.type == "graded":
            share = (np.exp2(seen) - 1) / head.largest_gain
            if 0 < share.sum() < share.size:
                outputs.shifts[index] = _shift(share.mean(), given)
    return outputs


def _shift(mean: float, logits: Doubles) -> float:
    """Return b such that the mean of sigmoid(logits + b) is `mean`."""

    def excess(shift: float) -> float:
        return float(expit(logits + shift).mean()) - mean

    return float(brentq(excess, -_LARGEST_SHIFT, _LARGEST_SHIFT))
