"""How calibration is fitted: a line or a curve, and how strongly categories are drawn together.

Both are chosen on validation pages by cross-fitting: shoppers are dealt into folds, and each fold
is calibrated by a fit of the others. On pages that mix categories calibration decides the order
between them, so the order counts there beside the error of the probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from trainer.calibration.calibration import (
    Calibration,
    CalibrationTrial,
    fit_objectives,
    reliability,
)
from trainer.calibration.isotonic import fit_isotonic
from trainer.encoding.pageset import Doubles, Integers, Mask
from trainer.evaluation.metrics import ndcg_at_k

LINE, CURVE = "line", "curve"
STRENGTHS = (1.0, 4.0, 16.0, 64.0, math.inf)
FOLDS = 3
FEWEST_SHOPPERS = 20  # with fewer the choice is noise
_CUTOFF = 10
_SLACK = 1.5


def cross_fit(
    labels: Doubles,
    logits: Doubles,
    categories: Integers,
    offsets: Integers,
    shoppers: Integers,
    category_count: int,
) -> list[CalibrationTrial]:
    """Try every kind and strength on validation pages; none where shoppers are too few.

    Args:
        labels: Of the first objective, shape (rows,).
        logits: The same shape.
        categories: Category row of each candidate, the same shape.
        offsets: Page bounds, shape (pages + 1,).
        shoppers: Shopper of each page, shape (pages,).
        category_count: Categories of the schema, row 0 included.
    """
    people, number = np.unique(shoppers, return_inverse=True)
    if people.size < FEWEST_SHOPPERS:
        return []
    fold_of_row = np.repeat(number % FOLDS, np.diff(offsets))
    if any(np.unique(labels[fold_of_row != fold]).size < 2 for fold in range(FOLDS)):  # noqa: PLR2004
        return []
    settings = [(kind, strength) for kind in (LINE, CURVE) for strength in STRENGTHS]
    probabilities = {setting: np.empty(labels.size) for setting in settings}
    for fold in range(FOLDS):
        out, kept = fold_of_row == fold, fold_of_row != fold
        for kind, strength, fit in _fits(
            labels[kept], logits[kept], categories[kept], category_count
        ):
            got = fit.probabilities(logits[out, None], categories[out])[:, 0]
            probabilities[kind, strength][out] = got
    return [
        _trial(kind, strength, labels, probabilities[kind, strength], categories, offsets)
        for kind, strength in settings
    ]


def choose_trial(trials: Sequence[CalibrationTrial]) -> CalibrationTrial | None:
    """Return the trial that ranks best of those whose errors are near the least; None of none.

    Near is within `_SLACK` of the least error of the categories. Of equals, the first.
    """
    if not trials:
        return None
    least = min(trial.category_error for trial in trials)
    near = [trial for trial in trials if trial.category_error <= least * _SLACK]
    return max(near, key=lambda trial: trial.ndcg_at_10)


def fit_chosen(
    labels: np.ndarray,
    logits: np.ndarray,
    categories: np.ndarray,
    counted: Mask,
    category_count: int,
    *,
    trials: Sequence[CalibrationTrial] = (),
) -> Calibration:
    """Fit every objective as the chosen trial says, without one a line of strength 1.

    The other arguments are as in `fit_objectives`.
    """
    chosen = choose_trial(trials)
    kind, strength = (LINE, 1.0) if chosen is None else (chosen.kind, chosen.strength)
    told = tuple(replace(trial, chosen=trial is chosen) for trial in trials)
    line = fit_objectives(labels, logits, categories, counted, category_count, strength=strength)
    if kind == LINE:
        return replace(line, trials=told)
    shape = (*line.scale.shape, 0)
    knots, turns = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for index in range(labels.shape[1]):
        kept = counted[:, index]
        if np.unique(labels[kept, index]).size < 2:  # noqa: PLR2004  0 and 1
            continue
        column = slice(index, index + 1)
        curve = fit_isotonic(
            labels[kept, index],
            logits[kept, index],
            categories[kept],
            Calibration(line.scale[:, column], line.bias[:, column]),
            strength=strength,
        )
        line.scale[:, column], line.bias[:, column] = curve.scale, curve.bias
        knots, turns = _with_knots(knots, turns, curve, index)
    return Calibration(line.scale, line.bias, knots, turns, told)


def _with_knots(
    knots: np.ndarray, turns: np.ndarray, curve: Calibration, objective: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return knots and turns with those of one objective; knots that turn nothing fill the rest."""
    assert curve.knots is not None
    assert curve.turns is not None
    categories, objectives, width = knots.shape
    more = max(curve.knots.shape[2], width)
    grown = [np.zeros((categories, objectives, more), np.float32) for _ in range(2)]
    for new, old, own in zip(grown, (knots, turns), (curve.knots, curve.turns), strict=True):
        new[:, :, :width] = old
        new[:, objective, : own.shape[2]] = own[:, 0]
    return grown[0], grown[1]


def _fits(
    labels: np.ndarray, logits: np.ndarray, categories: np.ndarray, category_count: int
) -> Iterator[tuple[str, float, Calibration]]:
    """Yield every kind and strength, fitted on one objective."""
    counted = np.ones((labels.size, 1), np.bool_)
    for strength in STRENGTHS:
        line = fit_objectives(
            labels[:, None], logits[:, None], categories, counted, category_count, strength=strength
        )
        yield LINE, strength, line
        yield CURVE, strength, fit_isotonic(labels, logits, categories, line, strength=strength)


def _trial(
    kind: str,
    strength: float,
    labels: np.ndarray,
    probabilities: np.ndarray,
    categories: np.ndarray,
    offsets: np.ndarray,
) -> CalibrationTrial:
    parts = [np.flatnonzero(categories == row) for row in np.unique(categories)]
    errors = [reliability(labels[rows], probabilities[rows]).error * rows.size for rows in parts]
    return CalibrationTrial(
        kind=kind,
        strength=strength,
        ndcg_at_10=float(
            np.nanmean(ndcg_at_k(labels.astype(np.float64), probabilities, offsets, _CUTOFF))
        ),
        error=reliability(labels, probabilities).error,
        category_error=float(sum(errors) / labels.size),
    )


def trials_to_json(trials: Sequence[CalibrationTrial]) -> list[dict[str, Any]]:
    """Return plain JSON values; an infinite strength is null, as JSON has none."""
    return [
        {**asdict(trial), "strength": None if math.isinf(trial.strength) else trial.strength}
        for trial in trials
    ]


def trials_from_json(values: Sequence[Mapping[str, Any]]) -> list[CalibrationTrial]:
    """Read what `trials_to_json` wrote."""
    return [
        CalibrationTrial(**{**value, "strength": _strength(value["strength"])}) for value in values
    ]


def _strength(value: float | None) -> float:
    return math.inf if value is None else value
