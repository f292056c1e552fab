"""The events of shoppers, in order, and which of them are asked for: the formats of shoppers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.formats.columns import Table
from trainer.formats.errors import DataError
from trainer.formats.labelled_pages import TEST, TRAIN, VALIDATION, codes

Integers = npt.NDArray[np.int64]

_TRAIN_FROM, _VALIDATION_FROM, _TEST_FROM = 0.6, 0.8, 0.9
_LATEST = {"train": TRAIN, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True, slots=True)
class Events:
    """What shoppers did, sorted by shopper, then order; of positive strength only.

    Attributes:
        shopper: Shopper of each event, shape (events,).
        product: Product row of each event.
        time: Its time or place in the shopper's order.
        grade: 1 for a positive, more for a better one.
        product_ids: By product row.
        category: Category code by product row, 0 for none.
        categories: Names; code c is `categories[c - 1]`.
        split: `TRAIN`, `VALIDATION` or `TEST` where the data say it of shoppers, else -1.
        timed: Whether `time` is one clock for all shoppers.
    """

    shopper: Integers
    product: Integers
    time: Integers
    grade: npt.NDArray[np.uint8]
    product_ids: list[str]
    category: npt.NDArray[np.int32]
    categories: tuple[str, ...]
    split: npt.NDArray[np.int8]
    timed: bool

    @property
    def first(self) -> Integers:
        """The first event of the shopper of each event, shape (events,)."""
        return np.searchsorted(self.shopper, self.shopper).astype(np.int64)

    @property
    def last(self) -> Integers:
        """One past the last event of the shopper of each event, shape (events,)."""
        return np.searchsorted(self.shopper, self.shopper, side="right").astype(np.int64)

    def first_of(self, event: int) -> int:
        """Return the first event of the shopper of an event."""
        return int(np.searchsorted(self.shopper, self.shopper[event]))

    def last_of(self, event: int) -> int:
        """Return one past the last event of the shopper of an event."""
        return int(np.searchsorted(self.shopper, self.shopper[event], side="right"))


def read_events(tables: list[Table], catalogue: Table | None = None) -> Events:
    """Read the tables of events of a folder, one after another.

    A rating in the lower half of its scale, the middle with it, is no positive and no history; of
    the others, the lowest has grade 1 and each next value one more. The category of a product is
    the catalogue's, else the events'.

    Args:
        tables: All with the same columns.
        catalogue: Products with a category, or none.

    Raises:
        DataError: When nothing is left, or times are no numbers.
    """
    frame = pl.concat([_plain(table) for table in tables])
    frame = frame.unique(["shopper", "product", "time"], keep="first", maintain_order=True)
    frame, grade = _positives(frame)
    if frame.height == 0:
        raise DataError(f"{tables[0].path.name}: got no event with a shopper and a product")
    time = frame["time"].to_numpy().astype(np.int64)
    ids = frame["product"].unique().sort().to_list()
    row_of = {name: row for row, name in enumerate(ids)}
    shoppers = frame["shopper"].unique().sort().to_list()
    shopper_of = {name: row for row, name in enumerate(shoppers)}
    product = np.array([row_of[name] for name in frame["product"].to_list()], np.int64)
    shopper = np.array([shopper_of[name] for name in frame["shopper"].to_list()], np.int64)
    names = _categories(frame, ids, catalogue)
    category, categories = codes(names)
    order = np.lexsort((frame["order"].to_numpy(), time, shopper))
    return Events(
        shopper=shopper[order],
        product=product[order],
        time=time[order],
        grade=grade[order],
        product_ids=ids,
        category=category,
        categories=categories,
        split=frame["split"].to_numpy().astype(np.int8)[order],
        timed=tables[0].column("time") is not None,
    )


def _plain(table: Table) -> pl.DataFrame:
    """Return shopper, product, time, order, rating, category, split; missing ones filled."""
    height = table.frame.height
    order = table.column("order")
    time = table.column("time")
    at = table.frame[time] if time is not None else table.read("order")
    if at.dtype == pl.String:
        at = at.str.to_datetime(strict=False, time_unit="us", time_zone="UTC")
    if at.dtype.is_temporal():
        at = at.cast(pl.Datetime("us")).dt.epoch("s")
    numbers = at.cast(pl.Float64, strict=False)
    if numbers.null_count():
        raise DataError(
            f"{table.path.name}: got {numbers.null_count()} times of {height} that are neither "
            "numbers nor dates, want all"
        )
    split = table.column("split")
    return pl.DataFrame(
        {
            "shopper": table.read("shopper").cast(pl.String),
            "product": table.read("product").cast(pl.String),
            "time": numbers.cast(pl.Int64),
            "order": table.frame[order].cast(pl.Int64) if order else pl.arange(height, eager=True),
            "rating": _numbers(table, "rating"),
            "category": table.text("category"),
            "split": [
                _LATEST.get(name.lower(), -1) for name in table.text("split")
            ] if split else np.full(height, -1),
        }
    ).drop_nulls(["shopper", "product"])  # fmt: skip


def _numbers(table: Table, meaning: str) -> pl.Series:
    name = table.column(meaning)
    if name is None:
        return pl.Series(np.ones(table.frame.height))
    return table.frame[name].cast(pl.Float64, strict=False).fill_null(float("-inf"))


def _positives(frame: pl.DataFrame) -> tuple[pl.DataFrame, npt.NDArray[np.uint8]]:
    """Keep positive ratings; return their grades."""
    ratings = frame["rating"].to_numpy()
    finite = ratings[np.isfinite(ratings)]
    if finite.size == 0:
        return frame.clear(), np.zeros(0, np.uint8)
    low, high = float(finite.min()), float(finite.max())
    kept = np.isfinite(ratings) & ((ratings > (low + high) / 2) | (low == high))
    levels = np.unique(np.ceil(ratings[kept]))
    grade = 1 + np.minimum(np.searchsorted(levels, np.ceil(ratings[kept])), 4)
    return frame.filter(pl.Series(kept)), grade.astype(np.uint8)


def _categories(frame: pl.DataFrame, ids: list[str], catalogue: Table | None) -> list[str]:
    """Return the category of each product, "" for none."""
    found: dict[str, str] = {}
    known = frame.filter(pl.col("category") != "").unique(subset="product", keep="first")
    found.update(zip(known["product"].to_list(), known["category"].to_list(), strict=True))
    if catalogue is not None and catalogue.column("category") is not None:
        pairs = zip(catalogue.text("id"), catalogue.text("category"), strict=True)
        found.update({name: category for name, category in pairs if category})
    return [found.get(name, "") for name in ids] if found else ["(all)"] * len(ids)


def splits_by_time(events: Events) -> tuple[npt.NDArray[np.int8], str]:
    """Return the split of each event by the clock: the last tenth is tested, -1 is history only."""
    moments = np.quantile(events.time, [_TRAIN_FROM, _VALIDATION_FROM, _TEST_FROM])
    if np.unique(moments).size < moments.size:
        raise DataError("times: got too few different ones to split by, want three periods or more")
    split = np.searchsorted(moments, events.time, side="right") - 1
    return split.astype(np.int8), (
        "time split: events of the last tenth are tested, the tenth before validates, pages of the "
        "fifth before that are trained on, all of it with the past before it"
    )


def splits_leave_last_out(events: Events) -> tuple[npt.NDArray[np.int8], str]:
    """Return the split of each event: a shopper's last is tested, the one before validates.

    The two before these are trained on, so that training pages see neighbours which know as
    little of what came last as those of test pages. Where the data say which shoppers are for
    training, validation and test, the last event of each is asked of it instead, and of training
    shoppers the one before too. A shopper's first event has no past, so it is asked of nobody.
    Where events have places and no time, those of one place are asked alike.
    """
    place = np.arange(events.shopper.size)
    step = place
    if not events.timed and place.size:
        fresh = (np.diff(events.shopper, prepend=-1) != 0) | (np.diff(events.time, prepend=-1) != 0)
        step = np.cumsum(fresh)
    from_end = step[events.last - 1] - step
    if (events.split >= 0).all():
        asked = (from_end == 0) | ((events.split == TRAIN) & (from_end == 1))
        split = np.where(asked, events.split, -1)
        told = "shoppers split as the data say, each asked for the last event"
    else:
        by_place = np.array([TEST, VALIDATION, TRAIN, TRAIN, -1])
        split = by_place[np.minimum(from_end, by_place.size - 1)]
        told = "leave last out: a shopper's last event is tested, the one before validates"
    return np.where(step > step[events.first], split, -1).astype(np.int8), told


def first_at_once(events: Events, seconds: int) -> Integers:
    """Return the first event of each event's own shopper and stretch of so many seconds."""
    day = events.time // seconds
    starts = np.ones(day.size, np.bool_)
    starts[1:] = (np.diff(day) != 0) | (np.diff(events.shopper) != 0)
    place = np.maximum.accumulate(np.where(starts, np.arange(day.size), 0))
    return place.astype(np.int64)
