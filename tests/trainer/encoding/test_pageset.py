from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.synthetic_pages import page_set, synthetic_pages
from trainer.encoding.dataset import read_prepared
from trainer.encoding.encoded import encode
from trainer.encoding.pageset import PageSetError, encoded_pages
from trainer.logs.prepare import prepare

# implicit warns of a conversion of its own (its `fit` hands a COO matrix to its `all_pairs_knn`)
# and of BLAS threads, which cost nothing on so few rows.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Method expects CSR input"),
    pytest.mark.filterwarnings("ignore:OpenBLAS is configured"),
]

TINY = Path(__file__).parents[1] / "data" / "complete_journey_tiny"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    prepared = read_prepared(prepare(TINY / "log.toml", folder, progress=False))
    return encode(prepared, ("search", "discovery", "promotion"), 56, folder / "encoded")


def test_selecting_pages_keeps_their_rows_in_order():
    pages = synthetic_pages(30)
    kept = np.arange(30) % 3 == 1
    selected = pages.select(kept)
    assert selected.pages == 10
    assert selected.sizes.tolist() == pages.sizes[kept].tolist()
    start, stop = pages.offsets[4], pages.offsets[5]
    new_start, new_stop = selected.offsets[1], selected.offsets[2]
    np.testing.assert_array_equal(selected.dense[new_start:new_stop], pages.dense[start:stop])
    np.testing.assert_array_equal(selected.rows[new_start:new_stop], pages.rows[start:stop])
    assert selected.page_columns["query"].tolist() == np.flatnonzero(kept).tolist()


def test_selecting_no_page_gives_an_empty_set():
    selected = synthetic_pages(5).select(np.zeros(5, bool))
    assert (selected.pages, selected.candidates) == (0, 0)


def test_discovery_keeps_what_was_never_bought_where_a_positive_and_two_candidates_stay():
    pages = page_set(
        [[1, 0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0]],
        own_count=[[1, 0, 0, 0], [2, 0, 0], [1, 0, 1], [0, 0]],
        shopper=[7, 8, 9, 10],
    )
    # Page 1 loses its positive and page 2 keeps one candidate only.
    assert pages.discovery_rows().tolist() == [False, True, True, True] + [False] * 6 + [True] * 2
    discovery = pages.discovery()
    assert discovery.shopper.tolist() == [7, 10]
    assert discovery.offsets.tolist() == [0, 3, 5]
    assert discovery.objective("purchase").tolist() == [0, 0, 1, 1, 0]
    assert discovery.positives_total.tolist() == [-1, -1]
    assert discovery.rows.tolist() == pages.rows[pages.discovery_rows()].tolist()


def test_a_page_is_mixed_unless_a_category_holds_four_fifths_of_it():
    pages = page_set(
        [[1, 0, 0, 0, 0], [1, 0, 0, 0], [0, 1]],
        categories=[[2, 2, 2, 2, 5], [2, 2, 2, 5], [3, 3]],
    )
    assert pages.page_categories().tolist() == [2, -1, 3]


def test_positions_and_sums_are_per_page():
    pages = page_set([[1, 0, 1], [0, 1]])
    assert pages.position.tolist() == [0, 1, 2, 0, 1]
    assert pages.sums(pages.objective("purchase")).tolist() == [2, 1]


def test_unknown_names_are_refused_with_the_nearest_known_one():
    pages = synthetic_pages(3)
    with pytest.raises(PageSetError, match=r"got 'sales_28', want .*nearest: sales_28d"):
        pages.feature("sales_28")
    with pytest.raises(PageSetError, match="got 'purchases', want one of purchase, trial"):
        pages.objective("purchases")


def test_arrays_that_do_not_fit_are_refused():
    pages = synthetic_pages(3)
    with pytest.raises(PageSetError, match=r"categories: got shape"):
        replace(pages, categories=pages.categories[1:])
    with pytest.raises(PageSetError, match=r"query: got shape \(2,\), want \(3,\)"):
        replace(pages, page_columns={"query": np.zeros(2)})
    with pytest.raises(PageSetError, match="got a decrease"):
        replace(pages, offsets=pages.offsets[[0, 2, 1, 3]])
    with pytest.raises(PageSetError, match="pages: got float64"):
        pages.select(np.zeros(3))  # type: ignore[arg-type]


def test_pages_of_an_encoded_log_are_its_rows(log):
    for surface in ("search", "promotion"):
        pages = encoded_pages(log, "test", surface)
        numbers = log.pages_of("test", surface)
        assert pages.pages == numbers.size > 0
        for page in (0, pages.pages - 1):
            ours = slice(pages.offsets[page], pages.offsets[page + 1])
            theirs = slice(log.offsets[numbers[page]], log.offsets[numbers[page] + 1])
            np.testing.assert_array_equal(pages.dense[ours], log.dense[theirs])
            np.testing.assert_array_equal(pages.labels[ours], log.labels[theirs])
            np.testing.assert_array_equal(pages.rows[ours], log.rows[theirs])
            in_log = log.selection.pages[numbers[page]]
            assert pages.shopper[page] == log.prepared.page_shoppers[in_log]
            assert pages.time[page] == log.prepared.page_times[in_log]
        reached = pages.sums(pages.objective("purchase"))
        assert (reached <= pages.positives_total).all()


def test_discovery_pages_of_a_log_are_those_made_from_its_search_pages(log):
    discovery = encoded_pages(log, "test", "discovery")
    made = encoded_pages(log, "test", "search").discovery()
    assert discovery.shopper.tolist() == made.shopper.tolist()
    assert discovery.rows.tolist() == made.rows.tolist()
    assert (discovery.positives_total == -1).all()


def test_an_unknown_surface_or_split_is_refused(log):
    with pytest.raises(PageSetError, match=r"surface: got 'serch', want .*nearest: search"):
        encoded_pages(log, "test", "serch")
    with pytest.raises(PageSetError, match="split: got 'tests', want one of train"):
        encoded_pages(log, "tests", "search")
