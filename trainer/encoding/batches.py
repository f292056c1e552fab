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
) -> Batch:
    """Return the arrays of `pages`; every page keeps at least one (masked) event.

    Args:
        log: The encoded log.
        pages: Page numbers, shape (pages,).
        most: Candidates a page keeps at most, positives first and then others at `random`;
            0 keeps all.
        random: Needed when `most` is given.
        teacher: Logit of every row of the log, NaN for none.
        teacher_share: Share of the teacher in the targets.
    """
    starts, stops = log.offsets[pages], log.offsets[pages + 1]
    kept = [np.arange(a, b) for a, b in zip(starts, stops, strict=True)]
    if most and random is not None:
        kept = [_sample(rows, log.labels[rows].max(axis=1) > 0, most, random) for rows in kept]
    flat = np.concatenate(kept)
    sizes = np.array([rows.size for rows in kept])
    width, count = int(sizes.max()), pages.shape[0]
    inside = np.arange(width) < sizes[:, None]  # (pages, candidates)
    raw = log.dense[flat]
    dense = np.zeros((count, width, raw.shape[1]), np.float32)
    dense[inside] = normalise(log.schema, raw)
    labels = np.zeros((count, width, log.labels.shape[1]), np.float32)
    labels[inside] = log.labels[flat]
    heads = heads_of_log(log)
    gains = labels[:, :, 0]
    if heads[0].label.type == "graded":
        gains = np.exp2(gains) - 1
    total = gains.sum(axis=1, keepdims=True)
    targets = gains / np.where(total > 0, total, 1.0)
    if teacher is not None:
        taught = np.full((count, width), -np.inf, np.float32)
        taught[inside] = teacher[flat]
        targets = _mix(targets, taught, teacher_share)
    categories = np.zeros((count, width), np.int64)
    categories[inside] = log.categories[flat]
    counted = np.zeros_like(labels)
    counted[inside] = served_rows(log, flat)
    events = log.sequence_rows[pages]
    longest = max(int((events >= 0).sum(axis=1).max()), 1)
    events = events[:, :longest]
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
        sequence=inverse[count * width :].reshape(count, longest),
        sequence_features=np.asarray(log.sequence_features[pages, :longest]),
        sequence_mask=(events >= 0).astype(np.float32),
        surface=log.selection.surfaces[pages].astype(np.int64),
        queries=log.prepared.page_queries[page_of_log].astype(np.int64),
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
