"""Events of shoppers as pages: the formats `ratings` and `interactions+items`.

A page asks which product of a category the shopper takes next, given what was before it. All that
is counted or fitted for a page is from before it, and never from the event that it asks for; in
`interactions+items` it is from other shoppers, whatever the time, since the split is by shopper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.formats.columns import Table
from trainer.formats.errors import DataError
from trainer.formats.events import (
    Events,
    first_at_once,
    read_events,
    splits_by_time,
    splits_leave_last_out,
)
from trainer.formats.labelled_pages import TEST, TRAIN, VALIDATION, LabelledPages
from trainer.formats.memory import check_memory
from trainer.formats.neighbours import Neighbours, fit_neighbours
from trainer.formats.retrieved import retrieve
from trainer.formats.shopper_features import FEATURES, TargetPages, shopper_features

Integers = npt.NDArray[np.int64]

_HISTORY = 32
_MOST_PAST = 200  # events of a page's past that features read
_GROUPS = 4  # of shoppers, each unseen by the neighbours that its training pages read


@dataclass(frozen=True, slots=True)
class ShopperLimits:
    """How much of a folder is used.

    Attributes:
        pages: Most pages for train, validation and test, drawn at random.
        candidates: Of a training or validation page, the asked one included.
        test_candidates: Of a test page.
        drop_same_day: Leave the events of the asked event's own day out of its past.
        full: Rank the whole category, but what the shopper had: candidates are what kNN, texts and
            popularity retrieve out of it, and a product that they miss counts as not found.
    """

    pages: tuple[int, int, int] = (6_000, 1_000, 2_000)
    candidates: int = 100
    test_candidates: int = 100
    drop_same_day: bool = False
    full: bool = False


def pages_of_ratings(tables: list[Table], limits: ShopperLimits, seed: int) -> LabelledPages:
    """Return the pages of a time split; what has the time of the asked event is no past of it.

    Raises:
        DataError: When the events cannot be split, or nothing is left to rank.
    """
    events = read_events(tables)
    split, protocol = splits_by_time(events)
    seconds = SECONDS_PER_DAY if limits.drop_same_day else 1
    ends = first_at_once(events, seconds)
    return _pages("ratings", events, split, ends, protocol, {}, limits, seed)


def pages_of_interactions(
    tables: list[Table], items: list[Table], limits: ShopperLimits, seed: int
) -> LabelledPages:
    """Return the pages of a leave-last-out split; the past is all that comes before in order.

    Raises:
        DataError: When the events cannot be split, or nothing is left to rank.
    """
    catalogue = max(items, key=lambda table: table.frame.height)
    events = read_events(tables, catalogue)
    split, protocol = splits_leave_last_out(events)
    texts = catalogue.text("title", "brand", "description")
    by_id = dict(zip(catalogue.text("id"), texts, strict=True))
    ends = np.arange(events.shopper.size) if events.timed else first_at_once(events, 1)
    if limits.drop_same_day and events.timed:
        ends = first_at_once(events, SECONDS_PER_DAY)
        protocol += ", without the past of the same day"
    return _pages("interactions+items", events, split, ends, protocol, by_id, limits, seed)


def _pages(
    name: str,
    events: Events,
    split: npt.NDArray[np.int8],
    ends: Integers,
    protocol: str,
    texts: dict[str, str],
    limits: ShopperLimits,
    seed: int,
) -> LabelledPages:
    random = np.random.default_rng(seed)
    targets = _targets(events, split, limits, random)
    product_texts = [texts.get(product, "") for product in events.product_ids]
    by_time = name == "ratings"
    fits, fit_of = (_fits_by_time if by_time else _fits_by_shopper)(events, split, targets)
    end = ends[targets]
    begin = np.maximum(events.first[targets], end - _MOST_PAST)
    parts = split[targets].astype(np.int64)
    most = np.where(parts == TEST, limits.test_candidates, limits.candidates)
    check_memory(int(most.sum()), len(FEATURES), len(product_texts), "smaller --pages")
    found: list[Integers]
    if limits.full:
        found = retrieve(events, targets, (begin, end), fits, fit_of, product_texts, most)
    else:
        found = _drawn(events, targets, most, random)
    kept = _reached(events, targets, found, parts) if limits.full else np.ones(len(found), np.bool_)
    targets, begin, end, parts = targets[kept], begin[kept], end[kept], parts[kept]
    fit_of = fit_of[kept]
    candidates = [rows for rows, keep in zip(found, kept.tolist(), strict=True) if keep]
    sizes = np.array([rows.size for rows in candidates])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.concatenate(candidates)
    page = TargetPages(offsets, rows, begin, end)
    asked = np.repeat(events.product[targets], sizes)
    return LabelledPages(
        format=name,
        protocol=f"{protocol}; {_told(limits)}",
        surface="home",
        product_texts=product_texts,
        product_categories=events.category,
        product_brands=np.zeros(len(events.product_ids), np.int32),
        categories=events.categories,
        brands=(),
        queries=[],
        offsets=offsets,
        rows=rows.astype(np.int32),
        grades=np.where(rows == asked, np.repeat(events.grade[targets], sizes), 0).astype(np.uint8),
        dense=shopper_features(events, page, fits, fit_of, product_texts),
        feature_names=FEATURES,
        clusters=events.shopper[targets].astype(np.int32),
        page_queries=np.full(targets.size, -1, np.int32),
        positives_total=np.ones(targets.size, np.int32),
        history=_history(events, begin, end),
        folds=(parts.astype(np.int8),),
        rankings={
            "popularity": "popularity",
            "item-kNN": "knn_all",
            "item-kNN, own category": "knn_own_category",
            "sequential item-kNN": "knn_after",
            "random walk": "walk",
        },
        facts={
            "shoppers": int(np.unique(events.shopper).size),
            "products": len(events.product_ids),
            "positive events": int(events.shopper.size),
            "most pages per split": ", ".join(map(str, limits.pages)),
        },
    )


def _told(limits: ShopperLimits) -> str:
    """Return what a page's candidates are, in words."""
    if limits.full:
        return (
            f"full ranking of the category but what the shopper had, of which {limits.candidates} "
            "retrieved candidates are reordered; a product that is not among them counts as 0"
        )
    return (
        f"{limits.test_candidates - 1} others of its category, drawn evenly (training and "
        f"validation {limits.candidates - 1})"
    )


def _drawn(
    events: Events, targets: Integers, most: Integers, random: np.random.Generator
) -> list[Integers]:
    members = [
        np.flatnonzero(events.category == code) for code in range(len(events.categories) + 1)
    ]
    return [
        _draw(events, members, target, count, random)
        for target, count in zip(targets.tolist(), most.tolist(), strict=True)
    ]


def _reached(
    events: Events, targets: Integers, found: list[Integers], parts: Integers
) -> npt.NDArray[np.bool_]:
    """Flag the pages with the asked product among the candidates, and every test page."""
    asked = events.product[targets].tolist()
    kept: npt.NDArray[np.bool_] = parts == TEST
    kept |= [bool((rows == product).any()) for rows, product in zip(found, asked, strict=True)]
    return kept


def _targets(
    events: Events, split: npt.NDArray[np.int8], limits: ShopperLimits, random: np.random.Generator
) -> Integers:
    """Return the events that are asked for, at most so many of each split, in time order."""
    chosen = []
    sizes = np.bincount(events.category, minlength=len(events.categories) + 1)
    rankable = sizes[events.category[events.product]] > 1  # one product is no choice
    for part, most in zip((TRAIN, VALIDATION, TEST), limits.pages, strict=True):
        places = np.flatnonzero((split == part) & rankable)
        if places.size == 0:
            name = ("training", "validation", "test")[part]
            raise DataError(f"events: got none for {name} pages, want shoppers with three or more")
        chosen.append(random.permutation(places)[:most])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _fits_by_time(
    events: Events, split: npt.NDArray[np.int8], targets: Integers
) -> tuple[list[Neighbours], Integers]:
    """Return the fit that pages of each split read: on what no page of it or a later one asks."""
    size = len(events.product_ids)
    chosen = [split < part for part in (TRAIN, VALIDATION, TEST)]
    fits = [fit_neighbours(events.shopper[c], events.product[c], size) for c in chosen]
    return fits, split[targets].astype(np.int64)


def _fits_by_shopper(
    events: Events, split: npt.NDArray[np.int8], targets: Integers
) -> tuple[list[Neighbours], Integers]:
    """Return fits on what is neither for validation nor for test.

    A training page reads one that its shopper's group has no part in, so that it does not know
    what the page asks for and still knows nearly as much as that of test pages, which is on all.
    """
    size, group = len(events.product_ids), events.shopper % _GROUPS
    known = split < VALIDATION
    chosen = [known & (group != number) for number in range(_GROUPS)] + [known]
    fits = [fit_neighbours(events.shopper[c], events.product[c], size) for c in chosen]
    training = split[targets] == TRAIN
    return fits, np.where(training, group[targets], _GROUPS).astype(np.int64)


def _draw(
    events: Events, members: list[Integers], target: int, count: int, random: np.random.Generator
) -> Integers:
    """Return the asked product among others of its category that the shopper never takes."""
    asked = events.product[target]
    pool = members[int(events.category[asked])]
    taken = events.product[events.first_of(target) : events.last_of(target)]
    others = random.choice(pool, min(pool.size, count + taken.size), replace=False)
    others = others[~np.isin(others, taken)][: count - 1]
    return random.permutation(np.append(others, asked)).astype(np.int64)


def _history(events: Events, begin: Integers, end: Integers) -> npt.NDArray[np.int32]:
    """Return the last events before each target, oldest first, -1 padded, shape (pages, 32)."""
    history = np.full((end.size, _HISTORY), -1, np.int32)
    for page, (a, b) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        part = events.product[max(a, b - _HISTORY) : b]
        history[page, : part.size] = part
    return history
