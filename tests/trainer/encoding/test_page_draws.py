"""Parts of a log for transfer: without a target, and with a few of its pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.encoding.encoded import SPLITS
from trainer.encoding.page_draws import (
    Draw,
    category_row,
    draw_pages,
    few_pages,
    measured_pages,
    pages_with_positive,
    transfer_surface,
    without_categories,
)
from trainer.errors import TransferError


@pytest.fixture(scope="module")
def target(tiny_log):
    """The category of most training pages."""
    pages = tiny_log.pages_of("train", "search")
    rows, counts = np.unique(tiny_log.categories[tiny_log.offsets[pages]], return_counts=True)
    return tiny_log.schema.categories[rows[counts.argmax()]]


def test_the_surface_of_transfer_holds_one_category_a_page(tiny_log):
    assert transfer_surface(tiny_log, ("promotion", "search")) == "search"
    with pytest.raises(TransferError, match="surfaces: got promotion, whose pages all mix"):
        transfer_surface(tiny_log, ("promotion",))


def test_no_page_that_is_learned_from_shows_a_category_that_is_left_out(tiny_log, target):
    row = category_row(tiny_log, target)
    without = without_categories(tiny_log, [target])
    shown = np.zeros(tiny_log.splits.size, np.bool_)
    for page in range(shown.size):
        start, stop = tiny_log.offsets[page : page + 2]
        shown[page] = (tiny_log.categories[start:stop] == row).any()
    for split in ("train", "validation"):
        for surface in tiny_log.schema.surfaces:
            before = tiny_log.pages_of(split, surface)
            np.testing.assert_array_equal(without.pages_of(split, surface), before[~shown[before]])
    np.testing.assert_array_equal(
        without.pages_of("test", "search"), tiny_log.pages_of("test", "search")
    )
    assert without.folder.name == f"{tiny_log.folder.name}-without-{row}"


def test_nothing_left_out_is_the_log_itself(tiny_log):
    assert without_categories(tiny_log, []) is tiny_log


def test_a_few_pages_are_of_the_target_with_a_positive_and_nothing_else_is_left(tiny_log, target):
    row = category_row(tiny_log, target)
    log = few_pages(tiny_log, target, 3, "search", "random", seed=1)
    assert (log.splits == SPLITS.index("train")).sum() == 3
    assert (log.splits == SPLITS.index("validation")).sum() == 3
    for split in SPLITS:
        pages = log.pages_of(split, "search")
        assert pages.size == (log.splits == SPLITS.index(split)).sum()
        assert (tiny_log.categories[tiny_log.offsets[pages]] == row).all()
        assert set(pages.tolist()) <= set(tiny_log.pages_of(split, "search").tolist())
    drawn = log.pages_of("train", "search")
    for page in drawn.tolist():
        assert tiny_log.labels[tiny_log.offsets[page] : tiny_log.offsets[page + 1], 0].any()
    np.testing.assert_array_equal(
        log.pages_of("test", "search"), measured_pages(tiny_log, target, "search")
    )


def test_draws_are_nested_differ_by_seed_and_keep_the_order_of_time():
    pages = np.arange(100, 200)
    few, more = (draw_pages(pages, count, "random", (1, 2)) for count in (5, 50))
    assert set(few.tolist()) <= set(more.tolist())
    assert few.tolist() == sorted(few.tolist())
    assert few.tolist() != draw_pages(pages, 5, "random", (2, 2)).tolist()
    assert draw_pages(pages, 3, "latest", (1,)).tolist() == [197, 198, 199]
    assert draw_pages(pages, 1000, "latest", (1,)).size == 100


def test_the_log_of_another_draw_has_another_name(tiny_log, target):
    draws: list[tuple[int, Draw, int]] = [
        (2, "random", 1),
        (3, "random", 1),
        (2, "latest", 1),
        (2, "random", 2),
    ]
    names = {
        few_pages(tiny_log, target, count, "search", draw, seed).folder.name
        for count, draw, seed in draws
    }
    assert len(names) == 4


def test_an_unknown_category_is_refused_with_the_nearest_one(tiny_log, target):
    with pytest.raises(TransferError, match=rf"target: got '{target}x', want one of .*{target}"):
        category_row(tiny_log, f"{target}x")


def test_more_pages_than_there_are_is_refused(tiny_log, target):
    row = category_row(tiny_log, target)
    there = pages_with_positive(tiny_log, row, "train", "search").size
    message = f"pages: got {there + 1} of '{target}', want at most the {there} training pages"
    with pytest.raises(TransferError, match=message):
        few_pages(tiny_log, target, there + 1, "search", "random", 1)
    with pytest.raises(TransferError, match="pages: got 0, want at least 1"):
        few_pages(tiny_log, target, 0, "search", "random", 1)


def test_a_target_without_a_positive_to_learn_stop_or_measure_by_is_refused(tiny_log, target):
    nothing = replace(tiny_log, labels=np.zeros_like(tiny_log.labels))
    with pytest.raises(TransferError, match="want at most the 0 training pages"):
        few_pages(nothing, target, 1, "search", "random", 1)
    with pytest.raises(TransferError, match="without a test page that shows a positive"):
        measured_pages(nothing, target, "search")
    splits = np.where(tiny_log.splits == SPLITS.index("validation"), -1, tiny_log.splits)
    with pytest.raises(TransferError, match="without a validation page that shows a positive"):
        few_pages(replace(tiny_log, splits=splits), target, 1, "search", "random", 1)
