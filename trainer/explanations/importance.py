"""What a model goes by: how far each group, and each feature, moves scores and places.

A group is left out of whole pages, as in an explanation of one page; a feature is permuted within
each page (Breiman 2001, section 10; Fisher, Rudin and Dominici 2019), which keeps its values and
breaks only whose they are. Neither trains the model anew: a loss of NDCG says what this model
reads from the group, not what another one would do without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rerank_server.contract.ablation import (
    Neutral,
    explained_groups,
    present_groups,
    without_groups,
)
from rerank_server.contract.schema import Schema
from trainer.encoding.pageset import Doubles
from trainer.evaluation.bootstrap import Interval, Membership, resample_means, whole
from trainer.evaluation.metrics import ndcg_at_k, ranks_in_page
from trainer.explanations.pages import ExplanationError, LoggedPage, Score

CUTOFF = 10
_SMALLEST_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class Importance:
    """What leaving a group out, or permuting a feature, does to the pages of a surface.

    Attributes:
        moved: Mean absolute change of a score, in standard deviations of its page's scores.
        places: Mean absolute change of a candidate's place.
        ndcg_loss: NDCG@10 of the page as it is minus that of the altered page.
    """

    moved: Interval
    places: Interval
    ndcg_loss: Interval


@dataclass(frozen=True, slots=True)
class SurfaceImportance:
    """What a model goes by on one surface.

    Attributes:
        pages: Pages measured.
        groups: By group, the one that moves most first.
        features: By feature, the one whose permutation costs most NDCG first.
        by_category: Category -> group -> `Importance.moved` over its candidates.
    """

    pages: int
    groups: dict[str, Importance]
    features: dict[str, Importance]
    by_category: dict[str, dict[str, Interval]]


def surface_importance(
    pages: Sequence[LoggedPage],
    schema: Schema,
    neutral: Neutral,
    score: Score,
    random: np.random.Generator,
    *,
    progress: bool = False,
) -> SurfaceImportance:
    """Measure groups and features on pages of one surface.

    Raises:
        ExplanationError: Without a page.
    """
    if not pages:
        raise ExplanationError("pages: got none, want at least one")
    sample = PageSample(pages, score)
    groups, altered = explained_groups(schema), {}
    for group in tqdm(groups, desc="Leaving out groups", unit="group", disable=not progress):
        altered[group] = sample.scores_without(group, schema, neutral)
    names = schema.feature_names
    permuted = {}
    for column, name in enumerate(
        tqdm(names, desc="Permuting features", unit="feature", disable=not progress)
    ):
        permuted[name] = sample.scores_permuted(column, random)
    of_groups, of_features = sample.importance(altered), sample.importance(permuted)
    return SurfaceImportance(
        pages=len(pages),
        groups=dict(sorted(of_groups.items(), key=lambda item: -item[1].moved.mean)),
        features=dict(
            sorted(of_features.items(), key=lambda item: -_or_zero(item[1].ndcg_loss.mean))
        ),
        by_category=sample.moved_by_category(altered, schema.categories),
    )


class PageSample:
    """Pages of one surface with their scores as flat arrays, to be scored again altered."""

    def __init__(self, pages: Sequence[LoggedPage], score: Score) -> None:
        self.pages = pages
        self._score = score
        self.offsets = np.concatenate([[0], np.cumsum([page.scored.size for page in pages])])
        self.shoppers = np.array([page.shopper for page in pages])
        self.categories = np.concatenate([page.scored.categories for page in pages])
        self.gains: Doubles = np.concatenate([page.gains for page in pages])
        self.page_of_row = np.repeat(np.arange(len(pages)), np.diff(self.offsets))
        self.scores: Doubles = np.concatenate(score([page.scored for page in pages]))
        spread = [
            float(self.scores[start:stop].std())
            for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True)
        ]
        # where all scores of a page are equal there is no unit: such a page counts not
        self.spread = np.where(np.array(spread) > _SMALLEST_SPREAD, spread, np.nan)

    def scores_without(self, group: str, schema: Schema, neutral: Neutral) -> Doubles:
        """Return the scores of all candidates, shape (rows,), without one group."""
        told = [
            at
            for at, page in enumerate(self.pages)
            if group in present_groups(page.scored, schema, neutral)
        ]
        altered = self.scores.copy()
        without = [without_groups(self.pages[at].scored, (group,), schema, neutral) for at in told]
        for at, values in zip(told, self._score(without), strict=True):
            altered[self.offsets[at] : self.offsets[at + 1]] = values
        return altered

    def scores_permuted(self, column: int, random: np.random.Generator) -> Doubles:
        """Return the scores, shape (rows,), with one feature shuffled within each page."""
        altered = self.scores.copy()
        told, pages = [], []
        for at, page in enumerate(self.pages):
            own = page.scored.dense[:, column]
            if (own != own[0]).any():
                dense = page.scored.dense.copy()
                dense[:, column] = random.permutation(own)
                told.append(at)
                pages.append(replace(page.scored, dense=dense))
        for at, values in zip(told, self._score(pages), strict=True):
            altered[self.offsets[at] : self.offsets[at + 1]] = values
        return altered

    def scores_again(self) -> Doubles:
        """Return the scores of all candidates, shape (rows,), as the scorer now gives them."""
        return np.concatenate(self._score([page.scored for page in self.pages]))

    def ndcg(self, scores: Doubles) -> Doubles:
        """Return NDCG@10 of each page; NaN without a positive."""
        return ndcg_at_k(self.gains, scores, self.offsets, CUTOFF)

    def importance(self, altered: Mapping[str, Doubles]) -> dict[str, Importance]:
        """Return what each alteration did, averaged over pages; shoppers are resampled."""
        places = ranks_in_page(self.scores, self.offsets)
        before = self.ndcg(self.scores)
        moved, shifted, after = [], [], []
        for scores in altered.values():
            moved.append(self._page_means(np.abs(scores - self.scores)) / self.spread)
            shifted.append(self._page_means(np.abs(ranks_in_page(scores, self.offsets) - places)))
            after.append(self.ndcg(scores))
        everything = whole(len(self.pages))
        of_scores = resample_means(np.array(moved), self.shoppers, everything)
        of_places = resample_means(np.array(shifted), self.shoppers, everything)
        of_ndcg = resample_means(np.array([before, *after]), self.shoppers, everything)
        return {
            name: Importance(
                of_scores.interval(index, 0),
                of_places.interval(index, 0),
                of_ndcg.difference(0, index + 1, 0),
            )
            for index, name in enumerate(altered)
        }

    def moved_by_category(
        self, altered: Mapping[str, Doubles], names: tuple[str, ...]
    ) -> dict[str, dict[str, Interval]]:
        """Return `Importance.moved` over the candidates of each category that is on the pages."""
        cells, inverse, counts = np.unique(
            self.page_of_row * len(names) + self.categories,
            return_inverse=True,
            return_counts=True,
        )
        page, category = np.divmod(cells, len(names))
        values = [
            np.bincount(inverse, np.abs(scores - self.scores)) / counts / self.spread[page]
            for scores in altered.values()
        ]
        membership = Membership(np.arange(cells.size), category, counts.astype(np.float64), names)
        means = resample_means(np.array(values), self.shoppers[page], membership)
        return {
            names[row]: {group: means.interval(index, row) for index, group in enumerate(altered)}
            for row in np.unique(category).tolist()
        }

    def category_of_positives(self, names: tuple[str, ...]) -> Membership:
        """Return the pages of each category; a page counts in each by its share of positives."""
        positive = np.flatnonzero(self.gains > 0)
        cells, counts = np.unique(
            self.page_of_row[positive] * len(names) + self.categories[positive], return_counts=True
        )
        page, category = np.divmod(cells, len(names))
        total = np.bincount(self.page_of_row[positive], minlength=len(self.pages))
        return Membership(page, category, counts / total[page], names)

    def _page_means(self, values: npt.NDArray[Any]) -> Doubles:
        sums = np.bincount(self.page_of_row, values, len(self.pages))
        means: Doubles = sums / np.diff(self.offsets)
        return means


def _or_zero(value: float) -> float:
    return 0.0 if np.isnan(value) else value
