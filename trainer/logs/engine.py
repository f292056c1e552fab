"""Where the lines of a log are computed: every step is written once, for Polars and for Spark.

The catalogue and whatever else is of its size stay in Polars. The tables that grow with the log
are lazy frames of an engine, whose rows bear their place in the file: Spark keeps no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import narwhals as nw
import polars as pl

from trainer.logs.log_files import collect_table, scan_table

Frame: TypeAlias = nw.DataFrame[Any]
Lines: TypeAlias = nw.LazyFrame[Any]

# Column of the lines of an engine: the place of a row in its file, from 0.
LINE = "line of the file"


class Engine(Protocol):
    """What a table of the log goes through beyond what Narwhals has for every backend.

    Tables are named for errors.
    """

    def scan(self, path: Path, table: str, columns: Iterable[str]) -> Lines:
        """Return `LINE` and these columns of one file.

        Raises:
            LogFileError: The file is missing, truncated, or of an unknown format.
            LogColumnError: The engine cannot read a column of that name.
        """
        ...

    def lend(self, rows: Frame, table: str) -> Lines:
        """Return the rows of a small Polars frame, to join lines with."""
        ...

    def keep(self, lines: Lines, table: str) -> Lines:
        """Return the same lines, computed once however often they are asked for.

        Raises:
            LogFileError: Data is damaged, or a value is not of its column's type.
        """
        ...

    def collect(self, lines: Lines, table: str) -> Frame:
        """Return lines as a Polars frame, in no order.

        Raises:
            LogFileError: As `keep`.
        """
        ...

    def collect_few(self, rows: Lines, table: str) -> Frame:
        """Return what `collect` does, sooner where it is a few rows such as counts.

        Raises:
            LogFileError: As `keep`.
        """
        ...

    def check_names(self, dtype: nw.dtypes.DType, where: str) -> None:
        """Refuse a column of ids whose type this engine would spell in its own way.

        Raises:
            LogColumnError: It is such a type.
        """
        ...

    def parse_times(self, lines: Lines, column: str, parsed: str) -> Lines:
        """Add the unix seconds of a column of text as `parsed`, null where it is no time."""
        ...

    def seconds_of(self, lines: Lines, column: str) -> Lines:
        """Turn a column of timestamps into unix seconds; without a zone they are UTC."""
        ...


class PolarsEngine:
    """Everything in this process, which is the default."""

    def scan(self, path: Path, table: str, columns: Iterable[str]) -> Lines:
        """See `Engine`."""
        frame: pl.LazyFrame = scan_table(path, table).to_native()
        numbered = frame.with_row_index(LINE)
        return nw.from_native(numbered.select(pl.col(LINE).cast(pl.Int64), *dict.fromkeys(columns)))

    def lend(self, rows: Frame, table: str) -> Lines:  # noqa: ARG002  they are here already
        """See `Engine`."""
        return rows.lazy()

    def keep(self, lines: Lines, table: str) -> Lines:
        """See `Engine`."""
        return collect_table(lines, table).lazy()

    def collect(self, lines: Lines, table: str) -> Frame:
        """See `Engine`."""
        return collect_table(lines, table)

    def collect_few(self, rows: Lines, table: str) -> Frame:
        """See `Engine`."""
        return collect_table(rows, table)

    def check_names(self, dtype: nw.dtypes.DType, where: str) -> None:
        """See `Engine`; Polars spells them by definition."""

    def parse_times(self, lines: Lines, column: str, parsed: str) -> Lines:
        """See `Engine`."""
        frame = collect_table(lines, column)
        parse = make_time_parser()
        seconds = [parse(text) for text in frame[column].to_list()]
        series = nw.new_series(parsed, seconds, nw.Int64(), backend=frame.implementation)
        return frame.with_columns(series).lazy()

    def seconds_of(self, lines: Lines, column: str) -> Lines:
        """See `Engine`."""
        return lines.with_columns(nw.col(column).dt.timestamp("ms") // 1000)


POLARS = PolarsEngine()


def count_lines(lines: Lines, table: str, engine: Engine) -> int:
    """Return how many lines there are."""
    return int(engine.collect_few(lines.select(nw.len()), table).item())


def in_file_order(lines: Lines, table: str, engine: Engine) -> Frame:
    """Return all lines as a Polars frame, in the order of their file and without `LINE`."""
    return engine.collect(lines, table).sort(LINE).drop(LINE)


def make_time_parser() -> Callable[[str | None], int | None]:
    """Return what reads unix seconds from ISO text: UTC without an offset, None where it is none.

    Spark sends it to its workers by value, as it does with a function inside of another; they need
    not have this package.
    """

    def parse(text: str | None) -> int | None:
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

    return parse
