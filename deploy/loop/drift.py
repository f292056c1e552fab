"""How far today's values are from yesterday's: population stability index and two-sample tests.

PSI = sum over bins of (actual - expected) * ln(actual / expected) (Yurdakul 2018, eq. 1.1); above
0.25 it is commonly called a shift. Numbers are tested by Kolmogorov-Smirnov (two samples,
asymptotic; Press et al. 2007, section 14.3.3), names by Pearson's chi-square.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
BINS = 10
SHIFT = 0.25
_LEAST_SHARE = 1e-4
_LEAST_P = 1e-3
# Names rarer than this among all are one: a test of counts wants five of each.
_RARE = 0.02
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Drift:
    """How one quantity has moved.

    Attributes:
        subject: `feature`, `score`, `category` or `query`.
        name: Of the quantity.
        psi: Population stability index, >= 0.
        p_value: Of the two-sample test: of such a difference if nothing had moved.
    """

    subject: str
    name: str
    psi: float
    p_value: float

    @property
    def shifted(self) -> bool:
        """Whether the shift is large and no accident."""
        return self.psi > SHIFT and self.p_value < _LEAST_P


def number_drift(subject: str, name: str, expected: Doubles, actual: Doubles) -> Drift:
    """Compare two samples of numbers, NaN left out; no drift when one is empty."""
    before, after = expected[~np.isnan(expected)], actual[~np.isnan(actual)]
    if not before.size or not after.size:
        return Drift(subject, name, 0.0, 1.0)
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, part, side="right"), minlength=edges.size + 1)
        / part.size
        for part in (before, after)
    ]
    return Drift(subject, name, _psi(*shares), _kolmogorov_smirnov(before, after))


def name_drift(subject: str, name: str, expected: Sequence[str], actual: Sequence[str]) -> Drift:
    """Compare two samples of names; those that are rare in both count as one."""
    if not expected or not actual:
        return Drift(subject, name, 0.0, 1.0)
    before, after = Counter(expected), Counter(actual)
    total = len(expected) + len(actual)
    common = {each for each in before | after if before[each] + after[each] >= _RARE * total}
    names = [*sorted(common), OTHER]
    counts = np.array(
        [
            [sum(n for each, n in part.items() if (each if each in common else OTHER) == wanted)
             for wanted in names]
            for part in (before, after)
        ],
        np.float64,
    )  # fmt: skip
    counts = counts[:, counts.sum(axis=0) > 0]
    shares = counts / counts.sum(axis=1, keepdims=True)
    wanted = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    statistic = float(((counts - wanted) ** 2 / wanted).sum())
    p_value = chi_square_tail(statistic, counts.shape[1] - 1)
    return Drift(subject, name, _psi(shares[0], shares[1]), p_value)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Return P(X >= statistic) of a chi-square with `freedom` degrees; 1 of no freedom.

    The regularised upper incomplete gamma function Q(freedom / 2, statistic / 2) by its finite
    sum, from erfc for an odd freedom (Abramowitz and Stegun 1972, 26.4.4 and 26.4.5).
    """
    if freedom < 1 or statistic <= 0:
        return 1.0
    half = statistic / 2
    odd = freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    log_term = -half - (math.lgamma(1.5) - 0.5 * math.log(half) if odd else 0.0)
    for order in range(freedom // 2):
        total += math.exp(log_term)
        log_term += math.log(half) - math.log(order + (1.5 if odd else 1.0))
    return min(max(total, 0.0), 1.0)


def _psi(expected: Doubles, actual: Doubles) -> float:
    before, after = np.maximum(expected, _LEAST_SHARE), np.maximum(actual, _LEAST_SHARE)
    return float(np.sum((after - before) * np.log(after / before)))


def _kolmogorov_smirnov(first: Doubles, second: Doubles) -> float:
    values = np.concatenate([first, second])
    first, second = np.sort(first), np.sort(second)
    below = [np.searchsorted(part, values, side="right") / part.size for part in (first, second)]
    distance = float(np.abs(below[0] - below[1]).max())
    root = math.sqrt(first.size * second.size / (first.size + second.size))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:  # noqa: PLR2004 - the series does not converge there, and p is 1
        return 1.0
    terms = [2 * (-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)]
    return float(min(max(sum(terms), 0.0), 1.0))
