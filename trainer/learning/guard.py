"""The guard: which ranking a fold serves, chosen on validation pages with a confidence rule.

The trees are trusted. Another ranking, or the sum of all, takes their place only where validation
pages say with confidence that it is better; without evidence the fold serves the trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from trainer.encoding.pageset import Doubles, Integers, PageSet
from trainer.evaluation.bootstrap import resample_means, whole
from trainer.evaluation.metrics import ndcg_at_k

BLEND = "the sum of all"
CONFIDENCE = 0.9  # that a ranking of its own is better than the trusted one
BLEND_CONFIDENCE = 0.75  # a sum of rankings is rarely worse than its parts
_CUTOFF = 10
_PARTS = 5  # the sum's weights are fitted on four, and judged on the fifth
_RIDGE = 1.0
_NO_SPREAD = 1e-12
_FEWEST_PAGES = 20  # validation pages with a positive, to trust anything else by them


@dataclass(frozen=True, slots=True)
class Choice:
    """What a fold serves.

    Attributes:
        name: A ranking, or `BLEND`.
        weights: Of the standard scores of each ranking in the sum; one ranking has weight 1.
        units: By ranking, what its scores are divided by; 0 is each page's own deviation.
        reason: What the choice rests on.
    """

    name: str
    weights: dict[str, float]
    units: dict[str, float]
    reason: str

    def __call__(self, scores: Mapping[str, Doubles], pages: PageSet) -> Doubles:
        """Return the chosen scores of pages, shape (rows,); `scores` as in `choose`."""
        total = np.zeros(pages.candidates)
        for name, weight in self.weights.items():
            if weight:
                total += weight * standard(scores[name], pages, self.units[name])
        return total


def choose(
    scores: Mapping[str, Doubles],
    held: PageSet,
    *,
    trusted: str,
    learned: tuple[str, ...],
) -> Choice:
    """Choose a ranking, or the sum of all, on validation pages.

    The weights of the sum are those of `fit_weights`; it is judged on pages that its weights were
    not fitted on. Figures are NDCG@10, resampled by shopper or query.

    Args:
        scores: By ranking, of all candidates of `held`, shape (rows,).
        held: Validation pages.
        trusted: The ranking that stays without evidence.
        learned: Rankings whose spread means something; others are scaled page by page.
    """
    gains = held.objective(held.objectives[0])
    units = {
        name: _unit(values, held) if name in learned else 0.0 for name, values in scores.items()
    }
    scaled = np.stack([standard(values, held, units[name]) for name, values in scores.items()])
    scored = int((held.sums(gains > 0) > 0).sum())
    if scored < _FEWEST_PAGES:
        reason = f"{scored} validation pages are too few to tell, {_FEWEST_PAGES} would do"
        return Choice(trusted, {trusted: 1.0}, units, reason)
    names = list(scores)
    figures = {name: ndcg_at_k(gains, row, held.offsets, _CUTOFF)
               for name, row in zip(names, scaled, strict=True)}  # fmt: skip
    single, told = trusted, f"{trusted} has {_mean(figures[trusted]):.3f}"
    for name in names:
        sure = _confidence(figures[name], figures[trusted], held)
        better = _mean(figures[name]) > _mean(figures[single])
        if name != trusted and sure >= CONFIDENCE and better:
            single = name
            told = f"{name} is ahead of {trusted} with {sure:.0%}"
    weights = fit_weights(scaled, gains, held.offsets)
    mixed = ndcg_at_k(gains, _cross_fitted(scaled, gains, held), held.offsets, _CUTOFF)
    sure = _confidence(mixed, figures[single], held)
    reason = (
        f"{told}; the sum of all has {_mean(mixed):.3f} and is ahead of {single} with {sure:.0%}"
        f" on {scored} validation pages"
    )
    if sure >= BLEND_CONFIDENCE:
        return Choice(BLEND, dict(zip(names, weights.tolist(), strict=True)), units, reason)
    return Choice(single, {single: 1.0}, units, reason)


def standard(scores: Doubles, pages: PageSet, unit: float) -> Doubles:
    """Return scores around each page's mean in units, or in each page's own deviations.

    A score that is not finite counts as the least of its page.
    """
    values = scores.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        least = np.full(pages.pages, np.inf)
        np.minimum.at(least, pages.page_of_row[finite], values[finite])
        least[np.isinf(least)] = 0.0
        values = np.where(finite, values, least[pages.page_of_row])
    sizes = np.maximum(pages.sizes, 1)
    values = values - (pages.sums(values) / sizes)[pages.page_of_row]
    if unit > 0:
        return values / unit
    spread = np.sqrt(pages.sums(values**2) / sizes)[pages.page_of_row]
    return np.divide(values, spread, out=np.zeros_like(values), where=spread > _NO_SPREAD)


def fit_weights(scaled: Doubles, gains: Doubles, offsets: Integers) -> Doubles:
    """Return the weight of each ranking, >= 0, whose sum fits the gains best.

    Minimises sum over pages of -sum_i t_i log softmax(w s)_i + ridge |w|^2 / 2 with
    t_i = (2^gain_i - 1) / sum_j (2^gain_j - 1) (ListNet, Cao et al. 2007, eq. 6).

    Args:
        scaled: Standard scores, shape (rankings, rows).
        gains: Shape (rows,).
        offsets: Page bounds, shape (pages + 1,).
    """
    sizes = np.diff(offsets)
    page = np.repeat(np.arange(sizes.size), sizes)
    exponential = np.exp2(gains) - 1.0
    totals = np.bincount(page, exponential, sizes.size)
    kept = (totals > 0)[page]
    page, rows = page[kept], scaled[:, kept]
    target = exponential[kept] / totals[page]
    starts = np.flatnonzero(np.diff(page, prepend=-1))
    if starts.size == 0:
        return np.ones(scaled.shape[0])
    dense_page = np.cumsum(np.diff(page, prepend=page[0]) != 0)

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        logits = weights @ rows
        logits -= np.maximum.reduceat(logits, starts)[dense_page]
        exponent = np.exp(logits)
        sums = np.add.reduceat(exponent, starts)
        value = float(-(target @ logits) + np.log(sums).sum() + 0.5 * _RIDGE * weights @ weights)
        slope = rows @ (exponent / sums[dense_page] - target) + _RIDGE * weights
        return value, slope

    start = np.full(scaled.shape[0], 1.0 / scaled.shape[0])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * start.size)
    return np.asarray(found.x, np.float64)


def _cross_fitted(scaled: Doubles, gains: Doubles, held: PageSet) -> Doubles:
    """Return the sum whose weights each page's own shopper or query had no part in."""
    clusters, of_page = np.unique(held.shopper, return_inverse=True)
    part_of = np.random.default_rng(0).permutation(clusters.size) % min(_PARTS, clusters.size)
    part = part_of[of_page]
    total = np.zeros(held.candidates)
    for number in np.unique(part).tolist():
        rest = (part != number)[held.page_of_row]
        if not rest.any():
            return np.asarray(scaled.mean(axis=0), np.float64)
        sizes = held.sizes[part != number]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        weights = fit_weights(scaled[:, rest], gains[rest], offsets)
        total[~rest] = weights @ scaled[:, ~rest]
    return total


def _unit(scores: Doubles, pages: PageSet) -> float:
    """Return the deviation of scores around their page's mean; 1 where there is none."""
    spread = float(np.sqrt(np.mean(standard(scores, pages, 1.0) ** 2)))
    return spread if spread > 0 else 1.0


def _confidence(values: Doubles, others: Doubles, held: PageSet) -> float:
    """Return the share of draws in which the mean of `values` is above that of `others`."""
    resampled = resample_means(np.stack([values, others]), held.shopper, whole(held.pages))
    draws = resampled.draws[:, 0, 0] - resampled.draws[:, 1, 0]
    return float(np.mean(draws > 0)) if draws.size else 0.0


def _mean(figures: Doubles) -> float:
    return float(np.nanmean(figures)) if not np.isnan(figures).all() else 0.0


def choose_alone(
    scores: Mapping[str, Doubles], chosen: Doubles, held: PageSet
) -> tuple[str | None, str]:
    """Return which ranking of one category is better there than the chosen one, and why.

    None, and no reason, where none is with `CONFIDENCE`. The chosen one may have been fitted on the
    same pages, which speaks for it; what was learned alone has to overcome that.

    Args:
        scores: By ranking, of the validation candidates of the category.
        chosen: What would be served, of the same candidates.
        held: Those pages.
    """
    if held.pages < _FEWEST_PAGES:
        return None, ""
    gains = held.objective(held.objectives[0])
    base = ndcg_at_k(gains, chosen, held.offsets, _CUTOFF)
    best, reason, highest = None, "", _mean(base)
    for name, values in scores.items():
        figures = ndcg_at_k(gains, values, held.offsets, _CUTOFF)
        sure = _confidence(figures, base, held)
        if sure >= CONFIDENCE and _mean(figures) > highest:
            best, highest = name, _mean(figures)
            reason = (
                f"{name} has {highest:.3f} and is ahead of {_mean(base):.3f} with {sure:.0%} on "
                f"{held.pages} validation pages"
            )
    return best, reason
