"""How likely each place of a page is looked at, by the loop's own searches.

The curve is `trainer.evaluation.position_bias`'s regression EM over pairs of query and product. It
needs pairs that were shown on several places, which a first pass that changes, an experiment or
exploration provides. The scores that ordered the page are left out on purpose: they decide the
place, so that attraction and examination could no longer be told apart, and the curve comes out far
too high (`tests/benchmarks/results/off-policy.json`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deploy.loop.search_log import CLICK, LoggedSearch
from trainer.evaluation.position_bias import Impressions, fit_examination, not_increasing

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLIP = 5.0
_LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class Examination:
    """An estimated examination curve.

    Attributes:
        propensity: Of each place, the first is 1, not increasing.
        shown: How often each place was shown.
    """

    propensity: Doubles
    shown: Ints

    def weight(self, place: int, clip: float = CLIP) -> float:
        """Return min(clip, 1 / propensity) of a place, from 1; clip of one beyond the curve."""
        if place > self.propensity.size:
            return clip
        return float(min(clip, 1.0 / max(self.propensity[place - 1], _LEAST)))


def estimate_examination(searches: Sequence[LoggedSearch], places: int) -> Examination:
    """Fit the examination curve of the first `places`; all ones without a click.

    The curve is made not increasing by pooling neighbours (isotonic regression, weighted by how
    often each place was shown).
    """
    impressions = impressions_of(searches, places)
    shown = np.bincount(impressions.place, minlength=places).astype(np.int64)
    if not impressions.clicked.any():
        return Examination(np.ones(places), shown)
    fitted = fit_examination(impressions, places)
    curve = not_increasing(fitted.examination, shown.astype(np.float64))
    return Examination(np.maximum(curve / max(curve[0], _LEAST), _LEAST), shown)


def impressions_of(searches: Sequence[LoggedSearch], places: int) -> Impressions:
    """Return what was shown on the first `places` of each page, and whether it was clicked."""
    codes: dict[tuple[str, str], int] = {}
    pair, place, clicked = [], [], []
    for search in searches:
        clicks = set(search.products_of(CLICK))
        for rank, product in enumerate(search.shown_ids[:places]):
            pair.append(codes.setdefault((search.query, product), len(codes)))
            place.append(rank)
            clicked.append(product in clicks)
    return Impressions(
        np.array(pair, np.int64), np.array(place, np.int64), np.array(clicked, np.bool_)
    )
