"""Which products a place promotes in a period, as sorted keys."""

from __future__ import annotations

from dataclasses import dataclass

import narwhals as nw
import numpy as np
import numpy.typing as npt

from trainer.errors import LogFileError
from trainer.logs.engine import Engine, Lines
from trainer.logs.log import Promotions
from trainer.logs.log_arrays import LogArrays

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PromotionArrays:
    """Promoted products, sorted by period, place and product row, one row each.

    Attributes:
        keys: (period * places + place) * products + row, int64, ascending.
        display: Ordinal code of the display location, int8, 0 none.
        mailer: Ordinal code of the mailer location, int8, 0 none.
        places: Number of places.
        products: Number of products.
    """

    keys: Ints
    display: npt.NDArray[np.int8]
    mailer: npt.NDArray[np.int8]
    places: int
    products: int

    def _base(self, period: npt.NDArray[np.int32], place: npt.NDArray[np.int32]) -> Ints:
        known = (period >= 0) & (place >= 0)
        base = (period.astype(np.int64) * self.places + place) * self.products
        return np.where(known, base, -self.products)

    def find(
        self,
        period: npt.NDArray[np.int32],
        place: npt.NDArray[np.int32],
        row: npt.NDArray[np.int32],
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return the index of each promoted product and whether it is promoted at all."""
        keys = self._base(period, place) + row
        index = np.searchsorted(self.keys, keys)
        index[index == self.keys.shape[0]] = 0
        if not self.keys.shape[0]:
            return index, np.zeros(keys.shape, np.bool_)
        return index, self.keys[index] == keys

    def slices(
        self, period: npt.NDArray[np.int32], place: npt.NDArray[np.int32]
    ) -> tuple[Ints, Ints]:
        """Return where the products of each place's period start, and how many they are."""
        base = self._base(period, place)
        starts = np.searchsorted(self.keys, base)
        return starts, np.searchsorted(self.keys, base + self.products) - starts

    def rows(self, index: Ints) -> npt.NDArray[np.int32]:
        """Return the product row of each promotion."""
        return (self.keys[index] % self.products).astype(np.int32)


def encode_promotions(promotions: Promotions, log: LogArrays, *, periods: Ints) -> PromotionArrays:
    """Code the promotions of known products and places in the given periods.

    A product that is listed twice for one place and period keeps its larger codes.

    Raises:
        LogFileError: A location is not one of those known.
    """
    products, places = log.products.count, len(log.interactions.places)
    engine = promotions.engine
    rows = promotions.rows.filter(nw.col("period").is_in(periods.tolist()))
    product_ids = [record["id"] for record in log.products.records]
    rows = _join_codes(rows, "product", product_ids, engine)
    rows = _join_codes(rows, "place", log.interactions.places, engine)
    place_base = nw.col("period").cast(nw.Int64()) * places + nw.col("place_code")
    display, mailer = nw.col("display").cast(nw.Int16()), nw.col("mailer").cast(nw.Int16())
    known = (display >= 0) & (mailer >= 0)
    coded = rows.select(
        key=place_base * products + nw.col("product_code"),
        code=nw.when(known).then(display * 128 + mailer).otherwise(-1).cast(nw.Int16()),
    )
    table = engine.collect(coded, "promotions")
    keys, codes = table["key"].to_numpy(), table["code"].to_numpy()
    if (codes < 0).any():
        raise LogFileError(
            f"promotions: got {int((codes < 0).sum())} rows with a display or mailer location that "
            "is not known, want those of the package"
        )
    order = np.lexsort((-codes, keys))
    keys, codes = keys[order], codes[order]
    first = np.ones(keys.shape, np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    keys, codes = keys[first], codes[first]
    return PromotionArrays(
        keys=keys,
        display=(codes // 128).astype(np.int8),
        mailer=(codes % 128).astype(np.int8),
        places=places,
        products=products,
    )


def _join_codes(rows: Lines, column: str, ids: list[str], engine: Engine) -> Lines:
    dtype = rows.collect_schema()[column]
    index = nw.from_dict(
        {column: ids, f"{column}_code": list(range(len(ids)))},
        schema={column: nw.String(), f"{column}_code": nw.Int32()},
        backend="polars",
    )
    codes = engine.lend(index, column).with_columns(nw.col(column).cast(dtype))
    return rows.join(codes, on=column, how="inner")
