"""A part of an encoded log's pages, as a log of its own: what is learned on it is kept apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from trainer.encoding.encoded import SPLITS, EncodedLog
from trainer.encoding.features import PageSelection
from trainer.encoding.pageset import Integers
from trainer.logs.windows import expand_slices


@dataclass(frozen=True, slots=True)
class PageLimits:
    """Pages of each surface at most; 0 takes all.

    Attributes:
        train: The latest ones are taken, which are nearest to what comes.
        validation: Taken evenly spread.
        test: Taken evenly spread.
    """

    train: int = 0
    validation: int = 0
    test: int = 0


def share_of_log(log: EncodedLog, limits: PageLimits) -> EncodedLog:
    """Return the log with at most so many pages; the log itself when nothing is limited.

    Whoever learns from it, network or trees, has the same pages.
    """
    if limits == PageLimits():
        return log
    chosen = []
    for split in SPLITS:
        most = int(getattr(limits, split))
        for surface in log.schema.surfaces:
            pages = log.pages_of(split, surface)
            if most and pages.size > most:
                spread = np.arange(most) * pages.size // most
                pages = pages[-most:] if split == "train" else pages[spread]
            chosen.append(pages)
    kept = np.sort(np.concatenate(chosen))
    key = hashlib.sha256(kept.tobytes()).hexdigest()[:12]
    return with_pages(log, kept, f"{log.folder.name}-{kept.size}-pages-{key}")


def with_pages(log: EncodedLog, pages: Integers, name: str) -> EncodedLog:
    """Return the log with these pages alone, its folder called `name` beside the log's own.

    Args:
        log: The whole log.
        pages: Page numbers, increasing.
        name: Tells what is learned from it apart from what is learned from the whole log.
    """
    sizes = np.diff(log.offsets)[pages]
    _, rows = expand_slices(log.offsets[pages], sizes)
    return replace(
        log,
        folder=log.folder.parent / name,
        selection=PageSelection(
            pages=log.selection.pages[pages],
            surfaces=log.selection.surfaces[pages],
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            candidates=log.selection.candidates[rows],
        ),
        dense=log.dense[rows],
        sequence_rows=log.sequence_rows[pages],
        sequence_features=log.sequence_features[pages],
        labels=log.labels[rows],
        rows=log.rows[rows],
        categories=log.categories[rows],
        splits=log.splits[pages],
    )
