"""How likely each place of a page is looked at, estimated from clicks, and the weights it gives.

The position-based model: P(click on product d of query q at place k) = theta_k * alpha_qd, the
examination of the place times the attraction of the product (Richardson et al. 2007). Only their
product is seen, so theta_1 is fixed at 1 and all else is relative to it. Three estimates:

- `fit_examination`, from any log: expectation maximisation with a regression for the attraction
  (regression EM, Wang et al. 2018, section 3.2), for logs where the same product was shown at
  several places or its attraction can be read from features;
- `harvest_examination`, from the logs of two or more rankings: only products that stood at
  different places are compared (intervention harvesting, Agarwal et al. 2019, AllPairs);
- `swap_examination`, from an experiment that swapped two places by a coin (Joachims,
  Swaminathan and Schnabel 2017, section 5.3): needs no model at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from rerank_server.contract.errors import RerankError
from trainer.encoding.pageset import Doubles, Integers, Mask

ROUNDS = 400
CLIP = 10.0
_TOLERANCE = 1e-5
_SMALLEST = 1e-6
# Standard deviation, in logits, of a pair's attraction around what the features say of it.
_PAIR_DEVIATION = 1.0
_LONGEST_STEP = 2.0
_RIDGE = 1e-3


class PositionBiasError(RerankError):
    """Impressions that no position bias can be estimated from."""


@dataclass(frozen=True, slots=True)
class Impressions:
    """What was shown where, and whether it was clicked; all arrays of one length.

    Attributes:
        pair: Code of query and product, from 0.
        place: Place on the page, from 0.
        clicked: Whether it was clicked.
        features: What the attraction may depend on beside the pair, shape (impressions, features);
            None for nothing. What a ranking knows of the shopper belongs here, for it would
            otherwise be taken for examination; yet not the score by which the page was ordered,
            which says the same as the place.
    """

    pair: Integers
    place: Integers
    clicked: Mask
    features: Doubles | None = None

    def __post_init__(self) -> None:
        """Check that the arrays fit together.

        Raises:
            PositionBiasError: When one has another length, a negative code or a feature that is
                not finite.
        """
        count = self.clicked.size
        for name, array in (("pair", self.pair), ("place", self.place)):
            if array.shape != (count,):
                raise PositionBiasError(f"{name}: got shape {array.shape}, want ({count},)")
            if count and array.min() < 0:
                raise PositionBiasError(f"{name}: got {array.min()}, want numbers from 0")
        if self.features is not None:
            if self.features.shape[:1] != (count,) or self.features.ndim != 2:  # noqa: PLR2004
                raise PositionBiasError(
                    f"features: got shape {self.features.shape}, want ({count}, features)"
                )
            if not np.isfinite(self.features).all():
                raise PositionBiasError("features: got a number that is not finite, want none")


@dataclass(frozen=True, slots=True)
class PositionModel:
    """A fitted position-based model.

    Attributes:
        examination: Of each place, the first is 1, shape (places,).
        attraction: Of each impression (or cell of pairs of places), in (0, 1).
        shown: How often each place was shown, shape (places,).
        rounds: Rounds until nothing moved, or all of them.
        log_likelihood: Of the clicks, per impression.
    """

    examination: Doubles
    attraction: Doubles
    shown: Integers
    rounds: int
    log_likelihood: float


def fit_examination(
    impressions: Impressions,
    places: int,
    *,
    pair_deviation: float = _PAIR_DEVIATION,
    rounds: int = ROUNDS,
) -> PositionModel:
    """Fit examination and attraction by regression EM.

    logit(attraction) = b + w * features + u_pair, u_pair ~ N(0, pair_deviation^2). A round finds
    how likely each place was looked at and each product attractive given the clicks (Wang et al.
    2018, eq. 3), takes the mean of the first for each place, and one Newton step of the logistic
    regression of the second, so the level of the attraction is learned, not assumed.

    Args:
        impressions: At least one with a click.
        places: Places of the curve; impressions beyond are left out.
        pair_deviation: See above; 0 lets the features alone speak.
        rounds: At most.

    Raises:
        PositionBiasError: Without a click, or when places or deviation are out of range.
    """
    if places < 1:
        raise PositionBiasError(f"places: got {places}, want at least 1")
    if not 0 <= pair_deviation < math.inf:
        raise PositionBiasError(f"pair_deviation: got {pair_deviation}, want 0 or more")
    inside = impressions.place < places
    place, clicked = impressions.place[inside], impressions.clicked[inside]
    if not clicked.any():
        raise PositionBiasError(f"clicks: got none on {clicked.size} impressions, want some")
    _, pair = np.unique(impressions.pair[inside], return_inverse=True)
    features = None if impressions.features is None else impressions.features[inside]
    attraction = _Attraction(_design(features, clicked.size), pair, pair_deviation)
    attraction.start(float(clicked[place == place.min()].mean()))
    shown = np.bincount(place, minlength=places)
    examination = 1.0 / np.arange(1, places + 1)
    done = 0
    for done in range(1, rounds + 1):  # noqa: B007  the last value is told
        theta, alpha = examination[place], attraction.values()
        looked, liked = _posterior(clicked, theta, alpha)
        attraction.step(liked)
        fresh = np.bincount(place, looked, places) / np.maximum(shown, 1)
        fresh = _anchored(fresh, shown)
        moved = float(np.abs(fresh - examination).max())
        examination = fresh
        if moved < _TOLERANCE:
            break
    alpha = attraction.values()
    chance = np.clip(examination[place] * alpha, _SMALLEST, 1 - _SMALLEST)
    likelihood = np.where(clicked, np.log(chance), np.log1p(-chance)).mean()
    return PositionModel(examination, alpha, shown, done, float(likelihood))


def harvest_examination(
    impressions: Impressions, ranking: Integers, places: int, *, rounds: int = ROUNDS
) -> PositionModel:
    """Estimate the curve from products that several rankings put at different places.

    For each two places k, k', the pairs of query and product that were shown at both are a fair
    comparison of the two: their rates of clicks at each are summed with equal weight, and the
    likelihood of Agarwal et al. 2019 (eq. 5, AllPairs) is maximised over theta and one relevance
    for each pair of places.

    Args:
        impressions: Of all rankings; features are not read.
        ranking: Which ranking made the page of each impression, shape (impressions,).
        places: Places of the curve.
        rounds: At most.

    Raises:
        PositionBiasError: With one ranking only, or where no product stood at two places.
    """
    if np.unique(ranking).size < 2:  # noqa: PLR2004  two, to differ
        raise PositionBiasError("ranking: got pages of one ranking, want those of at least two")
    inside = impressions.place < places
    _, pair = np.unique(impressions.pair[inside], return_inverse=True)
    place, clicked = impressions.place[inside], impressions.clicked[inside]
    cells, at, counts = np.unique(pair * places + place, return_inverse=True, return_counts=True)
    rates = np.bincount(at, clicked) / counts
    cell_pair, cell_place = np.divmod(cells, places)
    first, second = _cells_of_one_pair(cell_pair)
    if not first.size:
        raise PositionBiasError("impressions: got no product at two places, want some")
    low, high = cell_place[first], cell_place[second]
    group = np.concatenate([low * places + high, low * places + high])
    where = np.concatenate([low, high])
    mass = np.concatenate([rates[first], rates[second]])
    table = _summed(group * places + where, mass)
    codes, clicks, misses = table
    of_group, of_place = np.divmod(codes, places)
    _, of_group = np.unique(of_group, return_inverse=True)
    return _fit_cells(of_group, of_place, clicks, misses, places, rounds)


def swap_examination(
    place: Integers, clicked: Mask, experiment: Integers
) -> dict[int, tuple[float, float]]:
    """Return examination of place k relative to place 0, and its standard error, by k.

    On pages of experiment k a coin had decided whether the products of places 0 and k change
    places, so that both products are at either as often, and theta_k / theta_0 is the ratio of
    the rates of clicks. The error is by the delta method.

    Args:
        place: Place of each impression; those other than 0 and k are left out.
        clicked: Whether it was clicked.
        experiment: k of the page of each impression.

    Raises:
        PositionBiasError: When an experiment has no click at place 0, or nothing at place k.
    """
    found = {}
    for k in np.unique(experiment).tolist():
        own = experiment == k
        top, low = clicked[own & (place == 0)], clicked[own & (place == k)]
        if k == 0 or not low.size or not top.any():
            raise PositionBiasError(
                f"experiment {k}: got {int(top.sum())} clicks at place 0 and {low.size} impressions"
                f" at place {k}, want clicks at the first and impressions at another"
            )
        rate_top, rate_low = float(top.mean()), float(low.mean())
        ratio = rate_low / rate_top
        variance = low.var() / low.size / rate_top**2 + ratio**2 * top.var() / top.size / (
            rate_top**2
        )
        found[int(k)] = (ratio, math.sqrt(variance))
    return found


def inverse_propensity_weights(
    examination: Doubles, place: Integers, clip: float = CLIP
) -> Doubles:
    """Return min(clip, 1 / examination) of each place; clip of one beyond the curve.

    Clipping bounds what one click at the bottom of a page can do (Swaminathan and Joachims 2015),
    at the price of a bias towards what was shown on top.

    Raises:
        PositionBiasError: When clip is below 1, which would weigh down the first place.
    """
    if not clip >= 1:
        raise PositionBiasError(f"clip: got {clip}, want 1 or more")
    known = place < examination.size
    seen = examination[np.where(known, place, 0)]
    return np.where(known, np.minimum(clip, 1.0 / np.maximum(seen, 1.0 / clip)), clip)


def effective_sample_size(weights: Doubles) -> float:
    """Return (sum w)^2 / sum w^2: as many equal weights have the same variance (Kish 1965)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def copies_of_clicks(weights: Doubles, seed: int) -> Integers:
    """Return how often each click is to be repeated: its weight over the mean, in expectation.

    Training on the copies is, in expectation, training on the weighted clicks, with as many
    copies as clicks: a weight of 2.3 gives two, and a third with probability 0.3.
    """
    if not weights.size:
        return np.empty(0, np.int64)
    scaled = weights / weights.mean()
    copies = np.floor(scaled + np.random.default_rng(seed).random(weights.size))
    return np.asarray(copies, np.int64)


def not_increasing(values: Doubles, weights: Doubles) -> Doubles:
    """Return the nearest curve that never rises: neighbours that violate it are pooled."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, length = value, max(weight, _SMALLEST), 1
        while blocks and blocks[-1][0] < mean:
            before, of_before, places = blocks.pop()
            mean = (before * of_before + mean * mass) / (of_before + mass)
            mass, length = of_before + mass, length + places
        blocks.append((mean, mass, length))
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])


class _Attraction:
    """A logistic regression with an intercept of each pair's own, drawn towards 0."""

    def __init__(self, design: Doubles, pair: npt.NDArray[Any], deviation: float) -> None:
        self._design, self._pair = design, pair
        self._precision = 1.0 / deviation**2 if deviation else math.inf
        self._slopes = np.zeros(design.shape[1])
        self._own = np.zeros(int(pair.max()) + 1)

    def start(self, rate: float) -> None:
        self._slopes[0] = float(logit(np.clip(rate, 0.01, 0.99)))

    def values(self) -> Doubles:
        alpha: Doubles = expit(self._design @ self._slopes + self._own[self._pair])
        return np.clip(alpha, _SMALLEST, 1 - _SMALLEST)

    def step(self, wanted: Doubles) -> None:
        """Take a Newton step towards soft labels, slopes first, then each pair by itself."""
        alpha = self.values()
        curvature = alpha * (1 - alpha)
        hessian = (self._design * curvature[:, None]).T @ self._design
        hessian[np.diag_indices_from(hessian)] += _RIDGE
        self._slopes += _short(np.linalg.solve(hessian, self._design.T @ (wanted - alpha)))
        if math.isinf(self._precision):
            return
        alpha = self.values()
        count = self._own.size
        slope = np.bincount(self._pair, wanted - alpha, count) - self._precision * self._own
        bend = np.bincount(self._pair, alpha * (1 - alpha), count) + self._precision
        self._own += _short(slope / bend)


def _short(step: npt.NDArray[Any]) -> Doubles:
    short: Doubles = np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
    return short


def _design(features: Doubles | None, count: int) -> Doubles:
    """Return a column of ones and the features, standardised; constant ones are left out."""
    columns = [np.ones(count)]
    if features is not None:
        spread = features.std(axis=0)
        told = features[:, spread > _SMALLEST]
        columns += list(((told - told.mean(axis=0)) / spread[spread > _SMALLEST]).T)
    return np.stack(columns, axis=1)


def _posterior(clicked: Mask, theta: Doubles, alpha: Doubles) -> tuple[Doubles, Doubles]:
    """Return P(looked at) and P(attractive), given the clicks (Wang et al. 2018, eq. 3)."""
    missed = np.maximum(1.0 - theta * alpha, _SMALLEST)
    looked = np.where(clicked, 1.0, theta * (1.0 - alpha) / missed)
    liked = np.where(clicked, 1.0, alpha * (1.0 - theta) / missed)
    return looked, liked


def _anchored(examination: Doubles, shown: Integers) -> Doubles:
    """Return the curve with its first place at 1 and places that were never shown as before."""
    first = int(np.flatnonzero(shown)[0])
    fresh = np.clip(examination, _SMALLEST, 1.0)
    fresh[first] = 1.0
    empty = np.flatnonzero(shown == 0)
    for place in empty.tolist():
        fresh[place] = fresh[place - 1] if place else 1.0
    return fresh


def _cells_of_one_pair(cell_pair: Integers) -> tuple[Integers, Integers]:
    """Return all two cells of the same pair, lower place first; cells are sorted by pair."""
    starts = np.flatnonzero(np.r_[True, cell_pair[1:] != cell_pair[:-1]])
    sizes = np.diff(np.r_[starts, cell_pair.size])
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for size in np.unique(sizes[sizes > 1]).tolist():
        low, high = np.triu_indices(size, 1)
        own = starts[sizes == size][:, None]
        first.append((own + low).ravel())
        second.append((own + high).ravel())
    if not first:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(first), np.concatenate(second)


def _summed(codes: Integers, rates: Doubles) -> tuple[Integers, Doubles, Doubles]:
    """Return each distinct code with the sum of its rates and of what they lack to 1."""
    distinct, at, counts = np.unique(codes, return_inverse=True, return_counts=True)
    clicks: Doubles = np.bincount(at, rates).astype(np.float64)
    return distinct, clicks, counts.astype(np.float64) - clicks


def _fit_cells(
    group: Integers, place: Integers, clicks: Doubles, misses: Doubles, places: int, rounds: int
) -> PositionModel:
    """Maximise the likelihood of masses of clicks and misses, one relevance for each group."""
    shown = np.bincount(place, clicks + misses, places)
    examination, relevance = 1.0 / np.arange(1, places + 1), np.full(group.max() + 1, 0.3)
    weight = np.bincount(group, clicks + misses)
    done = 0
    for done in range(1, rounds + 1):  # noqa: B007
        theta, alpha = examination[place], relevance[group]
        looked, liked = _posterior(np.zeros(place.size, np.bool_), theta, alpha)
        fresh = np.bincount(place, clicks + misses * looked, places) / np.maximum(shown, _SMALLEST)
        relevance = np.clip(
            np.bincount(group, clicks + misses * liked) / weight, _SMALLEST, 1 - _SMALLEST
        )
        fresh = _anchored(fresh, np.ceil(shown).astype(np.int64))
        moved = float(np.abs(fresh - examination).max())
        examination = fresh
        if moved < _TOLERANCE:
            break
    chance = np.clip(examination[place] * relevance[group], _SMALLEST, 1 - _SMALLEST)
    total = float((clicks + misses).sum())
    likelihood = float((clicks * np.log(chance) + misses * np.log1p(-chance)).sum()) / total
    counts = np.bincount(place, minlength=places)
    return PositionModel(examination, relevance[group], counts, done, likelihood)
