from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from tests.trainer.log_files_for_tests import DAY, START
from trainer.encoding.dataset import read_prepared
from trainer.encoding.features import past_of
from trainer.errors import DuplicateIdError
from trainer.logs.prepare import prepare

CONFIG = """
adapter = "tables"
products_file = "products.jsonl"
searches_file = "searches.jsonl"
searches_scores = "scores"
events_file = "events.jsonl"
train_from = 2017-01-11T00:00:00Z
validation_from = 2017-01-21T00:00:00Z
test_from = 2017-01-26T00:00:00Z
"""


def product(name: str, path: list[str]) -> dict[str, object]:
    return {"id": name, "title": name.upper(), "category_path": path}


PRODUCTS = [
    product("a", ["toys", "blocks"]),
    product("b", ["toys", "cars"]),
    product("c", ["books", "crime"]),
]


def search(name: str, day: int, shopper: str | None, candidates: list[str], scores=None):
    return {
        "query_id": name,
        "text": f"query {name}",
        "shopper": shopper,
        "time": START + day * DAY,
        "candidates": candidates,
        "scores": scores,
    }


def event(query: str, day: int, shopper: str | None, item: str, kind: str):
    return {
        "query_id": query,
        "shopper": shopper,
        "product": item,
        "time": START + day * DAY + 5,
        "kind": kind,
    }


SEARCHES = [
    search("q0", 1, "s", ["a"], [1.0]),
    search("q1", 12, "s", ["b", "gone", "a", "b"], [4.0, 3.0, 2.0, 1.0]),
    search("q2", 22, "t", ["c", "a"]),
    search("q3", 27, None, ["c"], [7.0]),
]
EVENTS = [
    event("q0", 1, "s", "a", "purchase"),
    event("q1", 12, "s", "a", "click"),
    event("q1", 12, "s", "a", "purchase"),
    event("q1", 12, "s", "c", "click"),
    event("q1", 12, "s", "b", "impression"),
    event("q2", 22, "t", "a", "cart"),
]


def write(folder, searches=SEARCHES, events=EVENTS):
    for name, rows in (("products", PRODUCTS), ("searches", searches), ("events", events)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    path = folder / "log.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def prepared(tmp_path):
    return read_prepared(prepare(write(tmp_path), tmp_path / "out", progress=False))


def ids(prepared, page: int) -> list[str]:
    names = [p["id"] for p in prepared.products()]
    return [names[row] for row in prepared.candidate_rows[prepared.page(page)]]


def test_pages_keep_the_order_shown_without_unknown_and_repeated_products(prepared):
    assert [ids(prepared, page) for page in range(3)] == [["b", "a"], ["c", "a"], ["c"]]
    assert prepared.candidate_scores[prepared.page(0)].tolist() == [4.0, 2.0]
    assert np.isnan(prepared.candidate_scores[prepared.page(1)]).all()


def test_labels_are_the_events_of_the_query(prepared):
    assert prepared.objectives == ("click", "cart", "purchase")
    labels = prepared.candidate_labels
    assert labels[prepared.page(0)].tolist() == [[0, 0, 0], [1, 0, 1]]
    assert labels[prepared.page(1)].tolist() == [[0, 0, 0], [0, 1, 0]]


def test_events_of_products_that_were_not_shown_count_in_the_total_only(prepared):
    # of q1: a (shown) and c (not shown)
    assert prepared.page_positives_total.tolist() == [2, 1, 0]


def test_pages_of_one_category_bear_it_and_mixed_ones_bear_none(prepared):
    toys = prepared.categories.index("toys") + 1
    books = prepared.categories.index("books") + 1
    assert prepared.page_categories.tolist() == [toys, 0, books]


def test_a_search_without_a_shopper_has_no_past(prepared):
    assert prepared.shoppers[prepared.page_shoppers[2]] == ""
    assert prepared.interaction_rows[past_of(prepared, 2)].size == 0


def test_events_are_the_past_where_there_are_no_interactions(prepared):
    names = [p["id"] for p in prepared.products()]
    assert [names[row] for row in prepared.interaction_rows[past_of(prepared, 0)]] == ["a"]


def test_a_repeated_query_id_is_refused(tmp_path):
    path = write(tmp_path, searches=[*SEARCHES, search("q1", 13, "s", ["a"], [1.0])])
    with pytest.raises(DuplicateIdError, match="query ids"):
        prepare(path, tmp_path / "out", progress=False)


def test_candidates_may_be_text(tmp_path):
    path = write(tmp_path)
    frame = pl.DataFrame(
        {"query_id": ["q1", "q3"], "text": ["x", "y"], "shopper": ["s", "t"],
         "time": [START + 12 * DAY, START + 27 * DAY], "candidates": ["b, a", "c"]}
    )  # fmt: skip
    frame.write_csv(tmp_path / "searches.tsv", separator="\t")
    path.write_text(
        CONFIG.replace("searches.jsonl", "searches.tsv").replace(
            'searches_scores = "scores"\n', ""
        ),
        encoding="utf-8",
    )
    prepared = read_prepared(prepare(path, tmp_path / "out", progress=False))
    assert [ids(prepared, page) for page in range(2)] == [["b", "a"], ["c"]]
