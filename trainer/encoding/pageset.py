"""The pages of one split as flat arrays: what training, baselines and evaluation read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import RerankError, nearest
from trainer.encoding.encoded import NEVER_BOUGHT_FEATURE, SPLITS, EncodedLog, labels_of
from trainer.logs.labels import Labels

Doubles: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

UNKNOWN_TOTAL = -1
DISCOVERY = "discovery"
MAJORITY_SHARE = 0.8
SMALLEST_PAGE = 2  # with one candidate there is nothing to order


class PageSetError(RerankError):
    """Arrays that do not fit together, or a name that a page set does not hold."""


@dataclass(frozen=True)
class PageSet:
    """Pages in time order, their candidates concatenated in retrieval order.

    Attributes:
        offsets: Rows of page p are `offsets[p]:offsets[p + 1]`, shape (pages + 1,), int64.
        dense: Raw features, shape (rows, features), float32, may be a memory map; NaN is
            missing.
        feature_names: Names of the columns of `dense`.
        labels: 1 where the objective happened, or how much of it, shape (rows, objectives),
            uint8 where every objective is binary, else float32.
        objectives: Names of the columns of `labels`.
        categories: Category row of each candidate, shape (rows,), int32.
        rows: Product row of each candidate, shape (rows,), int32.
        shopper: Shopper of each page, shape (pages,), int32.
        time: Unix seconds of each page, shape (pages,), int64.
        surface: Index into `Schema.surfaces`, shape (pages,), int8.
        positives_total: Products of the first objective that each page should have held,
            those that retrieval missed included, shape (pages,), int32; -1 is unknown.
        page_columns: Arrays with one row per page that are carried along unread, such as the
            query row or the range of the page's events.
        events: Event arrays shared by all pages; never sliced, never read here.
    """

    offsets: Integers
    dense: npt.NDArray[np.float32]
    feature_names: tuple[str, ...]
    labels: Labels
    objectives: tuple[str, ...]
    categories: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    shopper: npt.NDArray[np.int32]
    time: Integers
    surface: npt.NDArray[np.int8]
    positives_total: npt.NDArray[np.int32]
    page_columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    events: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the shapes fit.

        Raises:
            PageSetError: When an array has another length than the offsets say.
        """
        if self.offsets.ndim != 1 or self.offsets.size == 0 or self.offsets[0] != 0:
            raise PageSetError(
                f"offsets: got shape {self.offsets.shape}, want (pages + 1,) starting with 0"
            )
        if np.any(np.diff(self.offsets) < 0):
            raise PageSetError("offsets: got a decrease, want them never to decrease")
        count = int(self.offsets[-1])
        shapes = {
            "dense": (self.dense.shape, (count, len(self.feature_names))),
            "labels": (self.labels.shape, (count, len(self.objectives))),
            "categories": (self.categories.shape, (count,)),
            "rows": (self.rows.shape, (count,)),
            "shopper": (self.shopper.shape, (self.pages,)),
            "time": (self.time.shape, (self.pages,)),
            "surface": (self.surface.shape, (self.pages,)),
            "positives_total": (self.positives_total.shape, (self.pages,)),
        }
        for name, column in self.page_columns.items():
            shapes[name] = (column.shape[:1], (self.pages,))
        for name, (got, want) in shapes.items():
            if got != want:
                raise PageSetError(f"{name}: got shape {got}, want {want}")

    @property
    def pages(self) -> int:
        """The number of pages."""
        return int(self.offsets.shape[0] - 1)

    @property
    def candidates(self) -> int:
        """The number of candidates of all pages together."""
        return int(self.offsets[-1])

    @cached_property
    def sizes(self) -> Integers:
        """The number of candidates of each page, shape (pages,)."""
        return np.diff(self.offsets)

    @cached_property
    def page_of_row(self) -> Integers:
        """The page of each candidate, shape (rows,)."""
        return np.repeat(np.arange(self.pages), self.sizes)

    @cached_property
    def position(self) -> Integers:
        """The retrieval rank of each candidate on its page, from 0, shape (rows,)."""
        return np.arange(self.candidates) - np.repeat(self.offsets[:-1], self.sizes)

    def feature(self, name: str) -> Doubles:
        """Return one raw feature, shape (rows,), NaN where missing.

        Raises:
            PageSetError: When there is no such feature.
        """
        if name not in self.feature_names:
            known = f"one of the {len(self.feature_names)} features"
            raise PageSetError(
                f"feature: got {name!r}, want {known}{nearest(name, self.feature_names)}"
            )
        return self.dense[:, self.feature_names.index(name)].astype(np.float64)

    def objective(self, name: str) -> Doubles:
        """Return the gains of one objective, shape (rows,): its labels, 1 where it happened.

        Raises:
            PageSetError: When there is no such objective.
        """
        if name not in self.objectives:
            known = ", ".join(self.objectives)
            raise PageSetError(
                f"objective: got {name!r}, want one of {known}{nearest(name, self.objectives)}"
            )
        return self.labels[:, self.objectives.index(name)].astype(np.float64)

    def sums(self, values: npt.NDArray[Any]) -> Doubles:
        """Return the sum of `values`, shape (rows,), over each page, shape (pages,)."""
        return np.bincount(self.page_of_row, values, self.pages).astype(np.float64)

    def select(self, pages: Mask) -> PageSet:
        """Keep the pages where `pages`, shape (pages,), is true, in order.

        Raises:
            PageSetError: When `pages` is not one flag per page.
        """
        if pages.shape != (self.pages,) or pages.dtype != np.bool_:
            raise PageSetError(
                f"pages: got {pages.dtype} of shape {pages.shape}, want bool of ({self.pages},)"
            )
        return self._take(pages, np.repeat(pages, self.sizes))

    def discovery_rows(self, objective: str | None = None) -> Mask:
        """Flag the candidates of the Discovery task, shape (rows,).

        These are the candidates the shopper never bought, on pages that keep at least one
        positive and at least two candidates. Indexing scores of whole pages with these flags
        gives scores for `discovery()`.
        """
        new = ~(self.feature(NEVER_BOUGHT_FEATURE) > 0)
        gains = self.objective(objective or self.objectives[0])
        kept = (self.sums(new) >= SMALLEST_PAGE) & (self.sums(gains * new) >= 1)
        flags: Mask = new & kept[self.page_of_row]
        return flags

    def discovery(self, objective: str | None = None) -> PageSet:
        """Return the Discovery task: what the shopper never bought, positives reached only."""
        flags = self.discovery_rows(objective)
        pages = self.sums(flags) > 0
        kept = self._take(pages, flags)
        return replace(kept, positives_total=np.full(kept.pages, UNKNOWN_TOTAL, np.int32))

    def page_categories(self) -> npt.NDArray[np.int32]:
        """Return the category row that holds most of each page, or -1 for a mixed page.

        A page is mixed, shape (pages,), when no category holds 80 % of its candidates.
        """
        return majority_categories(self.offsets, self.categories)

    def _take(self, pages: Mask, rows: Mask) -> PageSet:
        counts = np.bincount(self.page_of_row[rows], minlength=self.pages)[pages]
        return PageSet(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            dense=self.dense[rows],
            feature_names=self.feature_names,
            labels=self.labels[rows],
            objectives=self.objectives,
            categories=self.categories[rows],
            rows=self.rows[rows],
            shopper=self.shopper[pages],
            time=self.time[pages],
            surface=self.surface[pages],
            positives_total=self.positives_total[pages],
            page_columns={name: column[pages] for name, column in self.page_columns.items()},
            events=self.events,
        )


def majority_categories(offsets: Integers, categories: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return what `PageSet.page_categories` does, of pages with these offsets and categories."""
    sizes = np.diff(offsets)
    page_of_row = np.repeat(np.arange(sizes.size), sizes)
    width = int(categories.max(initial=0)) + 1
    keys, counts = np.unique(page_of_row * width + categories, return_counts=True)
    pages, rows = np.divmod(keys, width)
    result = np.full(sizes.size, -1, np.int32)
    largest = counts >= MAJORITY_SHARE * sizes[pages]
    result[pages[largest]] = rows[largest]
    return result


def encoded_pages(log: EncodedLog, split: str, surface: str) -> PageSet:
    """Return the pages of one split and surface of an encoded log, in its order.

    Scores of the pages `log.pages_of(split, surface)`, concatenated in that order, fit it. Only
    the pages' own positives are known of Discovery, so `positives_total` is -1 there.

    Raises:
        PageSetError: On an unknown split or surface.
    """
    for what, name, known in (("split", split, SPLITS), ("surface", surface, log.schema.surfaces)):
        if name not in known:
            raise PageSetError(
                f"{what}: got {name!r}, want one of {', '.join(known)}{nearest(name, known)}"
            )
    pages = log.pages_of(split, surface)
    sizes = np.diff(log.offsets)[pages]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.arange(offsets[-1]) + np.repeat(log.offsets[pages] - offsets[:-1], sizes)
    of_log = log.selection.pages[pages]
    totals = log.prepared.page_positives_total[of_log].astype(np.int32)
    binary = all(label.type == "binary" for label in labels_of(log).values())
    return PageSet(
        offsets=offsets,
        dense=log.dense[rows],
        feature_names=log.schema.feature_names,
        labels=log.labels[rows].astype(np.uint8 if binary else np.float32),
        objectives=log.schema.objectives,
        categories=log.categories[rows].astype(np.int32),
        rows=log.rows[rows].astype(np.int32),
        shopper=log.prepared.page_shoppers[of_log].astype(np.int32),
        time=log.prepared.page_times[of_log].astype(np.int64),
        surface=log.selection.surfaces[pages].astype(np.int8),
        positives_total=np.full_like(totals, UNKNOWN_TOTAL) if surface == DISCOVERY else totals,
        page_columns={"page": pages},
    )
