"""Folders of each format become pages that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.trainer.formats.folders import DAY, START, WRITERS, write_interactions
from trainer.formats.encode import encoded_fold
from trainer.formats.errors import DataError
from trainer.formats.folder import Reading, read_pages
from trainer.formats.labelled_pages import TEST, TRAIN, LabelledPages
from trainer.formats.shopper_pages import ShopperLimits

SMALL = ShopperLimits((60, 20, 30), candidates=6, test_candidates=8)


def pages_of(name: str, folder: Path) -> LabelledPages:
    WRITERS[name](folder)
    return read_pages(folder, Reading(limits=SMALL))


@pytest.mark.parametrize("name", WRITERS)
def test_pages_hold_positives_and_each_is_tested_at_most_once(name: str, tmp_path: Path) -> None:
    pages = pages_of(name, tmp_path)
    tested = np.sum([fold == TEST for fold in pages.folds], axis=0)
    assert tested.max() == 1
    assert np.add.reduceat(pages.grades > 0, pages.offsets[:-1]).sum() > 0
    assert pages.dense.shape == (pages.rows.size, len(pages.feature_names))
    assert set(np.unique(pages.product_categories[pages.rows])) == {1, 2}
    for clusters in (pages.clusters[fold == TEST] for fold in pages.folds):
        if name not in {"ratings", "interactions+items"}:  # whose shoppers come again in time
            assert np.unique(clusters).size == clusters.size


def test_grades_of_judgments_follow_their_order(tmp_path: Path) -> None:
    pages = pages_of("judgments+products", tmp_path)
    held = [text.count("w") for text in pages.product_texts]
    assert pages.grades.tolist() == [held[row] for row in pages.rows]
    assert "log_price" in pages.feature_names
    bm25 = pages.dense[:, pages.feature_names.index("bm25_all")]
    first = slice(int(pages.offsets[0]), int(pages.offsets[1]))
    assert (np.diff(bm25[first]) <= 0).all()


def test_last_products_are_asked_for_and_never_among_the_past(tmp_path: Path) -> None:
    pages = pages_of("interactions+items", tmp_path)
    asked = pages.rows[pages.grades > 0]
    assert asked.size == pages.count
    of_test = np.flatnonzero(pages.folds[0] == TEST)
    # the last two of eight steps through a ring of six were passed before, at the start
    own = pages.dense[pages.grades > 0, pages.feature_names.index("own_count")]
    assert (own[of_test] == 1).all()
    assert ((pages.history[of_test] >= 0).sum(axis=1) == 7).all()
    assert (pages.product_categories[pages.rows] == np.repeat(
        pages.product_categories[asked], np.diff(pages.offsets)
    )).all()  # fmt: skip


def test_a_pages_features_do_not_know_what_it_asks_for(tmp_path: Path) -> None:
    """Nobody else takes p20 with what the shopper took, so it is like nothing of that."""
    write_interactions(tmp_path)
    odd = pl.DataFrame(
        {"reviewer_id": ["odd"] * 4, "asin": ["p0", "p1", "p2", "p20"], "pos": [0, 1, 2, 3]}
    )
    path = tmp_path / "interactions.parquet"
    pl.concat([pl.read_parquet(path), odd.cast(pl.read_parquet(path).schema)]).write_parquet(path)
    pages = read_pages(tmp_path, Reading(limits=ShopperLimits((200, 60, 60), 6, 8)))
    mine = np.flatnonzero((pages.clusters == pages.clusters.min()) & (pages.folds[0] == TEST))
    for page in mine.tolist():
        inside = slice(int(pages.offsets[page]), int(pages.offsets[page + 1]))
        knn = pages.dense[inside, pages.feature_names.index("knn_all")]
        assert knn[pages.grades[inside] > 0].max() == 0.0


def test_ratings_of_the_lower_half_are_neither_asked_nor_past(tmp_path: Path) -> None:
    pages = pages_of("ratings", tmp_path)
    assert pages.facts["positive events"] == 24 * 24
    assert set(pages.grades.tolist()) == {0, 1, 2}


def test_what_has_the_same_time_is_no_past_of_a_rating(tmp_path: Path) -> None:
    rows = [
        {"user": f"u{u}", "item": f"p{(u + d + k) % 9}", "rating": 5, "ts": START + d * DAY}
        for u in range(9)
        for d in range(20)
        for k in range(2)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "r.csv")
    pages = read_pages(tmp_path, Reading(limits=ShopperLimits((50, 20, 20), 4, 4)))
    assert ((pages.history >= 0).sum(axis=1) % 2 == 0).all()


def test_the_best_list_of_a_market_follows_its_own_past(tmp_path: Path) -> None:
    pages = pages_of("run+qrel", tmp_path)
    assert pages.categories == ("north", "south")
    assert pages.count == 60
    assert (np.diff(pages.offsets) == 10).all()
    knn = pages.dense[:, pages.feature_names.index("knn_all")]
    assert knn[pages.grades > 0].mean() > 3 * knn[pages.grades == 0].mean()


def test_a_category_without_a_training_page_is_encoded_as_the_neutral_one(tmp_path: Path) -> None:
    WRITERS["pairs"](tmp_path)
    path = tmp_path / "train.csv"
    frame = pl.read_csv(path)
    first = frame["query"][0]
    renamed = pl.when(pl.col("query") == first).then(pl.lit("sundials")).otherwise("category")
    frame.with_columns(category=renamed).write_csv(path)
    pages = read_pages(tmp_path, Reading())
    code = pages.category_names.index("sundials")
    page = next(p for p, query in enumerate(pages.page_queries) if pages.queries[query] == first)
    fold = next(number for number, split in enumerate(pages.folds) if split[page] == TEST)
    log = encoded_fold(pages, fold)
    inside = slice(int(pages.offsets[page]), int(pages.offsets[page + 1]))
    assert (pages.product_categories[pages.rows[inside]] == code).all()
    assert (log.categories[inside] == 0).all()
    assert log.labels.min() == 0.0
    assert log.labels.max() == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"median_relevance": "good"}, "want a number on every row"),
        ({"query": "one"}, "queries: got 1, want at least 6"),
    ],
)
def test_pairs_that_cannot_be_ranked_are_refused(
    change: dict[str, str], message: str, tmp_path: Path
) -> None:
    WRITERS["pairs"](tmp_path)
    frame = pl.read_csv(tmp_path / "train.csv")
    columns = {name: pl.lit(value) for name, value in change.items()}
    frame.with_columns(**columns).write_csv(tmp_path / "train.csv")
    with pytest.raises(DataError, match=message):
        read_pages(tmp_path, Reading())


def test_ids_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    WRITERS["judgments+products"](tmp_path)
    frame = pl.read_parquet(tmp_path / "products.parquet").with_columns(pl.col("id") + "x")
    frame.write_parquet(tmp_path / "products.parquet")
    with pytest.raises(DataError, match=r"got no product of products\.parquet"):
        read_pages(tmp_path, Reading())


def test_training_pages_come_before_test_pages_in_time(tmp_path: Path) -> None:
    pages = pages_of("ratings", tmp_path)
    length = (pages.history >= 0).sum(axis=1)
    split = pages.folds[0]
    assert length[split == TRAIN].max() < length[split == TEST].min()
