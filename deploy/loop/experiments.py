"""An A/B test that may be looked at every day: sample ratio, lift, and an always-valid verdict.

The sequential test is the mixture sequential probability ratio test of a normal difference
(Robbins 1970; Johari, Koomen, Pekelis and Walsh 2022, "Always Valid Inference", eq. 8):

    L = sqrt(V / (V + tau^2)) * exp(tau^2 * d^2 / (2 * V * (V + tau^2)))

of the difference d with variance V under a normal prior of spread tau. 1 / max L over all looks
is a p-value that holds at every one of them. The interval is all d that L does not refute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.loop.drift import chi_square_tail
from deploy.loop.errors import ExperimentError
from deploy.loop.quality import Rate

ALPHA = 0.05
# Spread of the lifts that an experiment is after, absolute.
TAU = 0.02
# Fabijan et al. 2019 warn below 0.0005; a shop's few looks allow a stricter alarm.
SAMPLE_RATIO_ALPHA = 0.001
GO_ON, BETTER, WORSE, STOP = "go on", "better", "worse", "stop: sample ratio"


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Whether the arms got the shoppers they were to get.

    Attributes:
        expected: Share of the arm.
        observed: Alike.
        p_value: Pearson's chi-square, one degree of freedom.
    """

    expected: float
    observed: float
    p_value: float

    @property
    def broken(self) -> bool:
        """Whether the split cannot be trusted, and nothing that follows from it."""
        return self.p_value < SAMPLE_RATIO_ALPHA


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an experiment says so far of one metric.

    Attributes:
        lift: Difference of the arm to the baseline, absolute.
        low: Lower end of the interval that holds at every look.
        high: Its upper end.
        p_value: Holds at every look.
        ratio: Of the shoppers.
        decision: `go on`, `better`, `worse`, or `stop: sample ratio`.
    """

    lift: float
    low: float
    high: float
    p_value: float
    ratio: SampleRatio
    decision: str


def sample_ratio(baseline: int, arm: int, expected: float) -> SampleRatio:
    """Test counts of shoppers against the share that the arm was to get.

    Raises:
        ExperimentError: When there is nobody, or the share is not between 0 and 1.
    """
    total = baseline + arm
    if not total:
        raise ExperimentError("shoppers: got none, want some in both arms")
    if not 0 < expected < 1:
        raise ExperimentError(f"share: got {expected}, want more than 0 and less than 1")
    wanted = expected * total
    statistic = (arm - wanted) ** 2 / wanted + (arm - wanted) ** 2 / (total - wanted)
    return SampleRatio(expected, arm / total, chi_square_tail(statistic, 1))


def judge(looks: Sequence[tuple[Rate, Rate]], expected: float, tau: float = TAU) -> Verdict:
    """Judge an experiment by all its looks, the newest last.

    Args:
        looks: Cumulative rates of baseline and arm at each look.
        expected: Share of the shoppers that the arm was to get.
        tau: Spread of the lifts that the test is most sensitive to.

    Raises:
        ExperimentError: When there is no look at both arms.
    """
    usable = [
        (base, arm)
        for base, arm in looks
        if math.isfinite(base.variance + arm.variance) and base.variance + arm.variance > 0
    ]
    if not usable:
        raise ExperimentError("looks: got none with clicks in both arms, want at least one")
    base, arm = usable[-1]
    lift, variance = arm.value - base.value, base.variance + arm.variance
    p_value = min(
        1.0,
        *(
            1.0 / likelihood_ratio(b.value - a.value, a.variance + b.variance, tau)
            for a, b in usable
        ),
    )
    half = _half_width(variance, tau)
    ratio = sample_ratio(base.shoppers, arm.shoppers, expected)
    decision = GO_ON
    if ratio.broken:
        decision = STOP
    elif p_value < ALPHA:
        decision = BETTER if lift > 0 else WORSE
    return Verdict(lift, lift - half, lift + half, p_value, ratio, decision)


def likelihood_ratio(difference: float, variance: float, tau: float = TAU) -> float:
    """Return the mixture's likelihood ratio of a difference, capped where floats end."""
    spread = tau * tau
    exponent = spread * difference**2 / (2 * variance * (variance + spread))
    return math.sqrt(variance / (variance + spread)) * math.exp(min(exponent, 700.0))


def _half_width(variance: float, tau: float) -> float:
    """Return the largest difference that the mixture does not refute at `ALPHA`."""
    spread = tau * tau
    bound = math.log(1 / ALPHA) + 0.5 * math.log((variance + spread) / variance)
    return math.sqrt(2 * variance * (variance + spread) / spread * bound)


def to_record(
    name: str, metric: str, arms: Mapping[str, Rate], verdict: Verdict
) -> list[dict[str, object]]:
    """Return the rows of an experiment for the stream `crossrank-experiments`; baseline first."""
    baseline = next(iter(arms))
    return [
        {
            "experiment": name,
            "method": "ab",
            "metric": metric,
            "arm": arm,
            "baseline": baseline,
            "value": rate.value,
            "low": rate.low,
            "high": rate.high,
            "lift": {
                "value": verdict.lift if arm != baseline else 0.0,
                "low": verdict.low if arm != baseline else 0.0,
                "high": verdict.high if arm != baseline else 0.0,
                "p_value": verdict.p_value,
            },
            "sample_ratio": {
                "expected": verdict.ratio.expected,
                "observed": verdict.ratio.observed,
                "p_value": verdict.ratio.p_value,
            },
            "searches": rate.searches,
            "shoppers": rate.shoppers,
            "decision": verdict.decision,
        }
        for arm, rate in arms.items()
    ]
