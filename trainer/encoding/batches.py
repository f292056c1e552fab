"""Batches of pages: padded arrays for the network, products listed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rerank_server.contract.schema import normalise
from trainer.encoding.encoded import EncodedLog, heads_of_log, served_rows
from trainer.objectives import Head

_BUCKET_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Share:
    """Which pages of every batch a process takes: each `count`-th one, from its own number on.

    Attributes:
        number: Of the process, from 0.
        count: Processes that share the batch.
    """

    number: int = 0
    count: int = 1


EVERYTHING = Share()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a share lies in its batch as one process alone would have it.

    Attributes:
        pages: Which of the batch's pages the share has, shape (pages of the share,).
        page_count: Pages of the batch.
        page_categories: Category row of the first candidate of each of them.
        products: Which of the batch's distinct products the share has.
        product_count: Distinct products of the batch.
    """

    pages: np.ndarray
    page_count: int
    page_categories: np.ndarray
    products: np.ndarray
    product_count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Several pages, padded to the longest.

    Attributes:
        pages: Page numbers of the encoded log, shape (pages,).
        products: Distinct product rows of candidates and events, shape (products,).
        candidates: Index into `products`, shape (pages, candidates).
        mask: 1 for a candidate, 0 for padding, float32.
        categories: Category row of each candidate, 0 for padding.
        dense: Normalised features, shape (pages, candidates, features).
        labels: Shape (pages, candidates, objectives), float32.
        heads: What is learned, by the columns of `labels`.
        targets: What the first objective's softmax should give: gains over their sum, mixed
            with the teacher's softmax where there is a teacher, shape (pages, candidates).
        counted: 1 for a candidate that says something of an objective, as `served_rows` has it,
            shape (pages, candidates, objectives), float32.
        sequence: Index into `products`, shape (pages, events).
        sequence_features: Shape (pages, events, features).
        sequence_mask: 1 for an event, float32.
        surface: Shape (pages,).
        queries: Index into the log's queries, -1 for none, shape (pages,).
        place: Where these pages lie in the batch that they are a share of; None for all of it.
    """

    pages: np.ndarray
    products: np.ndarray
    candidates: np.ndarray
    mask: np.ndarray
    categories: np.ndarray
    dense: np.ndarray
    labels: np.ndarray
    heads: tuple[Head, ...]
    targets: np.ndarray
    counted: np.ndarray
    sequence: np.ndarray
    sequence_features: np.ndarray
    sequence_mask: np.ndarray
    surface: np.ndarray
    queries: np.ndarray
    place: Place | None = None


def rows_of(log: EncodedLog, pages: np.ndarray) -> np.ndarray:
    """Return the row numbers of all candidates of `pages`, page after page."""
    starts, stops = log.offsets[pages], log.offsets[pages + 1]
    parts = [np.arange(a, b) for a, b in zip(starts, stops, strict=True)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def make_batch(
    log: EncodedLog,
    pages: np.ndarray,
    *,
    most: int = 0,
    random: np.random.Generator | None = None,
    teacher: np.ndarray | None = None,
    teacher_share: float = 0.0,
    share: Share = EVERYTHING,
) -> Batch:
    """Return the arrays of `pages`; every page keeps at least one (masked) event.

    A share is padded as the whole batch is, and of the pages of others it reads labels and
    products alone. One of fewer pages than processes has a page for each, which counts nothing
    where it is another's.

    Args:
        log: The encoded log.
        pages: Page numbers, shape (pages,).
        most: Candidates a page keeps at most, positives first and then others at `random`;
            0 keeps all.
        random: Needed when `most` is given.
        teacher: Logit of every row of the log, NaN for none.
        teacher_share: Share of the teacher in the targets.
        share: Which of `pages` the batch is to have.
    """
    every_row, every_event = _kept_rows(log, pages, most, random), _events(log, pages)
    own = np.arange(share.number, pages.size, share.count)
    others = own.size == 0
    own = np.zeros(1, np.int64) if others else own
    pages, kept, events = pages[own], [every_row[index] for index in own], every_event[own]
    flat = np.concatenate(kept)
    sizes = np.array([rows.size for rows in kept])
    width, count = max(rows.size for rows in every_row), pages.shape[0]
    inside = np.arange(width) < sizes[:, None]  # (pages, candidates)
    raw = log.dense[flat]
    dense = np.zeros((count, width, raw.shape[1]), np.float32)
    dense[inside] = normalise(log.schema, raw)
    labels = np.zeros((count, width, log.labels.shape[1]), np.float32)
    labels[inside] = log.labels[flat]
    heads = heads_of_log(log)
    targets = _targets(heads[0], labels[:, :, 0])
    if teacher is not None:
        taught = np.full((count, width), -np.inf, np.float32)
        taught[inside] = teacher[flat]
        targets = _mix(targets, taught, teacher_share)
    categories = np.zeros((count, width), np.int64)
    categories[inside] = log.categories[flat]
    counted = np.zeros_like(labels)
    counted[inside] = 0.0 if others else served_rows(log, flat)
    candidate_rows = np.full((count, width), log.prepared.size, np.int64)
    candidate_rows[inside] = log.rows[flat]
    event_rows = np.where(events >= 0, events, log.prepared.size)
    products, inverse = np.unique(
        np.concatenate([candidate_rows.ravel(), event_rows.ravel()]), return_inverse=True
    )
    page_of_log = log.selection.pages[pages]
    return Batch(
        pages=pages,
        products=products,
        candidates=inverse[: count * width].reshape(count, width),
        mask=inside.astype(np.float32),
        categories=categories,
        dense=dense,
        labels=labels,
        heads=heads,
        targets=targets,
        counted=counted,
        sequence=inverse[count * width :].reshape(events.shape),
        sequence_features=np.asarray(log.sequence_features[pages, : events.shape[1]]),
        sequence_mask=(events >= 0).astype(np.float32),
        surface=log.selection.surfaces[pages].astype(np.int64),
        queries=log.prepared.page_queries[page_of_log].astype(np.int64),
        place=None if share.count == 1 else _place(log, own, products, every_row, every_event),
    )


def _kept_rows(
    log: EncodedLog, pages: np.ndarray, most: int, random: np.random.Generator | None
) -> list[np.ndarray]:
    """Return the rows of each page's candidates that are kept."""
    starts, stops = log.offsets[pages], log.offsets[pages + 1]
    kept = [np.arange(a, b) for a, b in zip(starts, stops, strict=True)]
    if most and random is not None:
        kept = [_sample(rows, log.labels[rows].max(axis=1) > 0, most, random) for rows in kept]
    return kept


def _events(log: EncodedLog, pages: np.ndarray) -> np.ndarray:
    """Return the product rows of each page's events, as many columns as the longest has."""
    events = log.sequence_rows[pages]
    longest = max(int((events >= 0).sum(axis=1).max()), 1)
    return np.asarray(events[:, :longest])


def _targets(head: Head, labels: np.ndarray) -> np.ndarray:
    """Return gains over their sum on each page, for labels of shape (pages, candidates)."""
    gains = np.exp2(labels) - 1 if head.label.type == "graded" else labels
    total = gains.sum(axis=1, keepdims=True)
    targets: np.ndarray = gains / np.where(total > 0, total, 1.0)
    return targets


def _place(
    log: EncodedLog,
    own: np.ndarray,
    products: np.ndarray,
    kept: list[np.ndarray],
    events: np.ndarray,
) -> Place:
    """Return where a share's pages and products lie among those of its whole batch.

    Args:
        log: The encoded log.
        own: Which of the batch's pages the share has.
        products: The share's distinct products.
        kept: Rows of each page of the batch.
        events: Product rows of its events, shape (pages, events), -1 is padding.
    """
    sizes = np.array([rows.size for rows in kept])
    every = [log.rows[np.concatenate(kept)], np.where(events >= 0, events, log.prepared.size)]
    if (sizes < sizes.max()).any():  # padding points behind the last product
        every.append(np.array([log.prepared.size]))
    of_batch = np.unique(np.concatenate([part.ravel() for part in every]))
    return Place(
        pages=own,
        page_count=len(kept),
        page_categories=log.categories[np.array([rows[0] for rows in kept])],
        products=np.searchsorted(of_batch, products),
        product_count=of_batch.size,
    )


def _mix(targets: np.ndarray, taught: np.ndarray, share: float) -> np.ndarray:
    """Return targets with `share` of the teacher's softmax, on pages that it has scored.

    Args:
        targets: Shape (pages, candidates); rows without a positive are zero and stay so.
        taught: The teacher's logits, same shape; -inf for padding, NaN where it has none.
        share: 0 to 1.
    """
    known = ~np.isnan(taught).any(axis=1) & (targets.sum(axis=1) > 0)
    mixed = targets.copy()
    logits = taught[known] - taught[known].max(axis=1, keepdims=True)
    weights = np.exp(logits)
    softmax = weights / weights.sum(axis=1, keepdims=True)
    mixed[known] = (1 - share) * targets[known] + share * softmax
    return mixed


def _sample(
    rows: np.ndarray, positive: np.ndarray, most: int, random: np.random.Generator
) -> np.ndarray:
    """Return at most `most` of a page's rows in their order, every positive among them."""
    if rows.size <= most:
        return rows
    keys = random.random(rows.size)
    keys[positive] = -1.0
    return rows[np.sort(np.argsort(keys, kind="stable")[:most])]


def epoch_order(
    log: EncodedLog, pages: np.ndarray, pages_per_batch: int, power: float, seed: tuple[int, int]
) -> list[np.ndarray]:
    """Return the batches of one epoch; the same `seed` gives the same batches.

    Pages of a category of n pages are drawn in proportion to n^power, so 1 takes each page
    once. Pages of similar length share a batch, so that little of it is padding.
    """
    random = np.random.default_rng(seed)
    if power != 1.0:
        _, inverse, counts = np.unique(
            log.categories[log.offsets[pages]], return_inverse=True, return_counts=True
        )
        weights = counts[inverse].astype(np.float64) ** (power - 1.0)
        pages = random.choice(pages, pages.shape[0], p=weights / weights.sum())
    pages = random.permutation(pages)
    sizes = np.diff(log.offsets)
    bucket = pages_per_batch * _BUCKET_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, pages.shape[0], bucket):
        part = pages[start : start + bucket]
        part = part[np.argsort(sizes[part], kind="stable")]
        batches += [
            part[first : first + pages_per_batch] for first in range(0, part.size, pages_per_batch)
        ]
    return [batches[index] for index in random.permutation(len(batches))]


def batches_in_order(pages: np.ndarray, log: EncodedLog, rows: int) -> Iterator[np.ndarray]:
    """Yield all `pages`, longest first, in batches of about `rows` padded candidates."""
    sizes = np.diff(log.offsets)[pages]
    order = pages[np.argsort(-sizes, kind="stable")]
    start = 0
    while start < order.size:
        longest = int(np.diff(log.offsets)[order[start]])
        stop = start + max(rows // max(longest, 1), 1)
        yield order[start:stop]
        start = stop
