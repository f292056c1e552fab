from __future__ import annotations

import numpy as np

from trainer.encoding.log_share import PageLimits, share_of_log


def test_no_limit_gives_the_log_itself(tiny_log):
    assert share_of_log(tiny_log, PageLimits()) is tiny_log


def test_the_latest_pages_are_learned_from_and_others_are_spread(tiny_log):
    share = share_of_log(tiny_log, PageLimits(train=20, test=5))
    for surface in ("search", "discovery", "promotion"):
        train = tiny_log.selection.pages[tiny_log.pages_of("train", surface)]
        kept = share.selection.pages[share.pages_of("train", surface)]
        np.testing.assert_array_equal(kept, train[-20:])
        test = tiny_log.selection.pages[tiny_log.pages_of("test", surface)]
        kept = share.selection.pages[share.pages_of("test", surface)]
        assert kept.size == min(5, test.size)
        assert kept[0] == test[0]
        whole = tiny_log.pages_of("validation", surface).size
        assert share.pages_of("validation", surface).size == whole


def test_a_page_keeps_all_that_it_has(tiny_log):
    share = share_of_log(tiny_log, PageLimits(train=3, validation=3, test=3))
    for page, of_log in enumerate(share.selection.pages.tolist()):
        surface = share.selection.surfaces[page]
        (whole,) = np.flatnonzero(
            (tiny_log.selection.pages == of_log) & (tiny_log.selection.surfaces == surface)
        )
        rows = slice(share.offsets[page], share.offsets[page + 1])
        whole_rows = slice(tiny_log.offsets[whole], tiny_log.offsets[whole + 1])
        for name in ("dense", "labels", "rows", "categories"):
            np.testing.assert_array_equal(
                getattr(share, name)[rows], getattr(tiny_log, name)[whole_rows], name
            )
        np.testing.assert_array_equal(share.sequence_rows[page], tiny_log.sequence_rows[whole])


def test_other_pages_have_a_folder_of_another_name(tiny_log):
    first, second = (share_of_log(tiny_log, PageLimits(train=count)) for count in (3, 4))
    assert len({first.folder, second.folder, tiny_log.folder}) == 3
    assert first.folder == share_of_log(tiny_log, PageLimits(train=3)).folder
    assert first.folder.parent == tiny_log.folder.parent
