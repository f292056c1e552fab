"""Which products the places of the Complete Journey log promote in one week."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from deploy.demo.errors import CatalogueError
from rerank_server.contract.page import Floats, Rows
from trainer.logs.complete_journey import DISPLAY_LOCATIONS, MAILER_LOCATIONS

# Weeks begin on Monday, midnight in New York, which is UTC-5 in winter; the first day of the log
# ends week 1.
_WEEK_ONE = date(2016, 12, 26)
_MIDNIGHT = timedelta(hours=5)


@dataclass(frozen=True, slots=True, eq=False)
class PlacePromotions:
    """What one place promotes in a week; arrays of equal length.

    Attributes:
        rows: Product rows, ascending, each once.
        display: Ordinal code of the display location, float32, 0 none.
        mailer: Ordinal code of the mailer location, float32, 0 none.
    """

    rows: Rows
    display: Floats
    mailer: Floats


def week_of(time: int) -> int:
    """The log's week number of a time in Unix seconds."""
    day = (datetime.fromtimestamp(time, UTC) - _MIDNIGHT).date()
    return 1 + (day - _WEEK_ONE).days // 7


def read_promotions(
    path: Path, week: int, *, product_ids: Sequence[str], places: Sequence[str]
) -> Mapping[str, PlacePromotions]:
    """What each of `places` promotes in `week`, by place; places with nothing are left out.

    A product that is listed twice keeps its larger codes.

    Raises:
        CatalogueError: The file is missing, damaged, or has other columns.
    """
    try:
        table = (
            pl.scan_parquet(path)
            .filter(pl.col("week") == week)
            .select(
                pl.col("product_id").cast(pl.String).alias("product"),
                pl.col("store_id").cast(pl.String).alias("place"),
                _ordinal("display_location", DISPLAY_LOCATIONS),
                _ordinal("mailer_location", MAILER_LOCATIONS),
            )
            .join(_codes("product", product_ids).lazy(), on="product")
            .filter(pl.col("place").is_in(list(places)))
            .group_by("place", "row")
            .agg(pl.col("display_location", "mailer_location").max())
            .sort("place", "row")
            .collect()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(f"promotions in {path}: got {error}, want a readable table") from error
    return {
        str(key[0]): PlacePromotions(
            rows=part["row"].to_numpy(),
            display=part["display_location"].to_numpy().astype(np.float32),
            mailer=part["mailer_location"].to_numpy().astype(np.float32),
        )
        for key, part in table.partition_by("place", as_dict=True).items()
    }


def _ordinal(column: str, values: tuple[str, ...]) -> pl.Expr:
    codes = list(range(len(values)))
    return pl.col(column).replace_strict(list(values), codes, return_dtype=pl.Int8)


def _codes(column: str, ids: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame({column: list(ids), "row": np.arange(len(ids), dtype=np.int32)})
