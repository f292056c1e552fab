"""Which pages of an encoded log a run learns from, and which it is validated on."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.schema import index_of
from trainer.config import TrainConfig
from trainer.encoding.batches import rows_of
from trainer.encoding.encoded import EncodedLog
from trainer.errors import ConfigError, TrainingError

_PAGES_AT_ONCE = 4096


def check_pages(config: TrainConfig, log: EncodedLog) -> None:
    """Refuse a log that cannot train what the configuration names.

    Raises:
        ConfigError: When the log's objectives are others.
        TrainingError: When there is nothing to train on or to evaluate.
    """
    known = log.schema.objectives
    if known[: len(config.objectives)] != config.objectives:
        raise ConfigError(
            f"objectives: got {', '.join(config.objectives)}, want the log's first in their "
            f"order: {', '.join(known)}"
        )
    evaluated = [evaluated_pages(config, log, surface) for surface in config.surfaces]
    for what, pages in (
        ("training", training_pages(config, log)),
        ("validation", np.concatenate(evaluated)),
    ):
        parts = np.array_split(pages, pages.size // _PAGES_AT_ONCE + 1)
        if not any(log.labels[rows_of(log, part), 0].any() for part in parts):
            raise TrainingError(
                f"pages: got {pages.size} {what} pages of {', '.join(config.surfaces)}, none "
                f"with a positive, want at least one"
            )


def evaluated_pages(config: TrainConfig, log: EncodedLog, surface: str) -> np.ndarray:
    """Return at most `validation_pages` validation pages of a surface, evenly spread over time."""
    pages = in_categories(config, log, log.pages_of("validation", surface))
    if pages.size == 0:
        return pages
    count = min(config.validation_pages, pages.size)
    spread: np.ndarray = pages[np.arange(count) * pages.size // count]
    return spread


def training_pages(config: TrainConfig, log: EncodedLog) -> np.ndarray:
    """Return the training pages of every surface, at most `max_pages` of each.

    The latest pages are kept when there are more: they are nearest to what comes.
    """
    parts = []
    for surface in config.surfaces:
        pages = in_categories(config, log, log.pages_of("train", surface))
        parts.append(pages[-config.max_pages :] if config.max_pages else pages)
    return np.concatenate(parts)


def in_categories(config: TrainConfig, log: EncodedLog, pages: np.ndarray) -> np.ndarray:
    """Keep the pages whose first candidate is of a category that the run is limited to."""
    if not config.categories:
        return pages
    wanted = [index_of(name, log.schema.categories, "categories") for name in config.categories]
    return pages[np.isin(log.categories[log.offsets[pages]], wanted)]
