"""The tasks a run is judged on: pages of one surface, and the score that would be served."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from trainer.calibration.calibration import Calibration
from trainer.calibration.choice import cross_fit, fit_chosen
from trainer.encoding.batches import rows_of
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog, heads_of_log
from trainer.encoding.encoded import counted_rows as encoded_counted_rows
from trainer.encoding.pageset import PageSet, encoded_pages
from trainer.evaluation.evaluation import EvaluationError
from trainer.evaluation.metrics import ndcg_at_k
from trainer.export.served_outputs import ServedOutputs, fit_outputs, plain_outputs
from trainer.model.outputs import OutputLayer
from trainer.model.ranker import Ranker
from trainer.training.network import score_pages

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

    How is chosen there by cross-fitting. Each objective is fitted on its `counted_rows`; one that
    never, or always, happened there keeps its logits as they are.
    """
    pages = pages_of_surfaces(log, "validation", calibrated_surfaces(log, "validation", surfaces))
    logits = score_pages(ranker, catalogue, log, pages)
    rows = rows_of(log, pages)
    labels, categories, counted = log.labels[rows], log.categories[rows], counted_rows(log, rows)
    trials = []
    if heads_of_log(log)[0].label.type == "binary":
        trials = cross_fit(
            labels[:, 0],
            logits[:, 0],
            categories,
            np.concatenate([[0], np.cumsum(np.diff(log.offsets)[pages])]),
            log.prepared.page_shoppers[log.selection.pages[pages]],
            len(log.schema.categories),
        )
    calibration = fit_chosen(
        labels, logits, categories, counted, len(log.schema.categories), trials=trials
    )
    ranker.calibration.set(calibration)
    return calibration


def counted_rows(log: EncodedLog, rows: np.ndarray) -> np.ndarray:
    """Return which of `rows` calibration counts for each objective, shape (rows, objectives).

    Those that say something of it, as its conditions have it; of an objective that is not
    binary none, since it has no probability to be calibrated.
    """
    counted = encoded_counted_rows(log, rows)
    counted[:, [head.label.type != "binary" for head in heads_of_log(log)]] = False
    return counted


def fit_served_outputs(
    ranker: Ranker, catalogue: Catalogue, log: EncodedLog, surfaces: tuple[str, ...]
) -> ServedOutputs:
    """Fit what the heads serve on validation pages, and set it in the network."""
    heads = heads_of_log(log)
    outputs = plain_outputs(heads)
    if any(head.label.type != "binary" for head in heads):
        pages = pages_of_surfaces(log, "validation", surfaces)
        logits, rows = score_pages(ranker, catalogue, log, pages), rows_of(log, pages)
        outputs = fit_outputs(heads, log.labels[rows], logits, encoded_counted_rows(log, rows))
    ranker.outputs = None if outputs.plain else OutputLayer(heads, outputs.factors, outputs.shifts)
    return outputs


def served_scores(
    logits: np.ndarray,
    categories: np.ndarray,
    calibration: Calibration,
    weights: dict[str, float],
    outputs: ServedOutputs | None = None,
) -> np.ndarray:
    """Return the score the server gives, float64, shape (rows,).

    It is the weighted sum of what the heads serve; without `outputs`, of their probabilities.
    """
    served = calibration.probabilities(logits, categories)
    if outputs is not None:
        served = outputs(served, logits)
    scores: np.ndarray = served @ np.array(list(weights.values()))
    return scores


def choose_weights(
    ranker: Ranker,
    catalogue: Catalogue,
    log: EncodedLog,
    calibration: Calibration,
    surfaces: tuple[str, ...],
    outputs: ServedOutputs | None = None,
) -> dict[str, dict[str, float]]:
    """Return the objective weights of every surface of the schema, chosen on validation pages.

    A surface without pages is ranked by the first objective alone. Amounts weigh nothing until a
    request says otherwise: what they are worth against a probability no page can tell.
    """
    names = log.schema.objectives
    chosen = dict.fromkeys(log.schema.surfaces, next(weight_combinations(names)))
    for surface in surfaces:
        pages = log.pages_of("validation", surface)
        if pages.size == 0 or len(names) == 1:
            continue
        held = encoded_pages(log, "validation", surface)
        logits = score_pages(ranker, catalogue, log, pages)
        chosen[surface] = best_weights(held, logits, calibration, outputs)
    return chosen


def weight_combinations(
    objectives: tuple[str, ...], amounts: Collection[str] = ()
) -> Iterator[dict[str, float]]:
    """Yield each objective alone and each two at even weight, those with earlier ones first.

    Objectives among `amounts` weigh nothing in any.
    """
    mixed = [name for name in objectives if name not in amounts]

    def compositions(parts: int, places: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (parts,)
            return
        for first in range(parts, -1, -1):
            for rest in compositions(parts - first, places - 1):
                yield (first, *rest)

    for counts in compositions(_PARTS, len(mixed)):
        weights = {name: n / _PARTS for name, n in zip(mixed, counts, strict=True)}
        yield {name: weights.get(name, 0.0) for name in objectives}


def best_weights(
    held: PageSet,
    logits: np.ndarray,
    calibration: Calibration,
    outputs: ServedOutputs | None = None,
) -> dict[str, float]:
    """Return the weights of `weight_combinations` that rank the first objective of `held` best.

    Best is the highest mean NDCG@10; of equals, the earliest combination.

    Args:
        held: Validation pages.
        logits: The network's on their candidates, shape (rows, objectives).
        calibration: The network's.
        outputs: What the heads serve; the probabilities without it.
    """
    heads = outputs.heads if outputs is not None else ()
    amounts = {head.name for head in heads if head.amount}
    gains = held.objective(held.objectives[0])
    best, chosen = -1.0, next(weight_combinations(held.objectives))
    if not gains.any():
        return chosen
    for weights in weight_combinations(held.objectives, amounts):
        scores = served_scores(logits, held.categories, calibration, weights, outputs)
        reached = float(np.nanmean(ndcg_at_k(gains, scores, held.offsets, 10)))
        if reached > best:
            best, chosen = reached, weights
    return chosen
