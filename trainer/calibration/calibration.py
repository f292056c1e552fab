"""Probabilities that mean the same in every category, so that one page can mix categories.

Each head is calibrated per category with p = sigmoid(a * logit + b) (Platt 1999), or with a
monotone piecewise linear curve in place of the line, fitted on validation pages. A category is
drawn towards the fit of all categories together, the more the less is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

from rerank_server.contract.errors import RerankError
from trainer.encoding.pageset import Doubles

BINS = 15
# Standard deviations of a category's scale and bias around the pooled ones. A handful of
# positives outweighs the second; the first takes some dozens.
_PRIOR_DEVIATION = np.array([0.25, 0.75])
_SMALLEST_SCALE = 0.05  # a scale of 0 or less would turn the order of a category around
_STEPS = 60
_HALVINGS = 30
_TOLERANCE = 1e-9


class CalibrationError(RerankError):
    """Logits and labels that no calibration can be fitted on."""


@dataclass(frozen=True, slots=True)
class CalibrationTrial:
    """One way to calibrate, cross-fitted on validation pages, for the first objective.

    Attributes:
        kind: `line` or `curve`.
        strength: Of the pull towards the pooled fit.
        ndcg_at_10: Of the calibrated probabilities on the pages.
        error: Expected calibration error of all candidates.
        category_error: The mean of the categories' errors, by candidates.
        chosen: Whether calibration is fitted so.
    """

    kind: str
    strength: float
    ndcg_at_10: float
    error: float
    category_error: float
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes log-odds of logits, per category and objective.

    log-odds = scale * z + bias + sum over k of turns[k] * max(z - knots[k], 0), which is a line
    without knots. It rises everywhere, so the order within a category never changes. A category
    without validation candidates, row 0 among them, has what fits all categories together.

    Attributes:
        scale: Shape (categories, objectives), float32.
        bias: The same shape.
        knots: Where a curve turns, shape (categories, objectives, knots); None is a line.
        turns: What each knot adds to the slope, the same shape.
        trials: The ways to fit that were tried.
    """

    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    knots: npt.NDArray[np.float32] | None = None
    turns: npt.NDArray[np.float32] | None = None
    trials: tuple[CalibrationTrial, ...] = ()

    def logits(self, logits: npt.NDArray[Any], categories: npt.NDArray[Any]) -> Doubles:
        """Return calibrated logits of the same shape (rows, objectives)."""
        values = logits.astype(np.float64)
        calibrated: Doubles = self.scale[categories] * values + self.bias[categories]
        if self.knots is not None and self.turns is not None:
            for k in range(self.knots.shape[2]):  # one at a time, to need no memory for all
                knot, turn = self.knots[:, :, k][categories], self.turns[:, :, k][categories]
                calibrated += turn * np.maximum(values - knot, 0)
        return calibrated

    def probabilities(self, logits: npt.NDArray[Any], categories: npt.NDArray[Any]) -> Doubles:
        """Return calibrated probabilities of the same shape (rows, objectives)."""
        probabilities: Doubles = expit(self.logits(logits, categories))
        return probabilities


@dataclass(frozen=True, slots=True)
class Reliability:
    """Probabilities of one group of candidates against what happened.

    Attributes:
        rows: Candidates.
        positives: Those where the objective happened.
        error: Expected calibration error.
        ratio: Observed over expected positives; 1 is calibrated, NaN with none expected.
        log_loss: Mean of -log p(what happened), natural logarithm.
        predicted: Mean probability of each bin.
        observed: Share of positives of each bin.
    """

    rows: int
    positives: int
    error: float
    ratio: float
    log_loss: float
    predicted: tuple[float, ...]
    observed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """How well one category and objective is calibrated, before and after."""

    category: str
    objective: str
    before: Reliability
    after: Reliability


def before_after_from_json(value: Mapping[str, Any]) -> BeforeAfter:
    """Read what `dataclasses.asdict` and JSON made of a row."""

    def part(value: Mapping[str, Any]) -> Reliability:
        curves = {name: tuple(value[name]) for name in ("predicted", "observed")}
        return Reliability(**{**value, **curves})

    return BeforeAfter(
        value["category"], value["objective"], part(value["before"]), part(value["after"])
    )


def fit_calibration(
    labels: npt.NDArray[Any],
    logits: npt.NDArray[Any],
    categories: npt.NDArray[Any],
    category_count: int,
    *,
    strength: float = 1.0,
) -> Calibration:
    """Fit scale and bias of every category and objective on validation candidates.

    The pooled (a, b) minimise the log loss of all categories; a category's minimise its log
    loss plus strength * (((a - a_pooled) / s_a)^2 + ((b - b_pooled) / s_b)^2) / 2, by Newton's
    method.

    Args:
        labels: 0 or 1, shape (rows, objectives).
        logits: Raw outputs of the heads, the same shape.
        categories: Category row of each candidate, shape (rows,), 0 to `category_count` - 1.
        category_count: Categories of the schema, row 0 included.
        strength: 0 fits each category on its own, infinity all alike.

    Raises:
        CalibrationError: On shapes that do not fit, numbers that are not finite, a negative
            strength, or an objective that never or always happens.
    """
    if not strength >= 0:
        raise CalibrationError(f"strength: got {strength}, want at least 0")
    check_fit(labels, logits, categories, category_count)
    objectives = logits.shape[1]
    scale = np.empty((category_count, objectives), np.float32)
    bias = np.empty((category_count, objectives), np.float32)
    order = np.argsort(categories, kind="stable")
    bounds = np.searchsorted(categories[order], np.arange(category_count + 1))
    for objective in range(objectives):
        inputs = logits[order, objective].astype(np.float64)
        targets = labels[order, objective].astype(np.float64)
        if targets.min() == targets.max():
            raise CalibrationError(
                f"labels: got only {targets[0]:.0f} for objective {objective}, want both 0 and 1"
            )
        pooled = _fit(targets, inputs, np.array([1.0, 0.0]), np.zeros(2))
        for category in range(category_count):
            rows = slice(bounds[category], bounds[category + 1])
            fitted = (
                pooled
                if np.isinf(strength)
                else _fit(targets[rows], inputs[rows], pooled, strength / _PRIOR_DEVIATION**2)
            )
            scale[category, objective], bias[category, objective] = fitted
    return Calibration(scale, bias)


def fit_objectives(
    labels: npt.NDArray[Any],
    logits: npt.NDArray[Any],
    categories: npt.NDArray[Any],
    counted: npt.NDArray[np.bool_],
    category_count: int,
    *,
    strength: float = 1.0,
) -> Calibration:
    """Fit each objective on its own candidates, as `fit_calibration` does.

    One that never, or always, happened on them keeps its logits as they are.

    Args:
        labels: 0 or 1, shape (rows, objectives).
        logits: Raw outputs of the heads, the same shape.
        categories: Category row of each candidate, shape (rows,).
        counted: Which candidates count for which objective, shape (rows, objectives).
        category_count: Categories of the schema, row 0 included.
        strength: As in `fit_calibration`.
    """
    shape = (category_count, labels.shape[1])
    whole = Calibration(np.ones(shape, np.float32), np.zeros(shape, np.float32))
    for index in range(labels.shape[1]):
        kept, column = counted[:, index], slice(index, index + 1)
        if np.unique(labels[kept, index]).size < 2:  # noqa: PLR2004  0 and 1
            continue
        fit = fit_calibration(
            labels[kept, column],
            logits[kept, column],
            categories[kept],
            category_count,
            strength=strength,
        )
        whole.scale[:, column], whole.bias[:, column] = fit.scale, fit.bias
    return whole


def check_fit(
    labels: npt.NDArray[Any],
    logits: npt.NDArray[Any],
    categories: npt.NDArray[Any],
    category_count: int,
) -> None:
    """Check what a calibration is fitted on.

    Raises:
        CalibrationError: As `fit_calibration`.
    """
    if logits.ndim != 2 or logits.shape != labels.shape:  # noqa: PLR2004  two axes
        raise CalibrationError(
            f"labels: got shape {labels.shape}, want that of the logits, "
            f"(rows, objectives), got {logits.shape}"
        )
    if categories.shape != logits.shape[:1] or logits.shape[0] == 0:
        raise CalibrationError(
            f"categories: got shape {categories.shape}, want ({logits.shape[0]},) and at least one"
        )
    if categories.min() < 0 or categories.max() >= category_count:
        raise CalibrationError(
            f"categories: got {categories.min()} to {categories.max()}, "
            f"want 0 to {category_count - 1}"
        )
    if not np.isfinite(logits).all():
        raise CalibrationError(
            f"logits: got {int((~np.isfinite(logits)).sum())} that are not finite, want none"
        )


def reliability(
    labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], bins: int = BINS
) -> Reliability:
    """Compare probabilities with what happened, in bins of equal numbers of candidates.

    ECE = sum over bins of |bin| / n * |mean probability - share of positives| (Naeini et al.
    2015, with the equal-mass bins of Nguyen and O'Connor 2015).

    Args:
        labels: 0 or 1, shape (rows,).
        probabilities: In [0, 1], shape (rows,).
        bins: Most bins; fewer when there are fewer rows.
    """
    rows = labels.shape[0]
    order = np.argsort(probabilities, kind="stable")
    targets = labels[order].astype(np.float64)
    sorted_probabilities = probabilities[order].astype(np.float64)
    bounds = np.linspace(0, rows, min(bins, rows) + 1).astype(np.int64)
    sizes = np.diff(bounds)
    predicted = np.diff(np.concatenate([[0.0], np.cumsum(sorted_probabilities)])[bounds]) / sizes
    observed = np.diff(np.concatenate([[0.0], np.cumsum(targets)])[bounds]) / sizes
    expected = float(sorted_probabilities.sum())
    clipped = np.clip(sorted_probabilities, 1e-12, 1 - 1e-12)
    loss = -(targets * np.log(clipped) + (1 - targets) * np.log1p(-clipped))
    return Reliability(
        rows=rows,
        positives=int(targets.sum()),
        error=float((sizes * np.abs(predicted - observed)).sum() / max(rows, 1)),
        ratio=float(targets.sum()) / expected if expected > 0 else float("nan"),
        log_loss=float(loss.mean()) if rows else float("nan"),
        predicted=tuple(predicted.tolist()),
        observed=tuple(observed.tolist()),
    )


def compare_calibration(
    labels: npt.NDArray[Any],
    logits: npt.NDArray[Any],
    categories: npt.NDArray[Any],
    calibration: Calibration,
    counted: npt.NDArray[np.bool_],
    *,
    category_names: tuple[str, ...],
    objectives: tuple[str, ...],
) -> list[BeforeAfter]:
    """Return the reliability of every objective over all candidates, then per category.

    To be fair it is given other pages than `fit_calibration`. Categories without a candidate
    are left out; the row over all is named `all`.

    Args:
        labels: 0 or 1, shape (rows, objectives).
        logits: Raw outputs of the heads, the same shape.
        categories: Category row of each candidate, shape (rows,).
        calibration: What was fitted.
        counted: Which candidates count for which objective, shape (rows, objectives).
        category_names: Names by category row.
        objectives: Names of the columns.
    """
    before = expit(logits.astype(np.float64))
    after = calibration.probabilities(logits, categories)
    result = []
    for index, objective in enumerate(objectives):
        inside = counted[:, index]
        groups = [("all", np.flatnonzero(inside))]
        groups += [
            (name, np.flatnonzero(inside & (categories == category)))
            for category, name in enumerate(category_names)
        ]
        result += [
            BeforeAfter(
                category=name,
                objective=objective,
                before=reliability(labels[rows, index], before[rows, index]),
                after=reliability(labels[rows, index], after[rows, index]),
            )
            for name, rows in groups
            if rows.size
        ]
    return result


def format_calibration(by_task: Mapping[str, Sequence[BeforeAfter]]) -> str:
    """Return a table per task: expected calibration error and observed over expected."""
    parts = []
    for task, rows in by_task.items():
        head = f"{'objective':<10} {'category':<20} {'candidates':>10} {'positives':>9}"
        lines = [f"Calibration on {task}", f"{head} {'ECE before':>10} {'after':>7}"]
        lines[1] += f" {'O/E before':>10} {'after':>6}"
        lines.append("-" * len(lines[1]))
        lines += [
            f"{row.objective:<10} {row.category:<20} {row.before.rows:>10,} "
            f"{row.before.positives:>9,} {row.before.error:>10.4f} {row.after.error:>7.4f}"
            f" {row.before.ratio:>10.3f} {row.after.ratio:>6.3f}"
            for row in rows
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _fit(targets: Doubles, inputs: Doubles, centre: Doubles, precision: Doubles) -> Doubles:
    """Return (a, b) by Newton steps from `centre`, a held at its smallest once it gets there."""
    current = centre.copy()
    if inputs.size == 0:
        return current
    loss = _loss(targets, inputs, current, centre, precision)
    for _ in range(_STEPS):
        probability = expit(current[0] * inputs + current[1])
        slope = probability - targets
        weight = probability * (1 - probability)
        gradient = np.array([slope @ inputs, slope.sum()]) + precision * (current - centre)
        mixed = weight @ inputs
        curvature = np.array([[weight @ inputs**2, mixed], [mixed, weight.sum()]])
        curvature += np.diag(precision + 1e-9)
        if current[0] <= _SMALLEST_SCALE and gradient[0] > 0:
            step = np.array([0.0, gradient[1] / curvature[1, 1]])
        else:
            step = np.linalg.solve(curvature, gradient)
        for halvings in range(_HALVINGS):
            moved = current - step * 0.5**halvings
            moved[0] = max(moved[0], _SMALLEST_SCALE)
            reached = _loss(targets, inputs, moved, centre, precision)
            if reached < loss:
                break
        else:
            return current
        gained, current, loss = loss - reached, moved, reached
        if gained < _TOLERANCE * max(abs(loss), 1.0):
            break
    return current


def _loss(
    targets: Doubles, inputs: Doubles, point: Doubles, centre: Doubles, precision: Doubles
) -> float:
    logit = point[0] * inputs + point[1]
    likelihood = targets @ log_expit(logit) + (1 - targets) @ log_expit(-logit)
    return float(-likelihood + 0.5 * (precision @ (point - centre) ** 2))
