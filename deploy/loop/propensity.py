"""How likely each place of a page is looked at, estimated from clicks, and the weights it gives.

The position-based model is fitted by expectation maximisation over pairs of query and product
(Chuklin, Markov and de Rijke 2015, section 4.1; Wang et al. 2018). It needs pairs that were shown
on several places, which a first pass that changes, an experiment or exploration provides.
A click's weight is the inverse of its place's propensity, clipped (Joachims, Swaminathan and
Schnabel 2017, eq. 5; Swaminathan and Joachims 2015 for the clipping).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deploy.loop.search_log import CLICK, LoggedSearch

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROUNDS = 60
CLIP = 5.0
# A place or pair that was hardly shown is drawn towards these.
_PRIOR_SHOWN, _PRIOR_ATTRACTION = 2.0, 0.15
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
    pair, place, clicked = _impressions(searches, places)
    shown = np.bincount(place, minlength=places).astype(np.int64)
    if not clicked.any():
        return Examination(np.ones(places), shown)
    pairs = int(pair.max()) + 1
    examined = 1.0 / np.arange(1, places + 1)
    attraction = np.full(pairs, _PRIOR_ATTRACTION)
    shown_pairs = np.bincount(pair, minlength=pairs)
    for _ in range(ROUNDS):
        theta, alpha = examined[place], attraction[pair]
        missed = np.maximum(1.0 - theta * alpha, _LEAST)
        looked = np.where(clicked, 1.0, theta * (1.0 - alpha) / missed)
        liked = np.where(clicked, 1.0, alpha * (1.0 - theta) / missed)
        examined = np.bincount(place, looked, places) / np.maximum(shown, 1)
        attraction = (np.bincount(pair, liked, pairs) + _PRIOR_SHOWN * _PRIOR_ATTRACTION) / (
            shown_pairs + _PRIOR_SHOWN
        )
    curve = _not_increasing(examined, shown.astype(np.float64))
    return Examination(np.maximum(curve / max(curve[0], _LEAST), _LEAST), shown)


def _impressions(
    searches: Sequence[LoggedSearch], places: int
) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    codes: dict[tuple[str, str], int] = {}
    pair, place, clicked = [], [], []
    for search in searches:
        clicks = set(search.products_of(CLICK))
        for rank, product in enumerate(search.shown_ids[:places]):
            pair.append(codes.setdefault((search.query, product), len(codes)))
            place.append(rank)
            clicked.append(product in clicks)
    return np.array(pair, np.int64), np.array(place, np.int64), np.array(clicked, np.bool_)


def _not_increasing(values: Doubles, weights: Doubles) -> Doubles:
    """Pool adjacent violators, from the left."""
    blocks: list[list[float]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append([value, max(weight, 1e-9), 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            mean, mass, length = blocks.pop()
            total = blocks[-1][1] + mass
            blocks[-1][0] = (blocks[-1][0] * blocks[-1][1] + mean * mass) / total
            blocks[-1][1], blocks[-1][2] = total, blocks[-1][2] + length
    return np.concatenate([np.full(int(length), mean) for mean, _, length in blocks])
