"""Both engines give the same rows: every table, in order and type, from logs full of traps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from pyarrow import parquet

from tests.trainer.log_files_for_tests import DAY, START
from trainer.errors import LogColumnError, LogError, SparkError
from trainer.logs import spark_engine
from trainer.logs.complete_journey import read_complete_journey
from trainer.logs.engine import Engine
from trainer.logs.log import Log
from trainer.logs.log_config import parse_log_config
from trainer.logs.log_tables import read_tables
from trainer.logs.prepare import prepare
from trainer.logs.spark_engine import SparkEngine, open_spark

pytest.importorskip("pyspark", reason="pyspark is not installed (pip install 'crossrank[spark]')")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (os.environ.get("JAVA_HOME") or shutil.which("java")),
        reason="Spark needs Java 17 or 21",
    ),
]

TINY = Path(__file__).parents[1] / "data" / "complete_journey_tiny"
NOW = START + 400 * DAY


@pytest.fixture(scope="module")
def session():
    from pyspark.sql import SparkSession  # noqa: PLC0415  an optional package

    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.session.timeZone": "America/New_York",  # to be of no consequence
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local[1]").appName("tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    started = builder.getOrCreate()
    started.sparkContext.setLogLevel("ERROR")
    started.sparkContext.pythonExec = sys.executable
    yield started
    started.stop()


@pytest.fixture
def engine(session, tmp_path):
    folder = tmp_path / "scratch [1] für {Spark}"
    folder.mkdir()
    made = SparkEngine(session, folder)
    yield made
    made.close()


def assert_same_log(spark: Log, polars: Log) -> None:
    assert spark.report == polars.report
    for table in ("products", "interactions", "searches", "events"):
        one, other = getattr(spark, table), getattr(polars, table)
        assert (one is None) == (other is None)
        if one is not None:
            assert_frame_equal(one.to_native(), other.to_native(), check_exact=True)


SHOP = {
    "adapter": "tables",
    "train_from": datetime(2017, 1, 11, tzinfo=UTC),
    "validation_from": datetime(2017, 1, 21, tzinfo=UTC),
    "test_from": datetime(2017, 1, 26, tzinfo=UTC),
    "products_file": "products.jsonl",
    "products_brand": "maker",
    "searches_file": "searches.jsonl",
    "searches_scores": "scores",
    "events_file": "events.parquet",
    "interactions_file": "orders.tsv",
    "interactions_place": "shop",
    "interactions_quantity": "count",
    "interactions_price": "price",
    "interactions_kind": "what",
    "interaction_kinds": ["buy", "köp"],
    "interactions_strength": "stars",
    "minimum_strength": 2.0,
    "time_format": "iso",
    "objective": [
        {"name": "stay", "type": "dwell", "kind": "click", "column": "seconds"},
        {"name": "spent", "type": "value", "column": "paid"},
    ],
}
# With `STRASSE` and `straße`, and one name composed and decomposed, which are two.
IDS = ["1", "01", "ä", "a\u0308", "日本", "🛒", "İ", "straße", "STRASSE", " spaced "]
# One moment, and one day, as differently as people write them; the last is 05:00 in summer time.
TIMES = [
    "2017-01-12T04:00:00Z",
    "2017-01-12 05:00:00+01:00",
    "2017-01-11T23:00:00.999999-05:00",
    "20170112T040000",
    "2017-01-12",
    "2017-W02-4",
    "2017-07-12T05:00:00+02:00",
    "1969-12-31T23:59:59Z",
]


def write_shop(folder: Path) -> None:
    """Write a log with searches: nulls, repeats, ties, odd text and times of several zones."""
    products = pl.DataFrame(
        {
            "id": [*IDS, IDS[0]],
            "category_path": [*(f"{'toys' if at % 2 else 'ÄPFEL'} > leaf {at}" for at in range(10)),
                              "ÄPFEL > leaf 0"],
            "title": [*(f"Thing {at}" for at in range(10)), "Thing 0"],
            "maker": [None, *["Åse"] * 9, None],
        }
    )  # fmt: skip
    products.write_ndjson(folder / "products.jsonl")
    searches = pl.DataFrame(
        {
            "query_id": [*(f"q{at}" for at in range(8)), None, "q9", "q10", "q11"],
            "text": ["ost", "ÖST", None, "", "a\tb", "ost", "日本", "🛒", "x", "y", "z", "ost"],
            "shopper": ["s", None, "ß", "s", "S", "s", "", "s", "s", "s", "s", "s"],
            "time": [*TIMES, TIMES[0], None, TIMES[0], TIMES[0]],
            "candidates": [
                "1,01", " 1 , ä,日本 ", "\u00a0🛒,İ\u2003", "straße,,STRASSE", "1", "1,1,gone",
                "a\u0308", "1, 01\t", "1", "1", None, "",
            ],
            "scores": [[1.5, 0.1], [3.0, None, 2.0], None, None, [1e-300], [1, 2, 3], [], None,
                       None, None, None, None],
        },
        schema_overrides={"scores": pl.List(pl.Float64)},
    )  # fmt: skip
    searches.write_ndjson(folder / "searches.jsonl")
    moments = [datetime(2017, 1, 12, 4, 0, second) for second in (5, 5, 6, 5, 7, 5, 5, 5, 5, 5, 8)]
    acts = pl.DataFrame(
        {
            "query_id": ["q0", "q0", "q0", "q1", "q1", None, "q2", "q2", "q0", "q0", "q5"],
            "shopper": ["s", "s", "s", None, None, "s", "ß", "ß", "s", "s", "s"],
            "product": ["1", "1", "1", "日本", "日本", "1", "gone", None, "01", "01", "1"],
            "time": [*moments[:9], None, moments[10]],
            "kind": ["click", "click", "click", "click", "purchase", "click", "click", "click",
                     "köp", "click", None],
            "seconds": [1.5, 1.5, 2.5, None, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            "paid": [0, 0, 0, 5, None, 7, 7, 7, 7, 7, 7],
            "not read": [[at] for at in range(11)],
        },
        schema_overrides={"paid": pl.UInt16},
    ).with_columns(pl.col("time").dt.replace_time_zone("Europe/Berlin"))  # fmt: skip
    acts.write_parquet(folder / "events.parquet")
    orders = pl.DataFrame(
        {
            "shopper": ["s", "s", "ß", "S", None, "s", "s", "s", "t", "u", "s", "v"],
            "product": ["1", "1", "ä", "a\u0308", "1", "gone", "01", "01", "🛒", "İ", "1", "İ"],
            "time": [*TIMES[:7], TIMES[6], TIMES[7], None, TIMES[0], TIMES[1]],
            "shop": ["x", "x", "X", None, "x", "x", "x", "x", "ö", "x", "y", "x"],
            "count": [1, 1, 2, 0, 1, 1, None, 3, -1, 1, 1, 1],
            "price": [0.1, 0.1, 1e300, 1e-46, 1.0, 1.0, None, 16_777_217.0, 1.0, 1.0, -0.0, 9.99],
            "what": ["buy", "buy", "köp", "buy", "buy", "buy", "buy", "buy", "buy", "buy", "köp",
                     "look"],
            "stars": [2, 2, 5, 5, 5, 5, 5, 2, 5, 5, None, 5],
            "seconds": [None] * 12,
            "paid": [None] * 12,
        }
    )  # fmt: skip
    orders.write_csv(folder / "orders.tsv", separator="\t")


def read_shop(folder: Path, engine: Engine | None = None, **changes: object) -> Log:
    config = parse_log_config(SHOP | changes)
    return read_tables(config, folder, now=NOW, **({} if engine is None else {"engine": engine}))


def test_a_log_with_searches_gives_the_same_rows(tmp_path, engine):
    write_shop(tmp_path)
    polars = read_shop(tmp_path)
    assert_same_log(read_shop(tmp_path, engine), polars)
    # that the traps were walked into
    dropped = polars.report.to_json()
    assert dropped["interactions"]["dropped"]["row repeated"] == 1
    assert dropped["interactions"]["dropped"]["strength too small"] == 1
    assert dropped["events"]["dropped"]["row repeated"] == 1
    assert dropped["searches"]["dropped"] == {"no query id": 1, "no time": 1, "no candidates": 1}
    assert polars.searches is not None
    moments = dict(zip(polars.searches["query_id"], polars.searches["time"], strict=True))
    assert moments["q0"] == moments["q1"] == moments["q2"] == moments["q3"]
    assert moments["q4"] == moments["q5"]


def complete_journey(folder: Path) -> Path:
    """Copy the tiny log and put into it what the package's files do not have."""
    copy = Path(shutil.copytree(TINY, folder / "copy"))
    path = copy / "transactions.parquet"
    lines = pl.read_parquet(path).with_row_index("at")
    at = pl.col("at")
    money = pl.col("coupon_disc", "quantity")
    changed = lines.with_columns(
        pl.when(at % 50 == 3).then(None).otherwise(money).name.keep(),
        sales_value=pl.when(at % 50 == 7).then(0.0).otherwise("sales_value"),
        product_id=pl.when(at % 50 == 9).then(None).otherwise("product_id"),
        transaction_timestamp=pl.when(at % 50 == 11)
        .then(pl.lit(datetime(1969, 12, 31, 23, 59, 59, 999_999)))
        .when(at % 50 < 5)  # ties of time
        .then(pl.lit(datetime(2017, 7, 1, 12)))
        .otherwise(pl.col("transaction_timestamp").cast(pl.Datetime("us")))
        .cast(pl.Datetime("ns")),
    ).drop("at")
    pl.concat([changed, changed.head(200)]).write_parquet(path)
    return copy


def test_the_complete_journey_gives_the_same_rows(tmp_path, engine):
    folder = complete_journey(tmp_path)
    spark, polars = (
        read_complete_journey(folder, promotion_places_only=True, now=NOW, **more)
        for more in ({"engine": engine}, {})
    )
    assert_same_log(spark, polars)
    assert polars.interactions["discount"].is_null().any()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_prepared_with_spark_is_the_same_byte_for_byte(tmp_path, session):
    polars = prepare(TINY / "log.toml", tmp_path / "polars", progress=False)
    before = session.conf.get("spark.sql.session.timeZone")
    spark = prepare(TINY / "log.toml", tmp_path / "spark", progress=False, spark_master="local[1]")
    assert spark.name == polars.name
    assert files_of(spark) == files_of(polars)
    # nothing else stays: no scratch, no setting, and the session that was there goes on
    assert [path.name for path in (tmp_path / "spark").iterdir()] == [spark.name]
    assert session.conf.get("spark.sql.session.timeZone") == before
    assert session.range(2).count() == 2


def bare(folder: Path, **columns: list[object]) -> dict[str, object]:
    """Write interactions alone, as Parquet, and return what the configuration says of them."""
    rows = {"shopper": ["s", "t"], "product": ["a", "b"], "time": [START, START + 1]}
    pl.DataFrame(rows | columns).write_parquet(folder / "orders.parquet")
    return {
        name: value
        for name, value in SHOP.items()
        if name in {"adapter", "train_from", "validation_from", "test_from"}
    } | {"interactions_file": "orders.parquet", "allow_single_category": True}


@pytest.mark.parametrize(
    ("columns", "changes"),
    [
        ({"time": [START, NOW + 2 * DAY]}, {}),
        ({"time": ["2017-01-01", "yesterday"]}, {"time_format": "iso"}),
        ({"price": [1.0, float("nan")]}, {"interactions_price": "price"}),
        ({"time": [START * 1_000, START]}, {}),
        ({"product": [None, None]}, {}),
    ],
)
def test_what_polars_refuses_spark_refuses_in_the_same_words(tmp_path, engine, columns, changes):
    config = parse_log_config(bare(tmp_path, **columns) | changes)
    with pytest.raises(LogError) as polars:
        read_tables(config, tmp_path, now=NOW)
    with pytest.raises(type(polars.value)) as spark:
        read_tables(config, tmp_path, now=NOW, engine=engine)
    assert str(spark.value) == str(polars.value)


def test_whole_numbers_of_every_width_are_the_same_ids_and_times(tmp_path, engine):
    values = bare(tmp_path) | {"time_format": "milliseconds"}
    pl.DataFrame(
        {
            "shopper": pl.Series([2**64 - 1, 0, None], dtype=pl.UInt64),
            "product": pl.Series([-1, 127, 5], dtype=pl.Int8),
            "time": pl.Series([START * 1_000 + 999, -1, START * 1_000], dtype=pl.Float64),
        }
    ).write_parquet(tmp_path / "orders.parquet")
    config = parse_log_config(values)
    polars = read_tables(config, tmp_path, now=NOW)
    assert_same_log(read_tables(config, tmp_path, now=NOW, engine=engine), polars)
    assert polars.interactions["shopper"].to_list() == [str(2**64 - 1), "0"]
    assert polars.interactions["time"].to_list() == [START, -1]


@pytest.mark.parametrize("old", [False, True])
def test_timestamps_of_nanoseconds_are_read_and_those_of_old_files(tmp_path, engine, old):
    config = parse_log_config(bare(tmp_path))
    moments = [datetime(2017, 1, 1, 0, 0, 5, 999_999), datetime(1969, 12, 31, 23, 59, 59, 1)]
    table = pa.table(
        {
            "shopper": ["s", "t"],
            "product": ["a", "b"],
            "time": pa.array(moments, pa.timestamp("ns")),
        }
    )
    path = tmp_path / "orders.parquet"
    parquet.write_table(table, path, use_deprecated_int96_timestamps=old)
    polars = read_tables(config, tmp_path, now=NOW)
    assert_same_log(read_tables(config, tmp_path, now=NOW, engine=engine), polars)
    assert polars.interactions["time"].to_list() == [START + 5, -1]


@pytest.mark.parametrize(
    ("columns", "changes", "words"),
    [
        ({"shopper": [1.0, 2.0]}, {}, "got ids of type Float64, want text or whole numbers"),
        (
            {"shop.id": [1, 2]},
            {"interactions_place": "shop.id"},
            "got a column 'shop.id', want names without dots and backticks",
        ),
    ],
)
def test_what_spark_would_spell_otherwise_is_refused(tmp_path, engine, columns, changes, words):
    config = parse_log_config(bare(tmp_path, **columns) | changes)
    read_tables(config, tmp_path, now=NOW)
    with pytest.raises(LogColumnError, match=words):
        read_tables(config, tmp_path, now=NOW, engine=engine)


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(spark_engine, "find_spec", lambda _: None)
    with (
        pytest.raises(SparkError, match=r"no package pyspark, want `pip install 'crossrank\[spark"),
        open_spark("local[1]", tmp_path),
    ):
        pass


def test_without_java_the_error_says_so(tmp_path):
    script = (
        "from pathlib import Path\n"
        "from trainer.logs.spark_engine import open_spark\n"
        "with open_spark('local[1]', Path('.')): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "JAVA_HOME": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SparkError: engine spark: got no Spark at 'local[1]'" in done.stderr
    assert "Java 17 or 21" in done.stderr
