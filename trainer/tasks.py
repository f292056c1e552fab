"""The tasks a run is judged on: pages of one surface, and the score that would be served."""

from __future__ import annotations

import numpy as np

from trainer.batches import rows_of
from trainer.calibration import Calibration, fit_calibration
from trainer.catalogue import Catalogue
from trainer.encoded import EncodedLog
from trainer.metrics import ndcg_at_k
from trainer.model.ranker import Ranker
from trainer.network import score_pages
from trainer.pageset import PageSet, encoded_pages

TASKS = {"Search": "search", "Discovery": "discovery", "Promotion": "promotion"}
MIXED = ("promotion", "home")  # surfaces whose pages hold several categories
_TRIAL_SHARES = (0.0, 0.5, 1.0)


def calibrate(
    ranker: Ranker, catalogue: Catalogue, log: EncodedLog, surfaces: tuple[str, ...]
) -> Calibration:
    """Fit the network's calibration on the validation pages that mix categories, and set it.

    There it decides which category comes first; on pages of one category it moves nothing,
    since it keeps the order within a category. Where mixed pages are too few to show every
    objective, all surfaces are taken.
    `trial` is fitted on candidates never bought before, as it was trained.
    """
    by_surface = {surface: log.pages_of("validation", surface) for surface in surfaces}
    mixed = [pages for surface, pages in by_surface.items() if surface in MIXED]
    pages = np.concatenate([np.empty(0, np.int64), *mixed])
    if not log.labels[rows_of(log, pages)].any(axis=0).all():  # no pages, or an empty objective
        pages = np.concatenate(list(by_surface.values()))
    logits = score_pages(ranker, catalogue, log, pages)
    rows = rows_of(log, pages)
    labels, categories = log.labels[rows], log.categories[rows]
    fresh = log.dense[rows, log.schema.feature_names.index("own_count")] == 0
    fits = []
    for index, name in enumerate(log.schema.objectives):
        kept = fresh if name == "trial" else np.ones(rows.size, np.bool_)
        column = slice(index, index + 1)
        fits.append(
            fit_calibration(
                logits[kept, column],
                labels[kept, column],
                categories[kept],
                len(log.schema.categories),
            )
        )
    calibration = Calibration(
        np.concatenate([fit.scale for fit in fits], axis=1),
        np.concatenate([fit.bias for fit in fits], axis=1),
    )
    ranker.calibration.set(calibration.scale, calibration.bias)
    return calibration


def served_scores(
    logits: np.ndarray, categories: np.ndarray, calibration: Calibration, weights: dict[str, float]
) -> np.ndarray:
    """Return the score the server gives: weighted probabilities, float64, shape (rows,)."""
    probabilities = calibration.probabilities(logits, categories)
    scores: np.ndarray = probabilities @ np.array(list(weights.values()))
    return scores


def choose_weights(
    ranker: Ranker,
    catalogue: Catalogue,
    log: EncodedLog,
    calibration: Calibration,
    surfaces: tuple[str, ...],
) -> dict[str, dict[str, float]]:
    """Return the objective weights of every surface of the schema, chosen on validation pages.

    Purchase, trial or both: whichever ranks purchases best (NDCG@10); a surface without
    pages takes purchase alone.
    """
    names = log.schema.objectives
    alone = {name: float(name == names[0]) for name in names}
    chosen = dict.fromkeys(log.schema.surfaces, alone)
    for surface in surfaces:
        pages = log.pages_of("validation", surface)
        if pages.size == 0 or "trial" not in names:
            continue
        held = encoded_pages(log, "validation", surface)
        logits = score_pages(ranker, catalogue, log, pages)
        chosen[surface] = best_weights(logits, held, calibration)
    return chosen


def best_weights(logits: np.ndarray, held: PageSet, calibration: Calibration) -> dict[str, float]:
    """Return the weights of purchase and trial that rank the purchases of `held` best."""
    names = held.objectives
    alone = {name: float(name == names[0]) for name in names}
    gains = held.objective(names[0])
    figures = {}
    for share in _TRIAL_SHARES:
        weights = alone | {names[0]: 1.0 - share, "trial": share}
        scores = served_scores(logits, held.categories, calibration, weights)
        figures[share] = float(np.nanmean(ndcg_at_k(gains, scores, held.offsets, 10)))
    best = max(figures, key=lambda share: figures[share])
    return alone | {names[0]: 1.0 - best, "trial": best}
