from __future__ import annotations

import numpy as np
import pytest

from trainer.errors import LabelError, LogConfigError
from trainer.logs.labels import Label, check_range, label_of_rows, packed
from trainer.logs.log_config import parse_log_config

NAN = float("nan")
# four rows of three groups: two rows of the first, none of the second
GROUP = np.array([0, 0, 2, 2])
ALL = np.ones(4, np.bool_)

LOG = {
    "adapter": "tables",
    "interactions_file": "x.tsv",
    "train_from": "2017-01-11T00:00:00Z",
    "validation_from": "2017-01-21T00:00:00Z",
    "test_from": "2017-01-26T00:00:00Z",
}


def made(label: Label, values, counted=ALL) -> list[float]:
    column = None if values is None else np.array(values, np.float64)
    made: list[float] = label_of_rows(label, GROUP, 3, column, np.array(counted)).tolist()
    return made


@pytest.mark.parametrize(
    ("aggregate", "wanted"),
    [
        ("sum", [7, 0, 9]),
        ("max", [5, 0, 8]),
        ("min", [2, 0, 1]),
        ("mean", [3.5, 0, 4.5]),
        ("first", [2, 0, 8]),
        ("last", [5, 0, 1]),
    ],
)
def test_several_rows_become_one_label(aggregate, wanted):
    label = Label("spend", type="value", column="paid", aggregate=aggregate)
    assert made(label, [2, 5, 8, 1]) == wanted


def test_without_a_word_grades_take_the_best_row_and_the_rest_the_sum():
    assert made(Label("stars", type="graded", column="stars", largest=5), [2, 5, 3, 1]) == [5, 0, 3]
    assert made(Label("units", type="count", column="quantity"), [2, 5, 3, 1]) == [7, 0, 4]
    assert made(Label("dwell", type="dwell", column="seconds"), [2, 5, 3, 1]) == [7, 0, 4]


def test_without_a_column_rows_are_counted():
    assert made(Label("visits", type="count"), None) == [2, 0, 2]
    assert made(Label("click"), None) == [1, 0, 1]
    assert made(Label("twice", above=1), None, [True, True, True, False]) == [1, 0, 0]


def test_a_binary_label_says_whether_the_aggregate_is_above_a_bound():
    assert made(Label("long", column="seconds", above=6), [2, 5, 3, 1]) == [1, 0, 0]
    assert made(Label("any", column="seconds"), [0, 0, 3, 1]) == [0, 0, 1]


def test_rows_that_do_not_count_or_miss_their_number_are_passed_over():
    label = Label("spend", type="value", column="paid")
    assert made(label, [2, NAN, NAN, 4], [True, True, True, False]) == [2, 0, 0]


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        (
            Label("units", type="count", column="q"),
            -1,
            r"objective 'units' \(column 'q'\): got 1 labels out of range, -1 among them, "
            "want whole numbers of 0 or more for type count",
        ),
        (Label("units", type="count"), 1.5, "1.5 among them, want whole numbers"),
        (Label("stars", type="graded", largest=5), 2.5, "want whole grades of 0 to 5"),
        (Label("stars", type="graded", largest=5), 6, "6 among them, want whole grades of 0 to 5"),
        (Label("spend", type="value"), -0.01, "want numbers of 0 or more for type value"),
        (Label("dwell", type="dwell"), NAN, "nan among them, want numbers of 0 or more"),
        (Label("dwell", type="dwell"), np.inf, "inf among them"),
    ],
)
def test_a_label_outside_the_range_of_its_type_is_refused_by_name(label, value, message):
    with pytest.raises(LabelError, match=message):
        check_range(label, np.array([0.0, value]))


def test_labels_stay_bytes_while_every_objective_is_binary():
    columns = np.array([[0.0, 1.0]])
    assert packed((Label("a"), Label("b")), columns).dtype == np.uint8
    assert packed((Label("a"), Label("b", type="value")), columns).dtype == np.float32


def parsed(*tables, **more):
    from datetime import datetime  # noqa: PLC0415

    times = {key: datetime.fromisoformat(LOG[key]) for key in LOG if key.endswith("_from")}
    return parse_log_config({**LOG, **times, "objective": list(tables), **more})


def test_tables_follow_what_a_log_has_by_itself():
    config = parsed({"name": "stars", "type": "graded", "column": "rating", "largest": 5})
    names = [label.name for label in config.labels]
    assert names == ["purchase", "trial", "discount", "stars"]
    assert config.label_columns == ("rating",)
    assert "objective" in config.to_json()
    assert "objective" not in parsed().to_json()  # as before there were tables


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "x", "type": "grade"}, "type: got 'grade', want one of .*nearest: graded"),
        ({"name": "x", "colum": "y"}, "colum: got an unknown key, .*nearest: column"),
        ({"name": "x", "type": "dwell"}, "column: got none, want the column that holds the dwell"),
        ({"name": "x", "type": "graded", "column": "y"}, "largest: got 0, want the largest grade"),
        ({"name": "x", "above": "2"}, "above: got '2', want float"),
        ({"name": "x y"}, "name: got 'x y', want letters"),
        ({"type": "binary"}, "name: got None"),
        ({"name": "x", "above": 1, "type": "count"}, "above: got 1.0, want none for type count"),
        (
            {"name": "x", "type": "count", "aggregate": "mean"},
            "aggregate: got 'mean' of a count",
        ),
        ({"name": "trial"}, "objective 'trial': got it beside one of that name"),
    ],
)
def test_a_wrong_table_is_refused_by_name(table, message):
    with pytest.raises(LogConfigError, match=message):
        parsed(table)


def test_a_repeated_name_and_what_is_no_table_are_refused():
    with pytest.raises(LogConfigError, match="'a': got it twice, want each name once"):
        parsed({"name": "a"}, {"name": "a"})
    with pytest.raises(LogConfigError, match=r"want tables: \[\[objective\]\]"):
        parsed("a")
