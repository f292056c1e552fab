"""What a log must fulfil before it is cleaned; each rule names what was got and what is wanted."""

from __future__ import annotations

from collections.abc import Iterable

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
from trainer.logs.engine import POLARS, Engine, Frame, Lines
from trainer.logs.labels import value_column
from trainer.logs.log_config import TimeFormat

UNITS_PER_SECOND: dict[TimeFormat, int] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
}
# Seconds since 1970 stay under this until the year 5138; milliseconds passed it in March 1973.
LARGEST_SECONDS = 100_000_000_000
# Logs end after March 1973; earlier times are seconds read as a smaller unit.
SMALLEST_SECONDS = 100_000_000

_PARSED = "parsed time"


def check_not_empty(rows: int, table: str, *, when: str) -> None:
    """Refuse a table without rows.

    Raises:
        EmptyTableError: There is none.
    """
    if not rows:
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


def check_finite(lines: Lines, table: str, columns: Iterable[str], engine: Engine = POLARS) -> None:
    """Refuse NaN and infinite numbers; null is a missing number and passes.

    Raises:
        NumberError: A column holds one.
    """
    schema = lines.collect_schema()
    floats = [column for column in columns if schema[column].is_float()]
    if not floats:
        return
    wrong = [
        nw.when(~nw.col(column).is_finite())
        .then(1)
        .otherwise(0)
        .cast(nw.Int64())
        .sum()
        .alias(column)
        for column in floats
    ]
    counts = engine.collect_few(lines.select(*wrong), table)
    for column in floats:
        found = int(counts[column].item() or 0)
        if found:
            name = column.removeprefix(value_column(""))
            raise NumberError(
                f"{table}.{name}: got {found} NaN or infinite numbers, want finite ones "
                "(null where missing)"
            )


def to_unix_seconds(
    lines: Lines,
    table: str,
    column: str,
    time_format: TimeFormat,
    *,
    dtype: nw.dtypes.DType,
    now: int,
    engine: Engine = POLARS,
) -> Lines:
    """Return the lines with `column` as unix seconds, int64; null stays null.

    Text without an offset is UTC.

    Args:
        lines: Rows with the column as read.
        table: Name of the table, for errors.
        column: Name of the column.
        time_format: What the column holds; a column of timestamps needs none.
        dtype: Type that the file's column has in Polars.
        now: Unix seconds; a time over a day later is an error.
        engine: Where the lines are.

    Raises:
        TimeValueError: The times are text where numbers are configured (or the reverse), look like
            another unit, or lie in the future.
    """
    where = f"{table}.{column}"
    if dtype == nw.Datetime:
        lines = engine.seconds_of(lines, column)
    elif dtype == nw.String:
        lines = _parse_text(lines, where, column, time_format, engine)
    elif not dtype.is_numeric():
        raise TimeValueError(f"{where}: got values of type {dtype}, want times")
    else:
        lines = _scale_number(lines, where, column, time_format, engine)
    is_late = nw.when(nw.col(column) > now + SECONDS_PER_DAY).then(1).otherwise(0)
    times = lines.select(late=is_late.cast(nw.Int64()).sum(), latest=nw.col(column).max())
    late, latest = engine.collect_few(times, table).row(0)
    if late:
        raise TimeValueError(
            f"{where}: got {late} times in the future, the latest {latest}, want none after {now}"
        )
    return lines


def _parse_text(
    lines: Lines, where: str, column: str, time_format: TimeFormat, engine: Engine
) -> Lines:
    if time_format != "iso":
        example = engine.collect_few(lines.select(nw.col(column).min()), where).item()
        raise TimeValueError(
            f"{where}: got text such as {example or ''!r}, want {time_format} "
            '(or time_format = "iso")'
        )
    parsed = engine.keep(engine.parse_times(lines, column, _PARSED), where)
    wrong = parsed.filter(~nw.col(column).is_null() & nw.col(_PARSED).is_null())
    example = engine.collect_few(wrong.select(nw.col(column).min()), where).item()
    if example is not None:
        raise TimeValueError(
            f"{where}: got text such as {example!r}, want times such as 2017-06-26T04:00:00Z"
        )
    return parsed.with_columns(nw.col(_PARSED).alias(column)).drop(_PARSED)


def _scale_number(
    lines: Lines, where: str, column: str, time_format: TimeFormat, engine: Engine
) -> Lines:
    if time_format == "iso":
        raise TimeValueError(f'{where}: got numbers, want text (or time_format = "seconds")')
    check_finite(lines, where.split(".", maxsplit=1)[0], [column], engine)
    number = nw.col(column).cast(nw.Int64())
    if time_format == "days":
        seconds = number * SECONDS_PER_DAY
    else:
        seconds = number // UNITS_PER_SECOND[time_format]
    scaled = lines.with_columns(seconds.cast(nw.Int64()).alias(column))
    read = engine.collect_few(lines.select(nw.col(column).max()), where).item()
    largest = engine.collect_few(scaled.select(nw.col(column).max()), where).item()
    if largest is not None and largest > LARGEST_SECONDS:
        raise TimeValueError(
            f"{where}: got {read}, want {time_format} (a smaller unit was read: "
            'set time_format to "milliseconds" or "microseconds")'
        )
    if time_format in ("milliseconds", "microseconds") and 0 <= (largest or 0) < SMALLEST_SECONDS:
        raise TimeValueError(
            f"{where}: got {read}, want {time_format} (a larger unit was read: set "
            'time_format to "seconds")'
        )
    return scaled
