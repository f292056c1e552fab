from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from tests.trainer.log_files_for_tests import START
from trainer.errors import (
    CategoryConflictError,
    DuplicateIdError,
    EmptyTableError,
    LogColumnError,
    LogFileError,
    NumberError,
    SingleCategoryError,
    TimeValueError,
)
from trainer.logs.log_config import parse_log_config
from trainer.logs.log_tables import read_tables

NOW = START + 1_000_000

PRODUCTS = pl.DataFrame(
    {
        "id": ["a", "b", "c"],
        "path": ["Toys > Blocks", "Toys>Cars", "Books > Crime"],
        "title": ["Wooden blocks", "Red car", "A murder"],
        "maker": ["Bix", None, "Quill"],
    }
)
ORDERS = pl.DataFrame(
    {
        "user": [1, 2, 2, 3],
        "item": ["a", "b", "c", "a"],
        "time": [START, START + 5, START + 9, START + 20],
        "price": [3.0, None, 9.5, 3.0],
    }
)


def read(folder, orders=ORDERS, products=PRODUCTS, suffix="parquet", **changes: Any):
    names = {}
    for name, frame in (("orders", orders), ("products", products)):
        path = folder / f"{name}.{suffix}"
        if suffix == "parquet":
            frame.write_parquet(path)
        elif suffix == "tsv":
            frame.write_csv(path, separator="\t")
        else:
            frame.write_ndjson(path)
        names[name] = path.name
    values = {
        "adapter": "tables",
        "products_file": names["products"],
        "products_category_path": "path",
        "products_text": ["title", "maker"],
        "products_brand": "maker",
        "interactions_file": names["orders"],
        "interactions_shopper": "user",
        "interactions_product": "item",
        "interactions_price": "price",
        "train_from": datetime(2017, 1, 2, tzinfo=UTC),
        "validation_from": datetime(2017, 1, 3, tzinfo=UTC),
        "test_from": datetime(2017, 1, 4, tzinfo=UTC),
    }
    return read_tables(parse_log_config(values | changes), folder, now=NOW)


@pytest.mark.parametrize("suffix", ["parquet", "tsv", "jsonl"])
def test_every_file_format_gives_the_same_log(tmp_path, suffix):
    log = read(tmp_path, suffix=suffix)
    products = log.products.sort("id")
    assert products["category"].to_list() == ["Toys", "Toys", "Books"]
    assert products["category_path"].to_list() == [
        ["Toys", "Blocks"],
        ["Toys", "Cars"],
        ["Books", "Crime"],
    ]
    assert products["text"].to_list() == ["Wooden blocks Bix", "Red car", "A murder Quill"]
    interactions = log.interactions.sort("time")
    assert interactions["shopper"].to_list() == ["1", "2", "2", "3"]
    assert interactions["time"].to_list() == ORDERS["time"].to_list()


def test_a_missing_price_is_nan_and_other_absent_columns_have_their_stand_ins(tmp_path):
    rows = read(tmp_path).interactions.sort("time").to_native()
    assert rows["price"].is_nan().to_list() == [False, True, False, False]
    assert rows["quantity"].to_list() == [1.0] * 4
    assert rows["place"].to_list() == [None] * 4


def test_dropped_rows_are_counted_by_reason(tmp_path):
    more = pl.DataFrame(
        {
            "user": [None, 4, 1, 5],
            "item": ["a", "gone", "a", None],
            "time": [START + 1, START + 2, START, START + 3],
            "price": [1.0, 1.0, 3.0, 1.0],
        },
        schema=ORDERS.schema,
    )
    log = read(tmp_path, orders=pl.concat([ORDERS, more]))
    report = log.report.to_json()["interactions"]
    assert report == {
        "rows_in": 8,
        "rows_out": 4,
        "dropped": {
            "no shopper": 1,
            "no product": 1,
            "product not in the catalogue": 1,
            "row repeated": 1,
        },
    }


def test_a_renamed_column_is_refused_and_the_nearest_is_named(tmp_path):
    with pytest.raises(LogColumnError, match=r"want 'item' \(nearest: items\)"):
        read(tmp_path, orders=ORDERS.rename({"item": "items"}))


def test_text_where_a_number_is_wanted_is_refused(tmp_path):
    with pytest.raises(LogColumnError, match="price"):
        read(tmp_path, orders=ORDERS.with_columns(price=pl.lit("three")))


def test_times_as_text_are_refused_unless_configured(tmp_path):
    text = ORDERS.with_columns(time=pl.lit("2017-01-01T00:00:05Z"))
    with pytest.raises(TimeValueError, match="got text such as '2017-01-01T00:00:05Z'"):
        read(tmp_path, orders=text)
    log = read(tmp_path, orders=text, time_format="iso")
    assert set(log.interactions["time"].to_list()) == {START + 5}


def test_text_that_is_no_time_is_refused(tmp_path):
    with pytest.raises(TimeValueError, match="got text such as 'yesterday'"):
        read(tmp_path, orders=ORDERS.with_columns(time=pl.lit("yesterday")), time_format="iso")


def test_numbers_are_refused_where_text_is_configured(tmp_path):
    with pytest.raises(TimeValueError, match="got numbers"):
        read(tmp_path, time_format="iso")


def test_times_in_milliseconds_are_refused_unless_configured(tmp_path):
    milliseconds = ORDERS.with_columns(pl.col("time") * 1_000)
    with pytest.raises(TimeValueError, match="milliseconds"):
        read(tmp_path, orders=milliseconds)
    log = read(tmp_path, orders=milliseconds, time_format="milliseconds")
    assert log.interactions.sort("time")["time"].to_list() == ORDERS["time"].to_list()


def test_times_in_seconds_are_refused_where_milliseconds_are_configured(tmp_path):
    with pytest.raises(TimeValueError, match="seconds"):
        read(tmp_path, time_format="milliseconds")


def test_times_in_the_future_are_refused(tmp_path):
    late = ORDERS.with_columns(pl.col("time") + 10_000_000)
    with pytest.raises(TimeValueError, match="got 4 times in the future"):
        read(tmp_path, orders=late)


def test_timestamps_are_read_as_they_are(tmp_path):
    stamps = ORDERS.with_columns(pl.from_epoch("time"))
    log = read(tmp_path, orders=stamps)
    assert log.interactions.sort("time")["time"].to_list() == ORDERS["time"].to_list()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number):
    with pytest.raises(NumberError, match="price: got 4 NaN or infinite"):
        read(tmp_path, orders=ORDERS.with_columns(price=pl.lit(number)))


def test_a_product_in_two_categories_is_refused(tmp_path):
    changed = PRODUCTS.with_columns(path=pl.lit("Games > Cards")).head(1)
    with pytest.raises(CategoryConflictError, match=r"id 'a' \(Games > Cards; Toys > Blocks\)"):
        read(tmp_path, products=pl.concat([PRODUCTS, changed]))


def test_an_id_on_two_differing_rows_is_refused(tmp_path):
    changed = PRODUCTS.with_columns(title=pl.lit("Other")).head(1)
    with pytest.raises(DuplicateIdError, match="'a'"):
        read(tmp_path, products=pl.concat([PRODUCTS, changed]))


def test_a_repeated_catalogue_row_is_dropped_and_counted(tmp_path):
    log = read(tmp_path, products=pl.concat([PRODUCTS, PRODUCTS.head(1)]))
    assert len(log.products) == 3
    assert log.report.to_json()["products"]["dropped"] == {"row repeated": 1}


def test_one_category_is_refused_unless_allowed(tmp_path):
    toys = PRODUCTS.filter(pl.col("path").str.starts_with("Toys"))
    with pytest.raises(SingleCategoryError, match="'Toys'"):
        read(tmp_path, products=toys)
    assert len(read(tmp_path, products=toys, allow_single_category=True).products) == 2


def test_a_short_category_path_is_dropped_and_counted(tmp_path):
    log = read(
        tmp_path,
        products=PRODUCTS.with_columns(
            path=pl.when(pl.col("id") == "a").then(pl.lit("Toys")).otherwise("path")
        ),
        category_level=1,
    )
    assert sorted(log.products["category"].to_list()) == ["Cars", "Crime"]
    dropped = log.report.to_json()["products"]["dropped"]
    assert dropped == {"no category at the configured level": 1}


def test_an_empty_table_is_refused(tmp_path):
    with pytest.raises(EmptyTableError, match="interactions: got 0 rows"):
        read(tmp_path, orders=ORDERS.head(0))


def test_a_table_that_cleaning_empties_is_refused(tmp_path):
    with pytest.raises(EmptyTableError, match="after cleaning"):
        read(tmp_path, orders=ORDERS.with_columns(item=pl.lit("gone")))


def test_an_empty_file_is_refused(tmp_path):
    read(tmp_path, suffix="tsv")
    (tmp_path / "orders.tsv").write_bytes(b"")
    config = {"products_file": "", "interactions_file": "orders.tsv"}
    with pytest.raises(LogFileError, match="empty file"):
        read_only(tmp_path, **config)


def test_a_truncated_parquet_file_is_refused(tmp_path):
    read(tmp_path)
    path = tmp_path / "orders.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LogFileError, match=r"orders\.parquet that cannot be read"):
        read_only(tmp_path, products_file="", interactions_file=path.name)


def test_a_missing_file_and_an_unknown_format_are_refused(tmp_path):
    with pytest.raises(LogFileError, match="got no file"):
        read_only(tmp_path, interactions_file="none.tsv")
    (tmp_path / "orders.xls").write_bytes(b"x")
    with pytest.raises(LogFileError, match="want a file ending in"):
        read_only(tmp_path, interactions_file="orders.xls")


def read_only(folder, **changes: Any):
    values = {
        "adapter": "tables",
        "interactions_shopper": "user",
        "interactions_product": "item",
        "train_from": datetime(2017, 1, 2, tzinfo=UTC),
        "validation_from": datetime(2017, 1, 3, tzinfo=UTC),
        "test_from": datetime(2017, 1, 4, tzinfo=UTC),
    }
    return read_tables(parse_log_config(values | changes), folder, now=NOW)


def test_kinds_and_strengths_that_do_not_count_are_dropped(tmp_path):
    orders = ORDERS.with_columns(
        stars=pl.Series([5, 2, None, 4]), kind=pl.Series(["buy", "buy", "buy", "look"])
    )
    log = read(
        tmp_path,
        orders=orders,
        interactions_strength="stars",
        minimum_strength=3.0,
        interactions_kind="kind",
        interaction_kinds=["buy"],
    )
    assert log.interactions["shopper"].to_list() == ["1"]
    dropped = log.report.to_json()["interactions"]["dropped"]
    assert dropped == {"kind that does not count": 1, "strength too small": 2}
