"""Reading one table of the log: Parquet, JSON lines or tab-separated values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from rerank_server.contract.errors import nearest
from trainer.errors import LogColumnError, LogFileError

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".tsv")


def scan_table(path: Path, table: str) -> nw.LazyFrame[Any]:
    """Return a lazy frame over one file, its format told by its suffix.

    Raises:
        LogFileError: The file is missing, truncated, or of an unknown format.
    """
    if not path.is_file():
        raise LogFileError(f"{table}: got no file {path}, want one")
    if path.suffix not in SUFFIXES:
        raise LogFileError(f"{table}: got {path.name}, want a file ending in {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path)
        elif path.suffix == ".tsv":
            frame = pl.scan_csv(path, separator="\t", infer_schema_length=None)
        else:
            frame = pl.scan_ndjson(path, infer_schema_length=None)
        frame.collect_schema()
    except pl.exceptions.NoDataError as error:
        raise LogFileError(f"{table}: got an empty file {path.name}, want rows") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LogFileError(
            f"{table}: got {path.name} that cannot be read (truncated?), want whole {path.suffix} "
            f"data: {error}"
        ) from error
    return nw.from_native(frame)


def collect_table(frame: nw.LazyFrame[Any], table: str) -> nw.DataFrame[Any]:
    """Return the rows of a lazy table.

    Raises:
        LogFileError: Its data is damaged, or a value is not of its column's type.
    """
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, nw.exceptions.NarwhalsError) as error:
        raise LogFileError(f"{table}: got rows that cannot be read: {error}") from error


def check_columns(frame: nw.LazyFrame[Any], table: str, columns: Iterable[str]) -> None:
    """Refuse a table that lacks a column, naming the nearest one it has.

    Raises:
        LogColumnError: A column is missing.
    """
    present = frame.collect_schema().names()
    for column in columns:
        if column not in present:
            raise LogColumnError(
                f"{table}: got columns {', '.join(present)}, want {column!r}"
                f"{nearest(column, present)}"
            )
