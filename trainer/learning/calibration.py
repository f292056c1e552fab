"""How well the shared network's probabilities are calibrated on test pages, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.special import expit

from trainer.benchmark.kept_parts import FinishedPart
from trainer.calibration.calibration import (
    CalibrationError,
    Reliability,
    fit_calibration,
    reliability,
)
from trainer.encoding.pageset import Doubles
from trainer.formats.labelled_pages import TEST, VALIDATION
from trainer.learning.parts import LearningParts, network_part

_MOST_SHOWN = 24
ALL = "all"


def calibration_of(
    parts: LearningParts, finished: Mapping[str, FinishedPart]
) -> dict[str, dict[str, Any]]:
    """Return the reliability of `p(grade > 0)` over all test candidates and in each category.

    Scale and bias per category are fitted on a fold's validation candidates. Empty where a fold
    has no positive and negative there.
    """
    everything = parts.pages.page_set()
    names = parts.pages.category_names
    positive = (parts.pages.grades > 0).astype(np.float64)[:, None]
    raw, fitted, labels, codes = [], [], [], []
    for fold, splits in enumerate(parts.pages.folds):
        arrays = finished[network_part(fold, parts.seeds[0])].arrays
        held, tested = ((splits == split)[everything.page_of_row] for split in (VALIDATION, TEST))
        categories = everything.categories
        try:
            calibration = fit_calibration(
                positive[held], arrays["validation"][:, None], categories[held], len(names)
            )
        except CalibrationError:
            return {}
        logits = arrays["test"][:, None]
        raw.append(expit(logits[:, 0]))
        fitted.append(calibration.probabilities(logits, categories[tested])[:, 0])
        labels.append(positive[tested, 0])
        codes.append(categories[tested])
    before, after, truth, code = (np.concatenate(part) for part in (raw, fitted, labels, codes))
    largest = np.argsort(-np.bincount(code, minlength=len(names)), kind="stable")[:_MOST_SHOWN]
    groups = {ALL: np.ones(code.size, np.bool_)}
    groups |= {names[row]: code == row for row in largest.tolist() if (code == row).any()}
    return {
        name: {
            "before": _plain(truth[inside], before[inside]),
            "after": _plain(truth[inside], after[inside]),
        }
        for name, inside in groups.items()
    }


def _plain(labels: Doubles, probabilities: Doubles) -> dict[str, Any]:
    found: Reliability = reliability(labels, probabilities)
    return {
        name: [round(part, 5) for part in value] if isinstance(value, tuple) else value
        for name, value in asdict(found).items()
    }
