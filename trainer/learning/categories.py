"""Which categories a table shows by name: the largest; the rest of very many are one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from trainer.encoding.pageset import PageSet
from trainer.formats.labelled_pages import LabelledPages

MOST_SHOWN = 60  # an interval of each over thousands of draws takes memory
REST = "(all others)"


def shown_categories(
    pages: LabelledPages, tested: PageSet
) -> tuple[tuple[str, ...], Callable[[PageSet], PageSet]]:
    """Return the names of the categories that are shown, and how pages come to have their codes.

    Args:
        pages: The data set.
        tested: Its test pages; categories with most of their candidates are shown.
    """
    names = pages.category_names
    if len(names) <= MOST_SHOWN:
        return names, lambda page_set: page_set
    counts = np.bincount(tested.categories, minlength=len(names))
    shown = np.sort(np.argsort(-counts, kind="stable")[: MOST_SHOWN - 1])
    code = np.zeros(len(names), np.int32)
    code[shown] = np.arange(1, shown.size + 1)

    def with_codes(page_set: PageSet) -> PageSet:
        return replace(page_set, categories=code[page_set.categories])

    return (REST, *(names[row] for row in shown.tolist())), with_codes
