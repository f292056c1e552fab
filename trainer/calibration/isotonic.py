"""Isotonic calibration per category, shrunk towards that of all categories, as a curve with knots.

Candidates are binned by their logit, finer where the positives are; a category's share of positives
in a bin is drawn towards the pooled one as if it had `strength` times `_PRIOR_POSITIVES` more
positives there, at the pooled rate (the mean of a beta posterior). Isotonic regression (pool
adjacent violators, Barlow et al. 1972) makes the shares rise, and the log-odds between the middles
of the bins are linear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.special import logit

from trainer.calibration.calibration import Calibration, CalibrationError, check_fit
from trainer.encoding.pageset import Doubles

KNOTS = 16
_PRIOR_POSITIVES = 4.0
_SMALLEST_SLOPE = 0.05  # a flat piece would make ties of different logits
_SMALLEST_SHARE = 1e-6


def fit_isotonic(
    labels: npt.NDArray[Any],
    logits: npt.NDArray[Any],
    categories: npt.NDArray[Any],
    line: Calibration,
    *,
    strength: float = 1.0,
) -> Calibration:
    """Fit the curve of every category for one objective on validation candidates.

    Args:
        labels: 0 or 1, shape (rows,), some of each.
        logits: Raw outputs of the head, the same shape.
        categories: Category row of each candidate, the same shape.
        line: A fit of the same objective by a line, shape (categories, 1): the slope beyond the
            outermost bins.
        strength: 0 fits each category on its own, infinity all alike.

    Raises:
        CalibrationError: As `fit_calibration`.
    """
    count = line.scale.shape[0]
    check_fit(labels[:, None], logits[:, None], categories, count)
    if not strength >= 0:
        raise CalibrationError(f"strength: got {strength}, want at least 0")
    if labels.min() == labels.max():
        raise CalibrationError(f"labels: got only {labels[0]}, want both 0 and 1")
    values = logits.astype(np.float64)
    bins = np.searchsorted(_edges(values, labels), values, side="right")
    _, bins = np.unique(bins, return_inverse=True)  # a bin between equal logits may be empty
    width = int(bins.max()) + 1
    cells = categories.astype(np.int64) * width + bins
    rows = np.bincount(cells, minlength=count * width).reshape(count, width)
    positives = np.bincount(cells, labels.astype(np.float64), count * width).reshape(count, width)
    middles = np.bincount(bins, values, width) / np.maximum(rows.sum(axis=0), 1)
    pooled = _rising(positives.sum(axis=0), rows.sum(axis=0).astype(np.float64))
    scale, bias = np.empty((count, 1), np.float32), np.empty((count, 1), np.float32)
    knots = np.broadcast_to(middles, (count, 1, width)).astype(np.float32)
    turns = np.empty((count, 1, width), np.float32)
    for category in range(count):
        share = _shrunk(positives[category], rows[category], pooled, strength)
        slope = float(line.scale[category, 0])
        scale[category, 0], bias[category, 0], turns[category, 0] = _curve(middles, share, slope)
    return Calibration(scale, bias, knots, turns)


def _edges(values: Doubles, labels: npt.NDArray[Any]) -> Doubles:
    """Return the inner edges of the bins: quantiles of all candidates and of the positives."""
    inner = np.linspace(0, 1, KNOTS // 2 + 1)[1:-1]
    edges: Doubles = np.unique(
        np.concatenate([np.quantile(values, inner), np.quantile(values[labels > 0], inner)])
    )
    kept = np.concatenate([[True], np.diff(edges) > 1e-3 * max(float(np.ptp(values)), 1e-9)])
    distinct: Doubles = edges[kept]
    return distinct


def _rising(positives: Doubles, rows: Doubles) -> Doubles:
    """Return shares of positives that never fall from bin to bin."""
    shares = positives / np.maximum(rows, 1e-9)
    rising: Doubles = isotonic_regression(shares, weights=np.maximum(rows, 1e-9)).x
    return np.clip(rising, _SMALLEST_SHARE, 1 - _SMALLEST_SHARE)


def _shrunk(
    positives: Doubles, rows: npt.NDArray[Any], pooled: Doubles, strength: float
) -> Doubles:
    """Return a category's shares, drawn towards the pooled ones; those where it has nothing."""
    if np.isinf(strength) or not rows.any():
        return pooled
    extra = strength * _PRIOR_POSITIVES
    weight = rows + extra / pooled
    empty = weight == 0
    total = np.where(empty, 1e-9, weight)
    return _rising(np.where(empty, 1e-9 * pooled, positives + extra), total)


def _curve(middles: Doubles, share: Doubles, slope: float) -> tuple[float, float, Doubles]:
    """Return scale, bias and turns of the curve through the log-odds at `middles`."""
    odds = logit(share)
    steps = np.diff(middles)
    slopes = np.maximum(np.diff(odds) / np.maximum(steps, 1e-9), _SMALLEST_SLOPE)
    # through the middle of the curve, so that what a smallest slope adds is shared by both ends
    heights = np.concatenate([[0.0], np.cumsum(slopes * steps)])
    heights += np.average(odds - heights)
    pieces = np.concatenate([[slope], slopes, [slope]])
    bias = float(heights[0] - slope * middles[0])
    return slope, bias, np.diff(pieces)
