"""Groups of pages that are reported apart: categories, and slices by what was bought."""

from __future__ import annotations

import numpy as np

from trainer.encoding.encoded import NEVER_BOUGHT_FEATURE
from trainer.encoding.pageset import Doubles, Mask, PageSet
from trainer.evaluation.bootstrap import Membership

COLD_SALES = 3.0  # sales in 91 days below which a product counts as cold


def page_slices(pages: PageSet, gains: Doubles) -> dict[str, Mask]:
    """Flag the pages of each slice, shape (pages,); slices may overlap.

    - `repeat`: the shopper bought one of the page's positives before.
    - `never bought`: the page has positives, and the shopper bought none of them before.
    - `new category`: a positive is of a category the shopper never bought from.
    - `cold product`: a positive sold fewer than 3 times in the last 91 days.

    A slice is left out when its feature is not among the pages' features.
    """
    positive = gains > 0
    with_positive = pages.sums(positive) > 0
    slices: dict[str, Mask] = {}

    def holds(flags: Mask) -> Mask:
        return pages.sums(positive & flags) > 0

    if NEVER_BOUGHT_FEATURE in pages.feature_names:
        repeat = holds(pages.feature(NEVER_BOUGHT_FEATURE) > 0)
        slices["repeat"] = repeat
        slices["never bought"] = with_positive & ~repeat
    if "category_decayed_60d" in pages.feature_names:
        events = pages.feature("category_decayed_60d")
        slices["new category"] = holds(np.nan_to_num(events) == 0)
    if "sales_91d" in pages.feature_names:
        slices["cold product"] = holds(np.nan_to_num(pages.feature("sales_91d")) < COLD_SALES)
    return slices


def category_membership(
    pages: PageSet, gains: Doubles, category_names: tuple[str, ...]
) -> Membership:
    """Return the pages of each category; the weights of a page sum to 1.

    A page of one category (80 % of its candidates) belongs to it. A mixed page belongs to the
    categories of its positives, in proportion to their number, and to none without a positive.
    """
    whole = pages.page_categories()
    single = np.flatnonzero(whole >= 0)
    mixed_rows = np.flatnonzero((gains > 0) & (whole[pages.page_of_row] < 0))
    width = len(category_names)
    keys, counts = np.unique(
        pages.page_of_row[mixed_rows] * width + pages.categories[mixed_rows], return_counts=True
    )
    positives = pages.sums(gains > 0)
    return Membership(
        page=np.concatenate([single, keys // width]),
        group=np.concatenate([whole[single], keys % width]).astype(np.int64),
        weight=np.concatenate([np.ones(single.size), counts / positives[keys // width]]),
        names=category_names,
    )


def slice_membership(slices: dict[str, Mask]) -> Membership:
    """Return the pages of each slice, with weight 1."""
    members = [np.flatnonzero(flags) for flags in slices.values()]
    page = np.concatenate([np.zeros(0, np.int64), *members])
    group = np.repeat(np.arange(len(members)), [member.size for member in members])
    return Membership(page, group.astype(np.int64), np.ones(page.size), tuple(slices))
