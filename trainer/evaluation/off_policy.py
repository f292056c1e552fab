"""What another ranking would have earned, estimated from the clicks of the one that was shown.

The value of a ranking is the sum over its products of lambda(place) * relevance: with lambda the
examination of the place it is the clicks a search would bring, with a discount it is a DCG. A
click at place k is relevance times examination theta_k, so c / rho with rho the propensity of
being looked at stands for the relevance (Joachims, Swaminathan and Schnabel 2017, eq. 5). Where
the pages were drawn by chance, rho is theta averaged over the places that the product might have
got (policy-aware, Oosterhuis and de Rijke 2020, eq. 8), which varies less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rerank_server.contract.errors import RerankError
from trainer.encoding.pageset import Doubles, Integers
from trainer.evaluation.position_bias import effective_sample_size

NAIVE, IPS, CLIPPED, SELF_NORMALISED = "naive", "IPS", "clipped IPS", "self-normalised IPS"
DIRECT, DOUBLY_ROBUST = "direct method", "doubly robust"
CLIP = 10.0


class OffPolicyError(RerankError):
    """Logged clicks that no value can be estimated from."""


@dataclass(frozen=True, slots=True)
class LoggedClicks:
    """Products of logged searches, shown or not; all arrays of one length.

    Attributes:
        search: Number of the search, from 0 and without gaps.
        clicked: 1 for a click, else 0.
        examined: Examination theta of the place where it was shown; 0 where it was not.
        propensity: rho: `examined` where the page was certain, else its mean over the pages that
            might have been shown. 0 where the product could not have been seen.
        value: lambda of the place that the new ranking gives the product, >= 0.
        relevance: A model's probability of relevance, learned from other clicks than these (or
            from other folds of them); None for estimates that need none.
    """

    search: Integers
    clicked: Doubles
    examined: Doubles
    propensity: Doubles
    value: Doubles
    relevance: Doubles | None = None

    def __post_init__(self) -> None:
        """Check shapes and ranges.

        Raises:
            OffPolicyError: With the first array that is wrong.
        """
        count = self.search.size
        if not count:
            raise OffPolicyError("search: got no product, want some")
        highest = {"clicked": 1.0, "examined": 1.0, "propensity": 1.0, "value": math.inf}
        arrays = {name: getattr(self, name) for name in highest}
        if self.relevance is not None:
            arrays["relevance"], highest["relevance"] = self.relevance, 1.0
        for name, array in arrays.items():
            if array.shape != (count,):
                raise OffPolicyError(f"{name}: got shape {array.shape}, want ({count},)")
            if not ((array >= 0) & (array <= highest[name])).all():
                wrong = array[~((array >= 0) & (array <= highest[name]))][0]
                raise OffPolicyError(f"{name}: got {wrong}, want 0 to {highest[name]:g}")
        blind = (self.clicked > 0) & (self.propensity == 0)
        if blind.any():
            raise OffPolicyError(
                f"propensity: got 0 for {int(blind.sum())} clicked products, want more than 0"
            )

    @property
    def searches(self) -> int:
        """The number of searches."""
        return int(self.search.max()) + 1


@dataclass(frozen=True, slots=True)
class ValueEstimate:
    """An estimated value of a ranking.

    Attributes:
        value: Per search.
        error: Standard error, searches being independent and the examination taken as known: where
            it was estimated from the same clicks, the true error is larger.
        effective_clicks: Kish's effective number of clicks under their weights.
    """

    value: float
    error: float
    effective_clicks: float


def estimate_value(logged: LoggedClicks, method: str, clip: float = CLIP) -> ValueEstimate:
    """Estimate what the new ranking earns per search.

    With w = 1 / rho, or min(clip, 1 / rho) for the clipped and the doubly robust ones:

    - naive: sum lambda c, as if whatever was not clicked had been looked at;
    - IPS and clipped IPS: sum lambda w c;
    - self-normalised: IPS over the mean of w theta, whose expectation is 1 (Swaminathan and
      Joachims 2015b, eq. 8); the same as IPS where pages were certain;
    - direct method: sum lambda R, R the model's relevance;
    - doubly robust: sum lambda (R + w (c - theta R)) (Dudik, Langford and Li 2011; for clicks
      under position bias Oosterhuis 2023, eq. 25): right when either theta and rho or R are.

    Raises:
        OffPolicyError: On an unknown method, a clip below 1, or one that needs a model without
            one.
    """
    if not clip >= 1:
        raise OffPolicyError(f"clip: got {clip}, want 1 or more")
    weights = _weights(logged, clip if method in (CLIPPED, DOUBLY_ROBUST) else math.inf)
    clicks = logged.value * weights * logged.clicked
    used = weights[logged.clicked > 0]
    if method == NAIVE:
        clicks, used = logged.value * logged.clicked, np.ones(used.size)
    elif method in (DIRECT, DOUBLY_ROBUST):
        if logged.relevance is None:
            raise OffPolicyError(f"{method}: got no relevance, want a model's")
        clicks = logged.value * logged.relevance
        if method == DOUBLY_ROBUST:
            surprise = logged.clicked - logged.examined * logged.relevance
            clicks = clicks + logged.value * weights * surprise
    elif method not in METHODS:
        raise OffPolicyError(f"method: got {method!r}, want one of {', '.join(METHODS)}")
    sums: Doubles = np.bincount(logged.search, clicks, logged.searches).astype(np.float64)
    if method == SELF_NORMALISED:
        return _ratio(logged, sums, weights, used)
    error = float(sums.std(ddof=1)) / math.sqrt(sums.size) if sums.size > 1 else math.nan
    return ValueEstimate(float(sums.mean()), error, effective_sample_size(used))


METHODS = (NAIVE, IPS, CLIPPED, SELF_NORMALISED, DIRECT, DOUBLY_ROBUST)


def _weights(logged: LoggedClicks, clip: float) -> Doubles:
    """Return min(clip, 1 / rho); 0 where the product could not have been seen."""
    seen = logged.propensity > 0
    inverse = 1.0 / np.where(seen, logged.propensity, 1.0)
    return np.where(seen, np.minimum(clip, inverse), 0.0)


def _ratio(logged: LoggedClicks, sums: Doubles, weights: Doubles, used: Doubles) -> ValueEstimate:
    """Return the mean of `sums` over the mean control, with the delta method's error."""
    supported = np.bincount(logged.search, (logged.propensity > 0).astype(float), logged.searches)
    control = np.bincount(logged.search, weights * logged.examined, logged.searches)
    level = float(control.sum() / max(supported.sum(), 1.0))
    if level <= 0:
        raise OffPolicyError("examined: got 0 for all products, want some that were shown")
    value = float(sums.mean()) / level
    rest = sums / level - value * (control / level) / max(float(supported.mean()), 1e-12)
    error = float(rest.std(ddof=1)) / math.sqrt(sums.size) if sums.size > 1 else math.nan
    return ValueEstimate(value, error, effective_sample_size(used))
