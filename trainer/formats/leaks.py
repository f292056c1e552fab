"""The leak guard: a feature that alone tells positives apart is rather a mistake than a gift."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.errors import nearest
from trainer.encoding.pageset import PageSet
from trainer.evaluation.metrics import page_auc
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
    figures = page_auc(pages.objective(pages.objectives[0]) > 0, values, pages.offsets)
    figures = figures[~np.isnan(figures)]
    if figures.size < _FEWEST_PAGES:
        return 0.5
    mean = float(figures.mean())
    return max(mean, 1 - mean)
