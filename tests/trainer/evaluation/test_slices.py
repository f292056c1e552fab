from __future__ import annotations

import numpy as np

from tests.trainer.synthetic_pages import page_set
from trainer.evaluation.slices import category_membership, page_slices, slice_membership

PAGES = page_set(
    [[1, 0, 1], [1, 0], [0, 0], [1, 0]],
    categories=[[1, 1, 1], [2, 1], [2, 1], [2, 2]],
    own_count=[[2, 0, 0], [0, 3], [1, 0], [0, 0]],
    category_decayed_60d=[[1, 1, 1], [0, 2], [0, 0], [0, 0]],
    sales_91d=[[9, 0, 9], [50, 0], [0, 0], [np.nan, 9]],
)
GAINS = PAGES.objective("purchase")


def test_slices_look_at_the_positives_only():
    slices = {name: flags.tolist() for name, flags in page_slices(PAGES, GAINS).items()}
    assert slices == {
        "repeat": [True, False, False, False],
        "never bought": [False, True, False, True],
        "new category": [False, True, False, True],
        "cold product": [False, False, False, True],
    }


def test_a_slice_without_its_feature_is_left_out():
    only = PAGES.select(np.ones(4, bool))
    object.__setattr__(only, "feature_names", ("own_count", *["x"] * 9))
    assert set(page_slices(only, GAINS)) == {"repeat", "never bought"}


def test_slices_may_overlap_as_groups():
    groups = slice_membership({"a": np.array([True, True]), "b": np.array([False, True])})
    pairs = list(zip(groups.page.tolist(), groups.group.tolist(), strict=True))
    assert pairs == [(0, 0), (1, 0), (1, 1)]
    assert slice_membership({}).page.size == 0


def test_a_mixed_page_belongs_to_the_categories_of_its_positives():
    pages = page_set([[1, 1, 1, 0], [1, 0]], categories=[[1, 2, 2, 0], [2, 2]])
    groups = category_membership(pages, pages.objective("purchase"), ("neutral", "dairy", "pet"))
    entries = sorted(
        zip(groups.page.tolist(), groups.group.tolist(), groups.weight.tolist(), strict=True)
    )
    assert entries == [(0, 1, 1 / 3), (0, 2, 2 / 3), (1, 2, 1.0)]
    assert groups.names == ("neutral", "dairy", "pet")


def test_a_mixed_page_without_a_positive_belongs_to_no_category():
    groups = category_membership(PAGES, GAINS, ("neutral", "dairy", "pet"))
    assert sorted(zip(groups.page.tolist(), groups.group.tolist(), strict=True)) == [
        (0, 1),
        (1, 2),
        (3, 2),
    ]
