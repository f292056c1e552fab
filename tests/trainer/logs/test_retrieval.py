from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.logs.pages import Candidates
from trainer.logs.retrieval import best_of_page, merge_sources


def candidates(pairs: list[tuple[int, int]], source: int) -> Candidates:
    page, row = (np.array(column) for column in zip(*pairs, strict=True))
    return Candidates(
        page=page.astype(np.int64),
        row=row.astype(np.int32),
        score=row.astype(np.float32),
        source=np.full(len(pairs), source, np.uint8),
    )


def test_the_best_of_each_page_come_first_and_ties_go_to_the_lower_row():
    page = np.array([1, 0, 0, 0, 1])
    row = np.array([4, 9, 2, 7, 3], np.int32)
    score = np.array([1.0, 5.0, 5.0, 8.0, 2.0])
    best = best_of_page(page, row, score, 2)
    assert page[best].tolist() == [0, 0, 1, 1]
    assert row[best].tolist() == [7, 2, 3, 4]


def test_a_limit_of_0_keeps_none():
    assert len(best_of_page(np.array([0]), np.array([1], np.int32), np.array([1.0]), 0)) == 0


def test_merged_sources_keep_the_first_place_of_a_product_and_remember_every_source():
    merged = merge_sources(
        [candidates([(0, 5), (0, 2), (1, 7)], 1), candidates([(0, 2), (0, 9), (1, 5)], 2)], 10
    )
    assert merged.page.tolist() == [0, 0, 0, 1, 1]
    assert merged.row.tolist() == [5, 2, 9, 7, 5]
    assert merged.source.tolist() == [1, 3, 2, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40))
def test_a_merged_page_holds_each_product_once(pairs):
    merged = merge_sources([candidates(pairs, 1), candidates(pairs, 2)], 10)
    keys = merged.page * 10 + merged.row
    assert sorted(keys.tolist()) == sorted({page * 10 + row for page, row in pairs})
    assert (np.diff(merged.page) >= 0).all()
    assert (merged.source == 3).all()
