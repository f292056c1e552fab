from __future__ import annotations

import json

import narwhals as nw
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.logs.clean import (
    CleaningReport,
    TableCleaning,
    drop_duplicates,
    drop_rows,
    report_from_json,
)
from trainer.logs.engine import LINE

REASONS = [
    ("no price", nw.col("price").is_null()),
    ("free", nw.col("price") == 0),
    ("odd", nw.col("id") % 2 == 1),
]


def lines(prices: list[float | None]) -> nw.LazyFrame[pl.LazyFrame]:
    return nw.from_native(pl.LazyFrame({"id": range(len(prices)), "price": prices}))


def test_a_row_counts_under_the_first_reason_that_holds():
    kept, cleaning = drop_rows("lines", lines([None, None, 0.0, 1.0, 2.0, 0.0]), REASONS)
    assert cleaning == TableCleaning("lines", 6, 1, {"no price": 2, "free": 2, "odd": 1})
    rows = kept.collect()
    assert rows["id"].to_list() == [4]
    assert rows.columns == ["id", "price"]


def test_reasons_that_hold_for_no_row_are_left_out():
    _, cleaning = drop_rows("lines", lines([1.0]), REASONS)
    assert cleaning.dropped == {}


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.0, 1.0])), min_size=1))
def test_rows_out_and_the_dropped_ones_add_up_to_rows_in(prices):
    kept, cleaning = drop_rows("lines", lines(prices), REASONS)
    assert cleaning.rows_in == len(prices)
    assert cleaning.rows_out == len(kept.collect())
    assert cleaning.rows_out + sum(cleaning.dropped.values()) == cleaning.rows_in


def test_of_repeated_rows_the_first_stays_and_the_others_are_counted():
    frame = nw.from_native(
        pl.LazyFrame({LINE: [7, 4, 5, 6], "a": [1, 1, 2, None], "b": [None, None, 0.0, None]})
    )
    kept, cleaning = drop_duplicates(frame, TableCleaning("t", 6, 4, {"x": 2}), "row repeated")
    assert sorted(kept.collect()[LINE].to_list()) == [4, 5, 6]
    assert cleaning == TableCleaning("t", 6, 3, {"x": 2, "row repeated": 1})


def test_the_report_prints_every_count():
    report = CleaningReport((TableCleaning("lines", 1_234, 1_200, {"free": 34}),))
    assert report.to_table().splitlines() == [
        "lines  rows in   1,234",
        "       - free       34",
        "       rows out  1,200",
    ]


def test_the_report_as_json_holds_plain_values():
    report = CleaningReport((TableCleaning("lines", 3, 2, {"free": 1}),))
    assert report.to_json() == {"lines": {"rows_in": 3, "rows_out": 2, "dropped": {"free": 1}}}


@pytest.mark.parametrize("tables", [(), (TableCleaning("lines", 0, 0, {}),)])
def test_an_empty_report_can_be_printed(tables):
    assert isinstance(CleaningReport(tables).to_table(), str)


def test_a_report_is_read_back_from_json():
    report = CleaningReport(
        (
            TableCleaning("products", 5, 5),
            TableCleaning("interactions", 9, 6, {"no time": 2, "a duplicate": 1}),
        )
    )
    assert report_from_json(json.loads(json.dumps(report.to_json()))) == report
