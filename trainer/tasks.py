"""The tasks a run is judged on: pages of one surface, and the score that would be served."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainer.batches import rows_of
from trainer.calibration import Calibration, fit_calibration
from trainer.catalogue import Catalogue
from trainer.encoded import EncodedLog
from trainer.evaluation import EvaluationError
from trainer.metrics import ndcg_at_k
from trainer.model.ranker import Ranker
from trainer.network import score_pages
from trainer.pageset import NEVER_BOUGHT_FEATURE, PageSet, encoded_pages

_PARTS = 2  # weights are chosen among multiples of 1 / _PARTS that sum to 1


def log_tasks(log: EncodedLog, surfaces: tuple[str, ...]) -> dict[str, str]:
    """Return the surface of each task, by the task's name: those with test pages in the log.

    Raises:
        EvaluationError: When none of `surfaces` has a test page.
    """
    tasks = {
        surface.capitalize(): surface for surface in surfaces if log.pages_of("test", surface).size
    }
    if not tasks:
        raise EvaluationError(
            f"test pages: got none of {', '.join(surfaces)}, want at least one to evaluate on"
        )
    return tasks


def mixed_surfaces(log: EncodedLog, split: str, surfaces: tuple[str, ...]) -> tuple[str, ...]:
    """Return the surfaces of whose pages in `split` at least half hold several categories."""
    return tuple(
        surface
        for surface in surfaces
        if (pages := log.pages_of(split, surface)).size and _mixed_share(log, pages) >= 1 / 2
    )


def _mixed_share(log: EncodedLog, pages: np.ndarray) -> float:
    page = np.repeat(np.arange(pages.size), np.diff(log.offsets)[pages])
    width = len(log.schema.categories)
    pairs = np.unique(page * width + log.categories[rows_of(log, pages)])
    return float((np.bincount(pairs // width, minlength=pages.size) > 1).mean())


def calibrated_surfaces(log: EncodedLog, split: str, surfaces: tuple[str, ...]) -> tuple[str, ...]:
    """Return the surfaces whose pages in `split` calibration is fitted on, or told of.

    Those that mix categories: there it decides which category comes first; on pages of one
    category it moves nothing, since it keeps the order within a category. All surfaces where
    mixed pages are too few to show every objective.
    """
    mixed = mixed_surfaces(log, split, surfaces)
    pages = pages_of_surfaces(log, split, mixed)
    shown = log.labels[rows_of(log, pages)].any(axis=0).all()
    return mixed if shown else surfaces


def pages_of_surfaces(log: EncodedLog, split: str, surfaces: tuple[str, ...]) -> np.ndarray:
    """Return the numbers of the pages of one split and several surfaces, surface by surface."""
    parts = [log.pages_of(split, surface) for surface in surfaces]
    return np.concatenate([np.empty(0, np.int64), *parts])


def calibrate(
    ranker: Ranker, catalogue: Catalogue, log: EncodedLog, surfaces: tuple[str, ...]
) -> Calibration:
    """Fit the network's calibration on validation pages of `calibrated_surfaces`, and set it.

    Each objective is fitted on its `counted_rows`. One that never, or always, happened there
    keeps its logits as they are.
    """
    pages = pages_of_surfaces(log, "validation", calibrated_surfaces(log, "validation", surfaces))
    logits = score_pages(ranker, catalogue, log, pages)
    rows = rows_of(log, pages)
    labels, categories, counted = log.labels[rows], log.categories[rows], counted_rows(log, rows)
    shape = (len(log.schema.categories), len(log.schema.objectives))
    calibration = Calibration(np.ones(shape, np.float32), np.zeros(shape, np.float32))
    for index in range(len(log.schema.objectives)):
        kept, column = counted[:, index], slice(index, index + 1)
        if np.unique(labels[kept, index]).size < 2:  # noqa: PLR2004  0 and 1
            continue
        fit = fit_calibration(
            labels[kept, column], logits[kept, column], categories[kept], len(log.schema.categories)
        )
        calibration.scale[:, column], calibration.bias[:, column] = fit.scale, fit.bias
    ranker.calibration.set(calibration.scale, calibration.bias)
    return calibration


def counted_rows(log: EncodedLog, rows: np.ndarray) -> np.ndarray:
    """Return which of `rows` say something of each objective, shape (rows, objectives).

    `trial` is trained on candidates that the shopper never bought before, since only they can be
    tried, so only they count for it.
    """
    counted = np.ones((rows.size, len(log.schema.objectives)), np.bool_)
    if "trial" in log.schema.objectives:
        own_count = log.dense[rows, log.schema.feature_names.index(NEVER_BOUGHT_FEATURE)]
        counted[:, log.schema.objectives.index("trial")] = own_count == 0
    return counted


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

    A surface without pages is ranked by the first objective alone.
    """
    names = log.schema.objectives
    chosen = dict.fromkeys(log.schema.surfaces, next(weight_combinations(names)))
    for surface in surfaces:
        pages = log.pages_of("validation", surface)
        if pages.size == 0 or len(names) == 1:
            continue
        held = encoded_pages(log, "validation", surface)
        logits = score_pages(ranker, catalogue, log, pages)
        chosen[surface] = best_weights(held, logits, calibration)
    return chosen


def weight_combinations(objectives: tuple[str, ...]) -> Iterator[dict[str, float]]:
    """Yield each objective alone and each two at even weight, those with earlier ones first."""

    def compositions(parts: int, places: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (parts,)
            return
        for first in range(parts, -1, -1):
            for rest in compositions(parts - first, places - 1):
                yield (first, *rest)

    for counts in compositions(_PARTS, len(objectives)):
        yield {name: n / _PARTS for name, n in zip(objectives, counts, strict=True)}


def best_weights(held: PageSet, logits: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Return the weights of `weight_combinations` that rank the first objective of `held` best.

    Best is the highest mean NDCG@10; of equals, the earliest combination.

    Args:
        held: Validation pages.
        logits: The network's on their candidates, shape (rows, objectives).
        calibration: The network's.
    """
    gains = held.objective(held.objectives[0])
    best, chosen = -1.0, next(weight_combinations(held.objectives))
    if not gains.any():
        return chosen
    for weights in weight_combinations(held.objectives):
        scores = served_scores(logits, held.categories, calibration, weights)
        reached = float(np.nanmean(ndcg_at_k(gains, scores, held.offsets, 10)))
        if reached > best:
            best, chosen = reached, weights
    return chosen
