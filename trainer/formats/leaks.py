"""The leak guard: a feature that alone tells positives apart is rather a mistake than a gift."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.errors import nearest
from trainer.encoding.pageset import Doubles, PageSet
from trainer.formats.errors import DataError
from trainer.formats.labelled_pages import TRAIN, VALIDATION, LabelledPages

HIGHEST_AUC = 0.98
_FEWEST_PAGES = 3  # of fewer, an AUC says nothing


def refuse_leaks(pages: LabelledPages, allowed: tuple[str, ...]) -> None:
    """Refuse pages with a feature whose mean AUC is above `HIGHEST_AUC`, or below its opposite.

    It must be so on training pages and on validation pages of a fold. A product's number that was
    counted after the page, or made of its label, shows like this.

    Args:
        pages: The data set.
        allowed: Features that may be like this.

    Raises:
        DataError: When there is such a feature, or an allowed one does not exist; names them.
    """
    for name in allowed:
        if name not in pages.feature_names:
            raise DataError(
                f"allow-leaks: got {name!r}, want one of {', '.join(pages.feature_names)}"
                f"{nearest(name, pages.feature_names)}"
            )
    everything = pages.page_set()
    suspects: dict[str, float] = {}
    for splits in pages.folds:
        parts = [everything.select(splits == split) for split in (TRAIN, VALIDATION)]
        for name in pages.feature_names:
            if name not in allowed:
                least = min(_strength(part, name) for part in parts)
                suspects[name] = max(suspects.get(name, 0.0), least)
    found = {name: value for name, value in suspects.items() if value > HIGHEST_AUC}
    if found:
        told = ", ".join(f"{name} (AUC {value:.3f})" for name, value in found.items())
        options = " ".join(f"--allow-leaks {name}" for name in found)
        raise DataError(
            f"features: got {told}, which alone tell positives apart, want at most "
            f"{HIGHEST_AUC}: mend the data, or take them as they are with {options}"
        )


def _strength(pages: PageSet, name: str) -> float:
    """Return how far a feature's mean AUC is towards 1 or 0, as an AUC; 0.5 says nothing."""
    values = np.nan_to_num(pages.feature(name), nan=-np.inf)
    figures = page_auc(pages.objective(pages.objectives[0]) > 0, values, pages)
    figures = figures[~np.isnan(figures)]
    if figures.size < _FEWEST_PAGES:
        return 0.5
    mean = float(figures.mean())
    return max(mean, 1 - mean)


def page_auc(positive: np.ndarray, values: Doubles, pages: PageSet) -> Doubles:
    """Return of each page the share of (positive, other) pairs in order, ties half.

    AUC = (sum of the ranks of positives - n (n + 1) / 2) / (n m) (Hanley and McNeil 1982), ranks
    from 1, tied ones their mean. NaN on a page without positives or without others.
    """
    page = pages.page_of_row
    order = np.lexsort((values, page))
    sorted_page, sorted_values = page[order], values[order]
    fresh = np.ones(order.size, np.bool_)
    fresh[1:] = (np.diff(sorted_page) != 0) | (sorted_values[1:] != sorted_values[:-1])
    group = np.cumsum(fresh) - 1
    place = np.arange(order.size) - pages.offsets[sorted_page] + 1.0
    mean = np.bincount(group, place) / np.bincount(group)
    rank = np.empty(order.size)
    rank[order] = mean[group]
    n = pages.sums(positive)
    m = pages.sizes - n
    with np.errstate(divide="ignore", invalid="ignore"):
        figures: Doubles = (pages.sums(rank * positive) - n * (n + 1) / 2) / (n * m)
    figures[(n == 0) | (m == 0)] = np.nan
    return figures
