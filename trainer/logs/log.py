"""The tables of a shop's log as data frames of known columns, before they are encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw

from trainer.logs.clean import CleaningReport
from trainer.logs.engine import POLARS, Engine, Lines

Frame = nw.DataFrame[Any]


@dataclass(frozen=True, slots=True)
class Promotions:
    """Which products a place promotes in which period.

    Attributes:
        rows: One row per product, place and period, lazily: `product` and `place` (ids, text or
            numbers), `period` (int), `display` and `mailer` (ordinal codes of the location, 0 is
            none, -1 is one that is not known).
        engine: Where the rows are.
    """

    rows: Lines
    engine: Engine = POLARS


@dataclass(frozen=True, slots=True)
class Log:
    """A cleaned log.

    Attributes:
        products: `id` (string, unique), `text`, `category` (task category), `category_path`
            (list of names, the leaf last), `brand`, `size` (both null where absent).
        interactions: `shopper`, `product`, `place` (ids as strings), `time` (unix seconds),
            `period` (promotion period, -1 none), `quantity`, `price` (NaN missing),
            `discount` (share in [0, 1]); where labels read them, further columns named by
            `trainer.logs.labels.value_column`, and `kind`.
        promotions: Absent where the shop has none.
        searches: `query_id` (unique), `text`, `shopper`, `time`, `candidates` (product ids in the
            order shown), `scores` (their retrieval scores, null where absent); absent where the
            shop has no search log.
        events: `query_id`, `shopper`, `product`, `time`, `kind`, and columns that labels
            read, as in `interactions`; absent as `searches` is.
        report: What cleaning did.
    """

    products: Frame
    interactions: Frame
    promotions: Promotions | None
    searches: Frame | None
    events: Frame | None
    report: CleaningReport
