"""The lines of a log on Spark, which has more memory than this machine; asked for by name only."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import narwhals as nw
import polars as pl

from trainer.errors import LogColumnError, LogFileError, SparkError
from trainer.logs.engine import LINE, POLARS, Frame, Lines, make_time_parser

PACKAGE = "pyspark"
WANTED = "want `pip install 'crossrank[spark]'` and Java 17 or 21, or --engine polars"
# Spelled alike by both engines; a 1e7 is "10000000.0" to the one and "1.0E7" to the other.
SPELLED_ALIKE = (nw.String, nw.Categorical, nw.Enum, nw.Boolean, nw.Date, nw.Unknown)
SESSION_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",  # of timestamps without a zone, as in Polars
    "spark.sql.caseSensitive": "true",
    "spark.sql.ansi.enabled": "true",  # what does not fit its type is an error, as in Polars
    "spark.sql.legacy.parquet.nanosAsLong": "true",  # Spark knows no nanoseconds; see `scan`
}

_Made = TypeVar("_Made")


class SparkEngine:
    """The engine of a Spark session; see `trainer.logs.engine.Engine`.

    Tables pass between Spark and Polars as Parquet files in `scratch`, which the workers must see
    under the same path, as they must see the log's files.
    """

    def __init__(self, session: Any, scratch: Path) -> None:  # noqa: ANN401  pyspark is optional
        self._session = session.newSession()  # the caller's keeps its settings
        self._scratch = scratch
        self._kept: list[Any] = []
        self._files = 0
        for name, value in SESSION_SETTINGS.items():
            self._session.conf.set(name, value)

    def close(self) -> None:
        """Let go of what was kept in Spark's memory."""
        for frame in self._kept:
            frame.unpersist()
        self._kept.clear()

    def scan(self, path: Path, table: str, columns: Iterable[str]) -> Lines:
        """See `Engine`.

        Text files are parsed by Polars, as they are without Spark, and passed on as Parquet: types
        are told from all of a file, and no two readers of such files agree on every line.
        """
        names = list(dict.fromkeys(columns))
        wrong = next((name for name in names if "." in name or "`" in name), None)
        if wrong is not None:
            raise LogColumnError(
                f"{table}: got a column {wrong!r}, want names without dots and backticks on Spark"
            )
        rows: pl.LazyFrame = POLARS.scan(path, table, names).to_native()
        if path.suffix == ".parquet":
            line = self._functions.col("_metadata.row_index").alias(LINE)
            lines = self._read(path, table).select(line, *names)
        else:
            target = self._new_path(table)
            try:
                rows.sink_parquet(target)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise LogFileError(f"{table}: got rows that cannot be read: {error}") from error
            lines = self._read(target, table)
        for name, dtype in rows.collect_schema().items():
            number = dict(lines.dtypes)[name] == "bigint"
            if number and isinstance(dtype, pl.Datetime):  # of nanoseconds, as the settings want
                # `div` cuts towards zero: first take the rest off, for times before 1970
                micros = f"(`{name}` - pmod(`{name}`, 1000L)) div 1000L"
                lines = lines.withColumn(name, self._functions.expr(f"timestamp_micros({micros})"))
        return _lines_of(lines)

    def lend(self, rows: Frame, table: str) -> Lines:
        """See `Engine`."""
        path = self._new_path(table)
        rows.write_parquet(path)
        return _lines_of(self._read(path, table))

    def keep(self, lines: Lines, table: str) -> Lines:  # noqa: ARG002
        """See `Engine`."""
        kept = lines.to_native().persist()  # in memory, what does not fit on disk
        self._kept.append(kept)
        return _lines_of(kept)

    def collect(self, lines: Lines, table: str) -> Frame:
        """See `Engine`."""
        path = self._new_path(table)
        _told_of(table, lambda: lines.to_native().write.parquet(_address(path)))
        parts = sorted(path.glob("*.parquet"))
        return nw.from_native(pl.read_parquet(parts, glob=False), eager_only=True)

    def collect_few(self, rows: Lines, table: str) -> Frame:
        """See `Engine`."""
        return _told_of(table, lambda: rows.collect(backend="polars"))

    def check_names(self, dtype: nw.dtypes.DType, where: str) -> None:
        """See `Engine`."""
        if not dtype.is_integer() and dtype not in SPELLED_ALIKE:
            raise LogColumnError(
                f"{where}: got ids of type {dtype}, want text or whole numbers on Spark"
            )

    def parse_times(self, lines: Lines, column: str, parsed: str) -> Lines:
        """See `Engine`."""
        # Arrow would want pandas here and on the workers
        parse = self._functions.udf(make_time_parser(), "bigint", useArrow=False)
        return _lines_of(lines.to_native().withColumn(parsed, parse(column)))

    def seconds_of(self, lines: Lines, column: str) -> Lines:
        """See `Engine`."""
        stamp = self._functions.col(column).cast("timestamp")
        seconds = self._functions.unix_seconds(stamp)
        return _lines_of(lines.to_native().withColumn(column, seconds))

    @property
    def _functions(self) -> Any:  # noqa: ANN401
        return import_module("pyspark.sql.functions")

    def _read(self, path: Path, table: str) -> Any:  # noqa: ANN401
        return _told_of(table, lambda: self._session.read.parquet(_pattern(path)))

    def _new_path(self, table: str) -> Path:
        self._files += 1
        return self._scratch / f"{self._files:03}-{table}.parquet"


def _lines_of(frame: Any) -> Lines:  # noqa: ANN401
    lines: Lines = nw.from_native(frame)
    return lines


def _address(path: Path) -> str:
    """Return what Spark writes at: a path on this file system, whatever its default one is."""
    return f"file:{path.resolve()}"


def _pattern(path: Path) -> str:
    """Return what Spark reads at, for which some characters stand for others."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", _address(path))


def _told_of(table: str, ask: Callable[[], _Made]) -> _Made:
    """Return what `ask` does, its errors as those of a table.

    Raises:
        LogFileError: Spark could not read or compute it.
    """
    errors = import_module("pyspark.errors").PySparkException
    gateway = import_module("py4j.protocol").Py4JError
    try:
        return ask()
    except (errors, gateway, nw.exceptions.NarwhalsError) as error:
        first = str(error).strip().split("\n", maxsplit=1)[0]
        raise LogFileError(f"{table}: got rows that Spark cannot read: {first}") from error


@contextmanager
def open_spark(master: str, folder: Path) -> Iterator[SparkEngine]:
    """Yield an engine on the Spark of this process, or on a new one that ends with the block.

    Args:
        master: Where Spark runs, such as `local[2]` or `spark://host:7077`; a session that is
            there already keeps its own.
        folder: Where the tables that pass between Spark and Polars lie meanwhile.

    Raises:
        SparkError: There is no package or no Java, or the master cannot be reached.
    """
    if find_spec(PACKAGE) is None:
        raise SparkError(f"engine spark: got no package {PACKAGE}, {WANTED}")
    sql = import_module("pyspark.sql")
    running = sql.SparkSession.getActiveSession()
    session = running or _start(sql.SparkSession.builder, master)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".spark-", dir=folder))
    engine = SparkEngine(session, scratch)
    try:
        yield engine
    finally:
        engine.close()
        if running is None:
            session.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def _start(builder: Any, master: str) -> Any:  # noqa: ANN401
    """Return a new session; what is not said here comes from Spark's own configuration files."""
    builder = builder.master(master).appName("crossrank prepare")
    local = master.startswith("local")
    if local:  # no other machine takes part, so none need find this one by name
        for name in ("spark.driver.host", "spark.driver.bindAddress"):
            builder = builder.config(name, "127.0.0.1")
        builder = builder.config("spark.ui.enabled", "false")
    exceptions = import_module("pyspark.errors").PySparkException
    gateway = import_module("py4j.protocol").Py4JError
    try:
        session = builder.getOrCreate()
    except (exceptions, gateway, OSError) as error:
        first = str(error).strip().split("\n", maxsplit=1)[0]
        raise SparkError(f"engine spark: got no Spark at {master!r} ({first}), {WANTED}") from error
    session.sparkContext.setLogLevel("ERROR")
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it tells of every connection
    if local:  # its workers are of this Python, whatever `python3` is on the path
        session.sparkContext.pythonExec = sys.executable
    return session
