"""What a log must fulfil before it is cleaned; each rule names what was got and what is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import narwhals as nw

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.errors import (
    CategoryConflictError,
    DuplicateIdError,
    EmptyTableError,
    NumberError,
    SingleCategoryError,
    TimeValueError,
)
from trainer.logs.labels import value_column
from trainer.logs.log_config import TimeFormat

Frame = nw.DataFrame[Any]

UNITS_PER_SECOND: dict[TimeFormat, int] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
}
# Seconds since 1970 stay under this until the year 5138; milliseconds passed it in March 1973.
LARGEST_SECONDS = 100_000_000_000
# Logs end after March 1973; earlier times are seconds read as a smaller unit.
SMALLEST_SECONDS = 100_000_000


def check_not_empty(frame: Frame, table: str, *, when: str) -> None:
    """Refuse a table without rows.

    Raises:
        EmptyTableError: There is none.
    """
    if not len(frame):
        raise EmptyTableError(f"{table}: got 0 rows {when}, want 1 or more")


def check_product_ids(products: Frame) -> None:
    """Refuse a catalogue that lists one id on several rows.

    Raises:
        CategoryConflictError: The rows of an id differ in their category path.
        DuplicateIdError: They differ in something else.
    """
    counts = products.group_by("id").agg(nw.len().alias("rows")).filter(nw.col("rows") > 1)
    if not len(counts):
        return
    identifier = min(counts["id"].to_list())
    rows = products.filter(nw.col("id") == identifier)
    paths = {" > ".join(path) for path in rows["category_path"].to_list()}
    if len(paths) > 1:
        raise CategoryConflictError(
            f"products: got {len(paths)} category paths for id {identifier!r} "
            f"({'; '.join(sorted(paths))}), want one"
        )
    raise DuplicateIdError(
        f"products: got {len(counts)} ids on several rows, {identifier!r} among them, "
        "want one row per id"
    )


def check_categories(products: Frame, *, allow_single: bool) -> None:
    """Refuse a catalogue of one task category unless that is wanted.

    Raises:
        SingleCategoryError: There is only one.
    """
    names = products["category"].unique().to_list()
    if len(names) == 1 and not allow_single:
        raise SingleCategoryError(
            f"products: got the one category {names[0]!r}, want two or more to learn from each "
            "other (or allow_single_category = true)"
        )


def check_finite(frame: Frame, table: str, columns: Iterable[str]) -> None:
    """Refuse NaN and infinite numbers; null is a missing number and passes.

    Raises:
        NumberError: A column holds one.
    """
    schema = frame.schema
    for column in columns:
        if not schema[column].is_float():
            continue
        wrong = frame.filter(~nw.col(column).is_finite())
        if len(wrong):
            name = column.removeprefix(value_column(""))
            raise NumberError(
                f"{table}.{name}: got {len(wrong)} NaN or infinite numbers, want finite ones "
                "(null where missing)"
            )


def to_unix_seconds(
    frame: Frame, table: str, column: str, time_format: TimeFormat, *, now: int
) -> Frame:
    """Return the frame with `column` as unix seconds, int64; null stays null.

    Text without an offset is UTC.

    Args:
        frame: Rows with the column as read.
        table: Name of the table, for errors.
        column: Name of the column.
        time_format: What the column holds; a column of timestamps needs none.
        now: Unix seconds; a time over a day later is an error.

    Raises:
        TimeValueError: The times are text where numbers are configured (or the reverse), look like
            another unit, or lie in the future.
    """
    dtype = frame.schema[column]
    where = f"{table}.{column}"
    if dtype == nw.Datetime:
        frame = frame.with_columns(nw.col(column).dt.timestamp("ms") // 1000)
    elif dtype == nw.String:
        frame = _parse_text(frame, where, column, time_format)
    elif not dtype.is_numeric():
        raise TimeValueError(f"{where}: got values of type {dtype}, want times")
    else:
        frame = _scale_number(frame, where, column, time_format)
    latest = frame[column].max()
    if latest is not None and latest > now + SECONDS_PER_DAY:
        late = len(frame.filter(nw.col(column) > now + SECONDS_PER_DAY))
        raise TimeValueError(
            f"{where}: got {late} times in the future, the latest {latest}, want none after {now}"
        )
    return frame


def _parse_text(frame: Frame, where: str, column: str, time_format: TimeFormat) -> Frame:
    example = next((value for value in frame[column].to_list() if value is not None), "")
    if time_format != "iso":
        raise TimeValueError(
            f'{where}: got text such as {example!r}, want {time_format} (or time_format = "iso")'
        )
    seconds: list[int | None] = []
    for value in frame[column].to_list():
        try:
            moment = None if value is None else datetime.fromisoformat(value)
        except ValueError as error:
            raise TimeValueError(
                f"{where}: got text such as {value!r}, want times such as 2017-06-26T04:00:00Z"
            ) from error
        if moment is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds.append(None if moment is None else int(moment.timestamp()))
    series = nw.new_series(column, seconds, nw.Int64(), backend=frame.implementation)
    return frame.with_columns(series)


def _scale_number(frame: Frame, where: str, column: str, time_format: TimeFormat) -> Frame:
    if time_format == "iso":
        raise TimeValueError(f'{where}: got numbers, want text (or time_format = "seconds")')
    if frame.schema[column].is_float():
        check_finite(frame, where.split(".", maxsplit=1)[0], [column])
    number = nw.col(column).cast(nw.Int64())
    if time_format == "days":
        seconds = number * SECONDS_PER_DAY
    else:
        seconds = number // UNITS_PER_SECOND[time_format]
    scaled = frame.with_columns(seconds.alias(column))
    largest = scaled[column].max()
    if largest is not None and largest > LARGEST_SECONDS:
        raise TimeValueError(
            f"{where}: got {frame[column].max()}, want {time_format} (a smaller unit was read: "
            'set time_format to "milliseconds" or "microseconds")'
        )
    if time_format in ("milliseconds", "microseconds") and 0 <= (largest or 0) < SMALLEST_SECONDS:
        raise TimeValueError(
            f"{where}: got {frame[column].max()}, want {time_format} (a larger unit was read: set "
            'time_format to "seconds")'
        )
    return scaled
