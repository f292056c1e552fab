"""Folders that are odd or wrong: each is read for what it is, or refused in words."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.trainer.formats.folders import DAY, START, WRITERS, judged, write_ratings, write_run
from trainer.formats.encode import Texts, catalogue_of, encoded_fold
from trainer.formats.errors import DataError, FormatError
from trainer.formats.folder import Reading, read_pages
from trainer.formats.labelled_pages import LabelledPages
from trainer.formats.memory import check_memory, predicted_bytes
from trainer.formats.shopper_pages import ShopperLimits
from trainer.formats.texts import MOST_LETTERS, plain_text
from trainer.learning.categories import REST, shown_categories

SMALL = ShopperLimits((60, 20, 30), candidates=6, test_candidates=8)
MOST_SECONDS = 20


def write(folder: Path, frame: pl.DataFrame) -> LabelledPages:
    """Write judged pairs and read them back as pages."""
    frame.rename({"title": "product_title", "rating": "median_relevance"}).write_csv(
        folder / "train.csv"
    )
    return read_pages(folder, Reading())


def test_lines_of_too_many_columns_are_refused(tmp_path: Path) -> None:
    WRITERS["pairs"](tmp_path)
    with (tmp_path / "train.csv").open("a", encoding="utf-8") as file:
        file.write("w1a,product,2,bells,and,more,columns\n")
    with pytest.raises(FormatError, match=r"train\.csv: got found more fields"):
        read_pages(tmp_path, Reading())


def test_grades_outside_a_scale_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame(judged(12)).with_columns(rating=pl.arange(0, 96, eager=True))
    with pytest.raises(DataError, match="96 different grades, want 1 to 8"):
        write(tmp_path, frame)


def test_ratings_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    write_ratings(tmp_path)
    path = tmp_path / "ratings.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    before = int(read_pages(tmp_path, Reading(limits=SMALL)).facts["positive events"])
    lines[5] = lines[5].replace("\t5\t", "\tnan\t").replace("\t4\t", "\tnan\t")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_pages(tmp_path, Reading(limits=SMALL)).facts["positive events"] == before - 1


def test_a_line_given_twice_counts_once(tmp_path: Path) -> None:
    frame = pl.DataFrame(judged(24))
    once, twice = tmp_path / "once", tmp_path / "twice"
    once.mkdir()
    twice.mkdir()
    first, second = write(once, frame), write(twice, pl.concat([frame, frame]))
    assert np.array_equal(first.grades, second.grades)
    assert second.facts["judged twice, left out"] == second.facts["judgments"]
    write_ratings(tmp_path)
    path = tmp_path / "ratings.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    before = read_pages(tmp_path, Reading(limits=SMALL)).facts
    path.write_text("\n".join([*lines, *lines[1:]]) + "\n", encoding="utf-8")
    assert read_pages(tmp_path, Reading(limits=SMALL)).facts == before


def test_a_page_of_one_candidate_is_left_out_and_counted(tmp_path: Path) -> None:
    frame = pl.DataFrame(judged(24))
    single = frame.head(1).with_columns(query=pl.lit("alone"))
    pages = write(tmp_path, pl.concat([frame, single]))
    assert pages.facts["pages of one candidate, left out"] == 1
    assert "alone" not in pages.queries
    assert np.diff(pages.offsets).min() > 1


def test_lists_of_one_candidate_are_left_out_and_counted(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = tmp_path / "north_valid_run.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    name, _ = lines[0].split("\t")
    qrel = pl.read_csv(tmp_path / "north_valid_qrel.tsv", separator="\t")
    relevant = qrel.filter(pl.col("userId") == name)["itemId"][0]
    path.write_text("\n".join([f"{name}\t{relevant},", *lines[1:]]) + "\n", encoding="utf-8")
    pages = read_pages(tmp_path, Reading())
    assert pages.facts["lists of one candidate, left out"] == 1
    assert pages.count == 59


def test_categories_of_one_page_of_positives_only_and_of_none(tmp_path: Path) -> None:
    frame = pl.DataFrame(judged(24))
    queries = frame["query"].unique(maintain_order=True).to_list()
    first, second, third = queries[:3]
    query = pl.col("query")
    named = (
        pl.when(query == first).then(pl.lit("one page"))
        .when(query == second).then(pl.lit("positives only"))
        .when(query == third).then(pl.lit("no positive"))
        .otherwise("category")
    )  # fmt: skip
    graded = (
        pl.when(query == second).then(3).when(query == third).then(0).otherwise("rating")
    )  # fmt: skip
    pages = write(tmp_path, frame.with_columns(category=named, rating=graded))
    assert {"one page", "positives only", "no positive"} < set(pages.categories)
    for fold in range(len(pages.folds)):
        log = encoded_fold(pages, fold)
        catalogue = catalogue_of(pages, fold, log, Texts.of(pages))
        assert np.isfinite(log.labels).all()
        assert np.isfinite(catalogue.category_text).all()


@pytest.mark.parametrize("value", [7.0, None])
def test_a_constant_or_missing_feature_scales_to_finite_numbers(
    value: float | None, tmp_path: Path
) -> None:
    frame = pl.DataFrame(judged(24)).with_columns(price=pl.lit(value, pl.Float64))
    pages = write(tmp_path, frame)
    log = encoded_fold(pages, 0)
    spec = log.schema.features[pages.feature_names.index("log_price")]
    assert np.isfinite([spec.mean, spec.scale]).all()
    assert spec.scale > 0


def test_a_shopper_with_fifty_thousand_events_is_read_in_time(tmp_path: Path) -> None:
    write_ratings(tmp_path)
    many = 50_000
    shopper = pl.DataFrame(
        {
            "user": ["busy"] * many,
            "item": [f"p{number % 24}" for number in range(many)],
            "rating": [5] * many,
            "ts": [START + number * 24 * DAY // many for number in range(many)],
            "category": ["lanterns" if number % 2 else "kites" for number in range(many)],
        }
    )
    path = tmp_path / "ratings.tsv"
    frame = pl.read_csv(path, separator="\t")
    pl.concat([frame, shopper.select(frame.columns)]).write_csv(path, separator="\t")
    began = time.monotonic()
    pages = read_pages(tmp_path, Reading(limits=SMALL))
    assert time.monotonic() - began < MOST_SECONDS
    assert int(pages.facts["positive events"]) > many


def test_ten_thousand_categories_share_one_line_beyond_the_largest(tmp_path: Path) -> None:
    count = 10_000
    rows = [
        {"user": f"u{u}", "item": f"p{(u * 7 + d * 31) % (2 * count)}", "rating": 5,
         "ts": START + d * DAY}
        for u in range(2_000)
        for d in range(12)
    ]  # fmt: skip
    frame = pl.DataFrame(rows).with_columns(
        category="c" + (pl.col("item").str.slice(1).cast(pl.Int64) // 2).cast(pl.String)
    )
    frame.write_parquet(tmp_path / "ratings.parquet")
    pages = read_pages(tmp_path, Reading(limits=SMALL))
    assert len(pages.categories) > count // 2
    everything = pages.page_set()
    names, with_codes = shown_categories(pages, everything)
    assert names[0] == REST
    assert len(names) == 60
    shown = with_codes(everything)
    assert shown.categories.max() < len(names)
    kept = np.flatnonzero(shown.categories)
    assert [names[code] for code in shown.categories[kept]] == [
        pages.category_names[code] for code in everything.categories[kept]
    ]


def test_a_text_of_a_megabyte_is_cut_and_counted(tmp_path: Path) -> None:
    frame = pl.DataFrame(judged(24)).with_columns(
        product_description=pl.when(pl.arange(0, 192) == 3)
        .then(pl.lit("long " * 200_000))
        .otherwise(pl.lit("<b>short</b> &amp; plain"))
    )
    pages = write(tmp_path, frame)
    assert pages.facts["texts shortened"] == 1
    assert max(map(len, pages.product_texts)) < 2 * MOST_LETTERS
    assert "<b>" not in pages.product_texts[0]


def test_markup_and_entities_become_plain_words() -> None:
    text = "<style>a{b}</style><p>red &amp; blue</p>\n<script>x()</script>lamp"
    assert plain_text(text) == ("red & blue lamp", False)
    assert plain_text("7 < 8 and 9 > 8")[0].startswith("7")


def test_memory_is_refused_before_it_is_taken_with_what_avoids_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert predicted_bytes(2_000_000, 40, 10_000) > 3 * 2_000_000 * 40 * 4
    monkeypatch.setattr("trainer.formats.memory.free_bytes", lambda: 2**20)
    with pytest.raises(DataError, match=r"memory: got .* take smaller --pages") as caught:
        check_memory(10**6, 30, 10**5, "smaller --pages")
    assert "GiB" in str(caught.value)
    write_ratings(tmp_path)
    with pytest.raises(DataError, match="smaller --pages"):
        read_pages(tmp_path, Reading(limits=SMALL))


def test_no_prediction_is_made_where_the_system_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.formats.memory.free_bytes", lambda: None)
    check_memory(10**12, 30, 10**9, "smaller --pages")
