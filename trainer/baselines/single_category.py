"""Categories on their own: the part of a log that is about one, to learn from nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from trainer.config import TrainConfig
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.log_share import with_pages
from trainer.encoding.pageset import Integers, majority_categories
from trainer.tasks import mixed_surfaces

EPOCHS = 4  # a category's pages are few: more passes, stopped early


def categories_of_pages(log: EncodedLog) -> Integers:
    """Return the category row of each page of the log, -1 where a page mixes categories."""
    return majority_categories(log.offsets, log.categories).astype(np.int64)


def of_category(log: EncodedLog, category: int, of_pages: Integers) -> EncodedLog:
    """Return the log with the pages of one category only, and a folder of another name.

    What is trained on it is kept apart from what is trained on the whole log.

    Args:
        log: The whole log.
        category: A category row.
        of_pages: From `categories_of_pages`.
    """
    pages = np.flatnonzero(of_pages == category)
    name = log.schema.categories[category]
    # the row tells apart names that differ only in what a folder cannot be called
    return with_pages(log, pages, f"{log.folder.name}-{category}-{_plain(name)}")


def trained_categories(log: EncodedLog, surface: str, of_pages: Integers) -> Integers:
    """Return the category rows with training and test pages of a surface.

    Those of fewest training pages come first.
    """
    counts, tested = (
        np.bincount(of_split[of_split >= 0], minlength=len(log.schema.categories))
        for of_split in (of_pages[log.pages_of(split, surface)] for split in ("train", "test"))
    )
    present = np.flatnonzero((counts > 0) & (tested > 0))
    ordered: Integers = present[np.argsort(counts[present], kind="stable")].astype(np.int64)
    return ordered


def single_config(config: TrainConfig, log: EncodedLog, category: str) -> TrainConfig:
    """Return the configuration of a network of one category: the same but for its pages."""
    mixed = mixed_surfaces(log, "test", config.surfaces)
    return replace(
        config,
        name=f"{config.name}-{category}",
        surfaces=tuple(surface for surface in config.surfaces if surface not in mixed),
        epochs=EPOCHS,
        evaluations_per_epoch=1,
        patience=2,
    )


def _plain(name: str) -> str:
    return re.sub(r"[^\w]+", "-", name)
