"""The guard: which ranking serves a surface and category, decided on validation pages.

The network with the pooled trees is the default. Another ranking takes a category over only when
it is ahead of the default with confidence: the paired bootstrap interval of the difference in
NDCG@10, clustered by shopper, lies above 0. Several rankings are compared with the default, so
each interval is the wider for it (Bonferroni): all of them together hold at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.encoding.pageset import Doubles, Integers
from trainer.evaluation.bootstrap import LEVEL, Interval, resample_means, whole
from trainer.evaluation.evaluation import plain_json

DEFAULT = "network and trees"
NETWORK_ALONE = "network alone"
POOLED_TREES = "trees alone"
OWN_TREES = "own trees"


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """How much a category must show before the guard may turn away from the default.

    Attributes:
        pages: Validation pages with a positive; under some 50 an interval is narrower than the
            truth.
        shoppers: Shoppers of these pages.
    """

    pages: int = 100
    shoppers: int = 30


@dataclass(frozen=True, slots=True)
class Rival:
    """A ranking that was compared with the default.

    Attributes:
        name: Of the ranking.
        ndcg_at_10: Its mean over the category's validation pages.
        difference: To the default, paired, at the level of the guard.
    """

    name: str
    ndcg_at_10: float
    difference: Interval


@dataclass(frozen=True, slots=True)
class GuardChoice:
    """What serves one surface and category, and why.

    Attributes:
        surface: Name of the surface.
        category: Name of the category.
        pages: Validation pages with a positive that were compared.
        shoppers: Their shoppers.
        ndcg_at_10: Of the default on them; NaN without a page.
        rivals: What was compared with the default.
        choice: What serves.
        reason: In one sentence.
    """

    surface: str
    category: str
    pages: int
    shoppers: int
    ndcg_at_10: float
    rivals: tuple[Rival, ...]
    choice: str
    reason: str

    @property
    def switched(self) -> bool:
        """Whether another ranking than the default serves."""
        return self.choice != DEFAULT


def choose_ranking(
    surface: str,
    category: str,
    default: Doubles,
    rivals: Mapping[str, Doubles],
    shoppers: Integers,
    limits: GuardLimits,
) -> GuardChoice:
    """Compare rankings with the default on one category's pages, and choose.

    Of several that are ahead with confidence, the one furthest ahead is taken.

    Args:
        surface: Name of the surface.
        category: Name of the category.
        default: NDCG@10 of the default on each page, NaN without a positive, shape (pages,).
        rivals: The same of each other ranking, by its name.
        shoppers: Shopper of each page.
        limits: With fewer pages or shoppers the default stays.
    """
    scored = np.flatnonzero(~np.isnan(default))
    pages, people = scored.size, np.unique(shoppers[scored]).size
    own = float(default[scored].mean()) if pages else math.nan

    def choice(compared: tuple[Rival, ...], chosen: str, reason: str) -> GuardChoice:
        return GuardChoice(surface, category, pages, people, own, compared, chosen, reason)

    if pages < limits.pages or people < limits.shoppers:
        return choice(
            (),
            DEFAULT,
            f"{pages} validation pages of {people} shoppers, want {limits.pages} of "
            f"{limits.shoppers} to turn away from the default",
        )
    if not rivals:
        return choice((), DEFAULT, "nothing to compare with the default")
    compared = _compare(default[scored], rivals, scored, shoppers[scored])
    ahead = [rival for rival in compared if rival.difference.low > 0]
    if not ahead:
        return choice(compared, DEFAULT, "no other ranking is ahead of the default with confidence")
    best = max(ahead, key=lambda rival: rival.difference.mean)
    told = best.difference
    return choice(
        compared,
        best.name,
        f"{best.name} ahead of the default by {told.mean:+.4f} [{told.low:+.4f}, "
        f"{told.high:+.4f}] on {pages} validation pages",
    )


def level_of(comparisons: int) -> float:
    """Return the level of each of several intervals that hold together at 95 % (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(comparisons, 1)


def _compare(
    default: Doubles, rivals: Mapping[str, Doubles], scored: Integers, shoppers: Integers
) -> tuple[Rival, ...]:
    values = np.stack([default, *(rival[scored] for rival in rivals.values())])
    resampled = resample_means(values, shoppers, whole(scored.size))
    tail = (1 - level_of(len(rivals))) / 2
    compared = []
    for index, name in enumerate(rivals, 1):
        draws = resampled.draws[:, index, 0] - resampled.draws[:, 0, 0]
        low, high = np.quantile(draws, [tail, 1 - tail])
        mean = float(resampled.means[index, 0] - resampled.means[0, 0])
        difference = Interval(mean, float(low), float(high))
        compared.append(Rival(name, float(resampled.means[index, 0]), difference))
    return tuple(compared)


def guard_to_json(choices: Sequence[GuardChoice]) -> list[dict[str, Any]]:
    """Return plain JSON values, NaN as null."""
    return [plain_json(asdict(choice)) for choice in choices]


def guard_from_json(values: Sequence[Mapping[str, Any]]) -> list[GuardChoice]:
    """Read what `guard_to_json` wrote."""
    choices = []
    for value in values:
        rivals = tuple(
            Rival(rival["name"], rival["ndcg_at_10"], Interval(**rival["difference"]))
            for rival in value["rivals"]
        )
        ndcg = math.nan if value["ndcg_at_10"] is None else value["ndcg_at_10"]
        choices.append(GuardChoice(**{**value, "rivals": rivals, "ndcg_at_10": ndcg}))
    return choices
