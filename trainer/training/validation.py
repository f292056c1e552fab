"""What an evaluation in mid-training tells of the averaged weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainer.config import TrainConfig
from trainer.encoding.batches import rows_of
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.evaluation.metrics import ndcg_at_k
from trainer.model.ranker import Ranker
from trainer.training.losses import page_cross_entropy
from trainer.training.network import score_pages
from trainer.training.run_pages import evaluated_pages


def validate(
    config: TrainConfig,
    ranker: Ranker,
    average: dict[str, np.ndarray],
    catalogue: Catalogue,
    log: EncodedLog,
) -> dict[str, float]:
    """Return validation NDCG@10 of the averaged weights per surface, and their mean."""
    kept = weights_of(ranker)
    set_weights(ranker, average)
    figures: dict[str, float] = {}
    for surface in config.surfaces:
        pages = evaluated_pages(config, log, surface)
        if pages.size == 0:
            continue
        scores = score_pages(ranker, catalogue, log, pages)
        sizes = np.diff(log.offsets)[pages]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = rows_of(log, pages)
        gains = log.labels[rows, 0].astype(np.float64)
        if not gains.any():
            continue
        ndcg = ndcg_at_k(gains, scores[:, 0].astype(np.float64), offsets, 10)
        figures[f"validation_{surface}_ndcg_at_10"] = float(np.nanmean(ndcg))
    set_weights(ranker, kept)
    figures["validation_ndcg_at_10"] = float(np.mean(list(figures.values())))
    return figures


def watched_figures(
    ranker: Ranker,
    average: dict[str, np.ndarray],
    catalogue: Catalogue,
    log: EncodedLog,
    watched: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """Return cross-entropy and NDCG@10 of the first objective on each set of watched pages."""
    kept = weights_of(ranker)
    set_weights(ranker, average)
    figures: dict[str, float] = {}
    for name, pages in watched.items():
        logits = score_pages(ranker, catalogue, log, pages)[:, 0]
        offsets = np.concatenate([[0], np.cumsum(np.diff(log.offsets)[pages])]).astype(np.int64)
        gains = log.labels[rows_of(log, pages), 0].astype(np.float64)
        scores = logits.astype(np.float64)
        figures[f"{name}_cross_entropy"] = page_cross_entropy(gains, scores, offsets)
        figures[f"{name}_ndcg_at_10"] = float(np.nanmean(ndcg_at_k(gains, scores, offsets, 10)))
    set_weights(ranker, kept)
    return figures


def weights_of(ranker: Ranker) -> dict[str, np.ndarray]:
    """Return a copy of every parameter by its name."""
    return {name: value.numpy().copy() for name, value in ranker.named_parameters()}


def set_weights(ranker: Ranker, weights: Mapping[str, np.ndarray]) -> None:
    """Set every parameter by its name."""
    for name, value in ranker.named_parameters():
        value.set_value(weights[name])
