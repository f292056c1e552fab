"""Encodes a prepared log with the function that serves; every page sees its own past only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

from rerank_server.contract.feature_list import feature_specs
from rerank_server.contract.features import SEQUENCE_FEATURES, FeatureEncoder
from rerank_server.contract.page import SECONDS_PER_DAY, History, Page
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import Schema, SignalSpec
from trainer.encoding.collaborative import CollaborativeFit, fit_collaborative
from trainer.encoding.counts import PRODUCT_COLUMNS, Purchases, RollingStats, purchases_in_time
from trainer.encoding.dataset import Prepared
from trainer.errors import ConfigError

ENCODING_VERSION = 1
NEUTRAL_CATEGORY = "(any)"
SURFACES = ("search", "discovery", "promotion", "home", "category")


@dataclass(frozen=True, slots=True)
class PastTables:
    """What product tables are made of: purchases in time, and a fit per cutoff."""

    purchases: Purchases
    fits: tuple[CollaborativeFit, ...]


def log_schema(prepared: Prepared) -> Schema:
    """Return the schema of a prepared log, features not yet standardised."""
    signals = tuple(SignalSpec(name, _window_days(name)) for name in prepared.signals)
    return Schema(
        features=feature_specs(PRODUCT_COLUMNS, signals),
        product_columns=PRODUCT_COLUMNS,
        signals=signals,
        levels=("leaf", "middle"),
        attributes=("brand", "size"),
        surfaces=SURFACES,
        event_kinds=("purchase",),
        objectives=tuple(prepared.objectives),
        categories=(NEUTRAL_CATEGORY, *prepared.categories),
    )


def _window_days(signal: str) -> int:
    """Return N of a signal named `..._Nd` that counts sales, else 0."""
    tail = signal.rsplit("_", 1)[-1]
    return int(tail[:-1]) if "sales" in signal and tail.endswith("d") else 0


def fit_past(prepared: Prepared, cutoff_days: list[int]) -> PastTables:
    """Fit co-purchase neighbours and factors at each cutoff, with progress."""
    purchases = purchases_in_time(
        prepared.shopper_offsets,
        prepared.interaction_rows,
        prepared.interaction_times,
        prepared.interaction_prices,
        prepared.interaction_discounts,
    )
    fits: list[CollaborativeFit] = []
    for day in tqdm(cutoff_days, desc="Fitting item-kNN and ALS", unit="fit"):
        previous = fits[-1] if fits else None
        fits.append(fit_collaborative(purchases, prepared.size, day, previous=previous))
    return PastTables(purchases, tuple(fits))


def product_table(
    prepared: Prepared, stats: np.ndarray, fit: CollaborativeFit, day: int
) -> ProductTable:
    """Return the table of every product as of `day`."""
    return ProductTable(
        categories=_with_unknown(prepared.product_categories),
        levels=np.stack(
            [_with_unknown(prepared.product_leaves), _with_unknown(prepared.product_middles)], 1
        ),
        attributes=np.stack(
            [_with_unknown(prepared.product_brands), _with_unknown(prepared.product_sizes)], 1
        ),
        stats=stats,
        factors=fit.factors,
        neighbours=fit.neighbours,
        neighbour_weights=fit.neighbour_weights,
        gram=fit.gram,
        as_of_day=day,
    )


def _with_unknown(rows: np.ndarray) -> np.ndarray:
    return np.append(np.asarray(rows, np.int32), np.int32(0))


def tables_by_day(
    prepared: Prepared, past: PastTables, days: np.ndarray
) -> Iterator[tuple[int, ProductTable]]:
    """Yield the product table of each of `days`, ascending; each replaces the one before.

    A table takes the latest collaborative fit whose cutoff is not after its day.
    """
    stats = RollingStats(past.purchases, prepared.size, prepared.product_leaves)
    for day in days:
        stats.advance(int(day))
        usable = [fit for fit in past.fits if fit.cutoff_day <= day]
        yield int(day), product_table(prepared, stats.columns(), usable[-1], int(day))


def past_of(prepared: Prepared, page: int) -> slice:
    """Return where the interactions strictly before the page of its shopper are."""
    shopper = int(prepared.page_shoppers[page])
    first, last = (int(edge) for edge in prepared.shopper_offsets[shopper : shopper + 2])
    times = prepared.interaction_times[first:last]
    return slice(first, first + int(np.searchsorted(times, prepared.page_times[page])))


def page_of(prepared: Prepared, page: int, surface: int, candidates: np.ndarray) -> Page:
    """Return page number `page` of the log as the server would be asked for it.

    Args:
        prepared: The log.
        page: Which page.
        surface: Index into `SURFACES`.
        candidates: Indices into the log's flat candidate columns, shape (candidates,).
    """
    part = past_of(prepared, page)
    query = int(prepared.page_queries[page])
    return Page(
        query=prepared.queries[query] if query >= 0 else "",
        surface=surface,
        time=int(prepared.page_times[page]),
        rows=prepared.candidate_rows[candidates],
        retrieval_scores=prepared.candidate_scores[candidates],
        signals=prepared.candidate_signals[candidates],
        history=History(
            rows=np.asarray(prepared.interaction_rows[part]),
            times=np.asarray(prepared.interaction_times[part]),
            kinds=np.zeros(part.stop - part.start, np.int8),
            # two unknown places are not the same one
            same_place=(prepared.interaction_places[part] == prepared.page_places[page])
            & (prepared.page_places[page] >= 0),
            discounted=prepared.interaction_discounts[part] > 0,
        ),
    )


@dataclass(frozen=True, slots=True)
class PageSelection:
    """Pages to encode, in order of time.

    Attributes:
        pages: Page numbers of the log, shape (pages,).
        surfaces: Index into `SURFACES` of each, shape (pages,).
        offsets: Where each page's candidates start, shape (pages + 1,).
        candidates: Indices into the log's flat candidate columns, shape (rows,).
    """

    pages: np.ndarray
    surfaces: np.ndarray
    offsets: np.ndarray
    candidates: np.ndarray


def select_pages(prepared: Prepared, surfaces: tuple[str, ...]) -> PageSelection:
    """Return the log's pages of these surfaces; discovery pages are made from search pages.

    A discovery page keeps the candidates that the shopper never bought before, and is kept
    when one of them is a positive and there is something to choose from.

    Raises:
        ConfigError: When the log has no page of one of the surfaces.
    """
    pages: list[int] = []
    kinds: list[int] = []
    candidates: list[np.ndarray] = []
    positive = prepared.candidate_labels[:, 0] > 0
    names = [prepared.surfaces[int(index)] for index in prepared.page_surfaces]
    for page in tqdm(range(len(names)), desc="Selecting pages", unit="page"):
        start, stop = int(prepared.page_offsets[page]), int(prepared.page_offsets[page + 1])
        inside = np.arange(start, stop)
        if names[page] in surfaces:
            pages.append(page)
            kinds.append(SURFACES.index(names[page]))
            candidates.append(inside)
        if names[page] == "search" and "discovery" in surfaces:
            bought = prepared.interaction_rows[past_of(prepared, page)]
            fresh = inside[~np.isin(prepared.candidate_rows[start:stop], bought)]
            if fresh.size > 1 and positive[fresh].any():
                pages.append(page)
                kinds.append(SURFACES.index("discovery"))
                candidates.append(fresh)
    for surface in surfaces:
        if surface not in SURFACES or SURFACES.index(surface) not in kinds:
            raise ConfigError(
                f"surfaces: got {surface!r}, of which the log has no page, want some of those it "
                f"has: {', '.join(sorted({SURFACES[kind] for kind in kinds} | set(names)))}"
            )
    sizes = [part.size for part in candidates]
    return PageSelection(
        pages=np.array(pages, np.int64),
        surfaces=np.array(kinds, np.int8),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        candidates=np.concatenate(candidates),
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """Pages `start` to `stop` of a selection and the files they are written to."""

    folder: Path
    selection: PageSelection
    start: int
    stop: int
    schema: Schema


def encode_log(
    prepared: Prepared, past: PastTables, schema: Schema, selection: PageSelection, folder: Path
) -> None:
    """Write the arrays of the selected pages into `folder`.

    Files: `dense.npy` (rows, features) raw float32, `sequence_rows.npy` (pages, events) padded
    with -1, `sequence_features.npy` (pages, events, features). One process per core; each
    walks stretches of time.
    """
    offsets, count = selection.offsets, selection.pages.shape[0]
    length = schema.sequence_length
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "dense": ((int(offsets[-1]), len(schema.features)), np.float32),
        "sequence_rows": ((count, length), np.int32),
        "sequence_features": ((count, length, len(SEQUENCE_FEATURES)), np.float32),
    }
    for name, (shape, dtype) in shapes.items():
        _create_column(folder / f"{name}.npy", shape, dtype)
    workers = len(os.sched_getaffinity(0))
    edges = np.searchsorted(offsets, np.linspace(0, offsets[-1], 8 * workers + 1))
    jobs = [_Job(folder, selection, int(a), int(b), schema) for a, b in pairwise(edges) if b > a]
    context = multiprocessing.get_context("fork")  # the past is shared, not copied
    with warnings.catch_warnings():
        # the workers use none of the threads that other libraries keep in this process
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        pool = context.Pool(workers, _share, (prepared, past))
    with tqdm(total=count, desc="Encoding pages", unit="page") as bar, pool:
        for done in pool.imap_unordered(_encode_stretch, jobs):
            bar.update(done)
        pool.close()
        pool.join()


def _create_column(path: Path, shape: tuple[int, ...], dtype: Any) -> None:  # noqa: ANN401
    """Create an array file with all of its room on disk taken.

    A sparse file would take its room while workers write through a mapping, where a full disk
    is no error but the death of the worker.

    Raises:
        OSError: When the disk has no room for it.
    """
    open_memmap(path, "w+", dtype, shape).flush()
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


_shared: tuple[Prepared, PastTables] | None = None


def _share(prepared: Prepared, past: PastTables) -> None:
    global _shared  # noqa: PLW0603  set once per worker process, by its initialiser
    # Paddle, where it is imported, would print a trace when the pool ends a worker
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees Ctrl-C and ends its workers
    _shared = (prepared, past)


def _encode_stretch(job: _Job) -> int:
    assert _shared is not None  # the pool's initialiser has run
    prepared, past = _shared
    chosen = job.selection
    dense = np.load(job.folder / "dense.npy", mmap_mode="r+")
    rows = np.load(job.folder / "sequence_rows.npy", mmap_mode="r+")
    features = np.load(job.folder / "sequence_features.npy", mmap_mode="r+")
    days = prepared.page_times[chosen.pages[job.start : job.stop]] // SECONDS_PER_DAY
    encoder = FeatureEncoder(job.schema, prepared.size + 1)
    for day, table in tables_by_day(prepared, past, np.unique(days)):
        for index in np.flatnonzero(days == day) + job.start:
            inside = slice(int(chosen.offsets[index]), int(chosen.offsets[index + 1]))
            page = page_of(
                prepared,
                int(chosen.pages[index]),
                int(chosen.surfaces[index]),
                chosen.candidates[inside],
            )
            encoded = encoder.encode(page, table)
            dense[inside] = encoded.dense
            events = encoded.sequence_rows.shape[0]
            rows[index] = -1
            rows[index, :events] = encoded.sequence_rows
            features[index, :events] = encoded.sequence_features
    return job.stop - job.start


def fit_scales(schema: Schema, dense: np.ndarray, sample: np.ndarray) -> Schema:
    """Return the schema with mean and scale of each feature over the `sample` rows of `dense`."""
    values = np.asarray(dense[sample], np.float64)
    specs = []
    for index, spec in enumerate(schema.features):
        column = values[:, index]
        column = column[np.isfinite(column)]
        if spec.transform == "log1p":
            column = np.log1p(np.maximum(column, 0))
        mean = float(column.mean()) if column.size else 0.0
        scale = float(column.std()) if column.size else 1.0
        specs.append(replace(spec, mean=mean, scale=max(scale, 1e-3)))
    return replace(schema, features=tuple(specs))


def quantile_edges(normalised: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin edges of each feature, shape (features, bins + 1), strictly increasing.

    Edges are quantiles of the values other than the most common one, which stands for
    "nothing known" in counts and would take most edges for itself.
    """
    edges = np.empty((normalised.shape[1], bins + 1))
    for index in range(normalised.shape[1]):
        column = normalised[:, index]
        values, counts = np.unique(column, return_counts=True)
        rest = column[column != values[counts.argmax()]]
        rest = rest if rest.size else column
        edges[index] = np.quantile(rest, np.linspace(0, 1, bins + 1))
    edges[:, 0] = np.minimum(edges[:, 0], normalised.min(axis=0))
    # equal edges would divide by zero; a thin bin makes a step of them
    return np.maximum.accumulate(edges + np.arange(bins + 1) * 1e-3, axis=1)
