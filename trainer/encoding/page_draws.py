"""Parts of a log to transfer between: sources without a target, and a few pages of the target."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np

from rerank_server.contract.errors import nearest
from trainer.encoding.batches import rows_of
from trainer.encoding.encoded import SPLITS, EncodedLog
from trainer.encoding.pageset import Integers
from trainer.errors import TransferError
from trainer.tasks import mixed_surfaces

Draw = Literal["random", "latest"]
DRAWS: tuple[Draw, ...] = ("random", "latest")
_LEFT_OUT = -1  # of no split


def transfer_surface(log: EncodedLog, surfaces: tuple[str, ...]) -> str:
    """Return the first surface whose pages hold one category each.

    Raises:
        TransferError: When every surface mixes categories: there a category is not alone.
    """
    mixed = mixed_surfaces(log, "train", surfaces)
    for surface in surfaces:
        if surface not in mixed and log.pages_of("train", surface).size:
            return surface
    raise TransferError(
        f"surfaces: got {', '.join(surfaces)}, whose pages all mix categories, want one whose "
        "pages hold one category each"
    )


def category_row(log: EncodedLog, name: str, what: str = "target") -> int:
    """Return the row of a category.

    Raises:
        TransferError: When the log has no such category.
    """
    known = log.schema.categories[1:]
    if name not in known:
        raise TransferError(
            f"{what}: got {name!r}, want one of {', '.join(known)}{nearest(name, known)}"
        )
    return log.schema.categories.index(name)


def without_categories(log: EncodedLog, names: Iterable[str]) -> EncodedLog:
    """Return the log without a training or validation page that shows one of these categories.

    Its test pages stay. The shoppers' past stays too: what they bought of these categories is
    known when other pages are shown.

    Raises:
        TransferError: When the log has no such category.
    """
    left_out = sorted(category_row(log, name, "held_out") for name in set(names))
    if not left_out:
        return log
    inside = np.concatenate([[0], np.cumsum(np.isin(log.categories, left_out))])
    shows = inside[log.offsets[1:]] > inside[log.offsets[:-1]]
    splits = np.where(shows & (log.splits != SPLITS.index("test")), _LEFT_OUT, log.splits)
    return _renamed(log, splits, "without-" + "-".join(map(str, left_out)))


def pages_with_positive(log: EncodedLog, row: int, split: str, surface: str) -> Integers:
    """Return the pages of a category, of its first candidate, that show a positive; by time."""
    pages = log.pages_of(split, surface)
    pages = pages[log.categories[log.offsets[pages]] == row]
    positives = np.concatenate([[0], np.cumsum(log.labels[:, 0] > 0)])
    chosen: Integers = pages[positives[log.offsets[pages + 1]] > positives[log.offsets[pages]]]
    return chosen


def draw_pages(pages: Integers, count: int, draw: Draw, seed: tuple[int, ...]) -> Integers:
    """Return `count` of the pages in order of time, all where there are fewer.

    Drawn at random, the pages of a smaller count are among those of a larger one.
    """
    if draw == "latest":
        return pages[max(pages.size - count, 0) :]
    return np.sort(np.random.default_rng(seed).permutation(pages)[:count])


def few_pages(
    log: EncodedLog, target: str, count: int, surface: str, draw: Draw, seed: int
) -> EncodedLog:
    """Return the log with `count` training pages of the target, and as many validation pages.

    Nothing else is left but the target's test pages. Pages are drawn among those with a positive:
    the others say nothing of the order that is wanted.

    Raises:
        TransferError: When there is no such category, or fewer pages of it than `count`; when
            there is none to stop by.
    """
    row = category_row(log, target)
    training = pages_with_positive(log, row, "train", surface)
    held = pages_with_positive(log, row, "validation", surface)
    if count < 1:
        raise TransferError(f"pages: got {count}, want at least 1 to learn from")
    if count > training.size:
        raise TransferError(
            f"pages: got {count} of {target!r}, want at most the {training.size} training pages "
            "that it has with a positive"
        )
    if held.size == 0:
        raise TransferError(
            f"target: got {target!r} without a validation page that shows a positive, want one "
            "to stop by"
        )
    splits = np.full_like(log.splits, _LEFT_OUT)
    tested = log.pages_of("test", surface)
    splits[tested[log.categories[log.offsets[tested]] == row]] = SPLITS.index("test")
    splits[draw_pages(training, count, draw, (seed, row, 0))] = SPLITS.index("train")
    # as many as there are to learn from: who has ten pages has no thousand to stop by
    splits[draw_pages(held, count, draw, (seed, row, 1))] = SPLITS.index("validation")
    return _renamed(log, splits, f"{row}-{count}-{draw}-{seed}-{surface}")


def measured_pages(log: EncodedLog, target: str, surface: str) -> Integers:
    """Return the test pages of a category, by time.

    Raises:
        TransferError: When none shows a positive: nothing could be measured.
    """
    row = category_row(log, target)
    pages = log.pages_of("test", surface)
    pages = pages[log.categories[log.offsets[pages]] == row]
    if pages.size == 0 or not log.labels[rows_of(log, pages), 0].any():
        raise TransferError(
            f"target: got {target!r} without a test page that shows a positive, want at least one"
        )
    chosen: Integers = pages
    return chosen


def _renamed(log: EncodedLog, splits: np.ndarray, name: str) -> EncodedLog:
    """Return the log with other splits, told apart by its folder's name."""
    if len(name) > 60:  # noqa: PLR2004  a folder's name has an end
        name = hashlib.sha256(name.encode()).hexdigest()[:12]
    return replace(log, folder=log.folder.parent / f"{log.folder.name}-{name}", splits=splits)
