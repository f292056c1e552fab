"""What first-pass retrieval reaches, counted per surface and split."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.logs.pages import SOURCES, SPLITS, Pages, sum_by_page
from trainer.logs.searches import SURFACES


def page_figures(
    built: Pages, too_small: npt.NDArray[np.bool_], unreached: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Return counts and candidate recall per surface and split.

    Recall is reached positives over all positives, over the pages that are not too small; the
    recall of a source counts the positives it found, whoever else did.

    Args:
        built: All pages as retrieved.
        too_small: Pages left out for having too few candidates.
        unreached: Training pages left out for holding no positive.
    """
    reached = built.reached()
    positive = (built.labels[:, 0] > 0).astype(np.int64)
    by_source = [
        sum_by_page(positive * (built.source >> bit & 1), built.offsets)
        for bit in range(len(SOURCES))
    ]
    sizes = np.diff(built.offsets)
    figures: dict[str, Any] = {}
    for surface, surface_name in enumerate(SURFACES):
        for split, split_name in enumerate(SPLITS):
            group = (built.surface == surface) & (built.split == split)
            if not group.any():
                continue
            used = group & ~too_small
            positives = max(int(built.positives_total[used].sum()), 1)
            figures.setdefault(surface_name, {})[split_name] = {
                "pages_retrieved": int(group.sum()),
                "pages_too_small": int((group & too_small).sum()),
                "pages_without_reached_positive": int((used & (reached == 0)).sum()),
                "pages_kept": int((used & ~unreached).sum()),
                "candidates_per_page": _ratio(sizes[used].sum(), used.sum()),
                "positives_per_page": _ratio(built.positives_total[used].sum(), used.sum()),
                "recall": _ratio(reached[used].sum(), positives),
                "recall_by_source": {
                    name: _ratio(found[used].sum(), positives)
                    for name, found in zip(SOURCES, by_source, strict=True)
                    if found[used].any()
                },
            }
    return figures


def _ratio(part: np.integer[Any] | int, whole: np.integer[Any] | int) -> float:
    return round(int(part) / max(int(whole), 1), 4)
