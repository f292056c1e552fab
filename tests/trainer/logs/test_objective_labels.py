"""Labels of `[[objective]]` tables in a prepared log, of searches and of baskets."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from tests.trainer.log_files_for_tests import CONFIG as BASKETS
from tests.trainer.log_files_for_tests import DAY, START, ratings, write_log
from tests.trainer.logs.test_query_log import CONFIG, PRODUCTS, event, search
from trainer.encoding.dataset import read_prepared
from trainer.errors import LabelError, LogColumnError, NumberError
from trainer.logs.prepare import prepare

SEARCHES = [
    search("q0", 2, "s", ["a"]),
    search("q1", 12, "s", ["b", "c", "a"]),
    search("q2", 22, "t", ["c", "a"]),
    search("q3", 27, "t", ["c"]),
]
TABLES = """
[[objective]]
name = "dwell"
type = "dwell"
kind = "click"
column = "seconds"

[[objective]]
name = "stars"
type = "graded"
kind = "rating"
column = "stars"
largest = 5
aggregate = "last"
"""


def acted(query, day, item, kind, **numbers):
    return {**event(query, day, "s", item, kind), "seconds": None, "stars": None, **numbers}


EVENTS = [
    acted("q0", 2, "a", "click", seconds=3.0),
    acted("q1", 12, "a", "click", seconds=40.5),
    acted("q1", 12, "a", "click", seconds=40.5),  # the same row again
    acted("q1", 12, "a", "click", seconds=2.0),
    acted("q1", 12, "b", "click"),  # nobody measured
    acted("q1", 12, "a", "purchase", seconds=99.0),  # seconds of another kind
    acted("q1", 12, "gone", "rating", stars=5),
    {**acted("q1", 13, "a", "rating", stars=2), "time": START + 13 * DAY},
    {**acted("q1", 12, "a", "rating", stars=4), "time": START + 12 * DAY + 9},
    acted("q2", 22, "b", "rating", stars=1),  # not shown
]


def write(folder, events=EVENTS, tables=TABLES):
    for name, rows in (("products", PRODUCTS), ("searches", SEARCHES), ("events", events)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    path = folder / "log.toml"
    path.write_text(CONFIG.replace('searches_scores = "scores"\n', "") + tables, encoding="utf-8")
    return path


def prepared_of(folder, **changes):
    return read_prepared(prepare(write(folder, **changes), folder / "out", progress=False))


def test_events_of_a_query_make_its_labels(tmp_path):
    prepared = prepared_of(tmp_path)
    assert prepared.objectives == ("click", "cart", "purchase", "dwell", "stars")
    assert [label["type"] for label in prepared.manifest["labels"]] == [
        "binary", "binary", "binary", "dwell", "graded"
    ]  # fmt: skip
    labels = prepared.candidate_labels[prepared.page(0)]
    # b, c, a: the sum of the seconds of distinct clicks, and the last stars
    assert labels.tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 1, 42.5, 2]]
    assert labels.dtype == np.float32


def test_ratings_of_what_was_not_shown_are_no_positives_of_the_page(tmp_path):
    # q1: a and b were clicked; q2: nothing but a rating of what was not shown
    assert prepared_of(tmp_path).page_positives_total.tolist() == [2, 0, 0]


def test_without_tables_labels_stay_bytes(tmp_path):
    prepared = prepared_of(tmp_path, tables="")
    assert prepared.candidate_labels.dtype == np.uint8
    assert prepared.objectives == ("click", "cart", "purchase")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"stars": 2.5}, LabelError, "objective 'stars' .*got 1 labels out of range, 2.5"),
        ({"stars": 6}, LabelError, "want whole grades of 0 to 5"),
        ({"stars": -1}, LabelError, "-1 among them"),
    ],
)
def test_labels_out_of_range_are_refused_by_name(tmp_path, change, error, message):
    wrong = acted("q2", 22, "a", "rating", **change)
    with pytest.raises(error, match=message):
        prepared_of(tmp_path, events=[*EVENTS, wrong])


def test_a_column_that_is_missing_or_text_is_refused(tmp_path):
    with pytest.raises(LogColumnError, match="'dwell_time'"):
        prepared_of(tmp_path, tables=TABLES.replace('"seconds"', '"dwell_time"'))
    worded = [{**row, "text": "long"} for row in EVENTS]
    with pytest.raises(LogColumnError, match=r"events.text: got values of type"):
        prepared_of(tmp_path, events=worded, tables=TABLES.replace('"seconds"', '"text"'))


def baskets(folder, tables, frame, more=""):
    return read_prepared(
        prepare(write_log(folder, frame, BASKETS + more + tables), folder / "out", progress=False)
    )


def test_lines_of_a_basket_make_its_labels(tmp_path):
    frame = ratings().with_columns(
        stars=(pl.col("item").str.slice(1).cast(pl.Int64) % 5) + 1,
        kind=pl.when(pl.col("item") == "p1").then(pl.lit("gift")).otherwise(pl.lit("own")),
    )
    tables = """
[[objective]]
name = "stars"
type = "graded"
largest = 5
column = "stars"

[[objective]]
name = "gift"
kind = "gift"

[[objective]]
name = "lines"
type = "count"
"""
    prepared = baskets(tmp_path, tables, frame, 'interactions_kind = "kind"\n')
    assert prepared.objectives == ("purchase", "trial", "stars", "gift", "lines")
    bought = prepared.candidate_labels[:, 0] > 0
    names = [record["id"] for record in prepared.products()]
    items = np.array([int(names[row][1:]) for row in prepared.candidate_rows])
    labels = prepared.candidate_labels
    np.testing.assert_array_equal(labels[:, 2], np.where(bought, items % 5 + 1, 0))
    np.testing.assert_array_equal(labels[:, 3], bought & (items == 1))
    np.testing.assert_array_equal(labels[:, 4], bought)
    assert bought.any()


def test_a_kind_without_a_column_of_kinds_and_an_unknown_column_are_refused(tmp_path):
    with pytest.raises(LogColumnError, match=r"interactions_kind: got no column, .*'gift'"):
        baskets(tmp_path, '\n[[objective]]\nname = "gift"\nkind = "gift"\n', ratings())
    table = '\n[[objective]]\nname = "spend"\ntype = "value"\ncolumn = "paid"\n'
    with pytest.raises(LogColumnError, match="'paid'"):
        baskets(tmp_path, table, ratings())
    with pytest.raises(NumberError, match=r"interactions.paid: got \d+ NaN or infinite"):
        baskets(tmp_path, table, ratings().with_columns(paid=float("nan")))
