"""A few-shot curve: NDCG@10 on a target's test pages by how many of its pages were learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainer.benchmark.kept_parts import FinishedPart
from trainer.encoding.pageset import Doubles, PageSet
from trainer.evaluation.bootstrap import Interval, resample_means, whole

ALL = -1  # as many pages as there are
TENTH = -2  # a tenth of them


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve, NDCG@10 on the target's test pages.

    Attributes:
        pages: Labelled pages of the target, the largest of any fold.
        whole: Whether these are all it has.
        figures: By ranking.
        difference: CrossRank with the others minus the best that is learned alone; None without
            pages.
        against_rule: CrossRank with the others minus the simple rule.
        to_all_alone: CrossRank with the others minus the best that is learned alone from all pages.
    """

    pages: int
    whole: bool
    figures: dict[str, float]
    difference: Interval | None
    against_rule: Interval
    to_all_alone: Interval | None


@dataclass(frozen=True, slots=True)
class Curve:
    """A target's curve.

    Attributes:
        target: Its name.
        tested: Test pages with a positive.
        rule: The best ranking without learning on its test pages.
        points: By number of pages.
        seconds: Of all training.
    """

    target: str
    tested: int
    rule: str
    points: list[Point]
    seconds: float


TRANSFER, ALONE = "CrossRank, with the others", "CrossRank, alone"
TREES, TREES_ALONE = "LightGBM, with the others", "LightGBM, alone"
NETWORK, NETWORK_ALONE = "network, with the others", "network, alone"
UNTUNED = "network of the others"


def curve_of(
    name: str,
    test: PageSet,
    figures: dict[int, dict[str, Doubles]],
    labelled: dict[int, int],
    simple: dict[str, Doubles],
    finished: Mapping[str, FinishedPart],
) -> Curve:
    """Return a target's curve.

    Args:
        name: Of the target.
        test: Its test pages.
        figures: By count and ranking, NDCG@10 of each test page.
        labelled: By count, the pages that were learned from.
        simple: By ranking without learning, NDCG@10 of each test page.
        finished: The parts that were trained, for their cost.
    """
    rule = max(simple, key=lambda ranking: float(np.nanmean(simple[ranking])))
    whole_alone = _best_alone(figures[ALL])
    points = []
    for count, by_name in sorted(figures.items(), key=lambda item: labelled[item[0]]):
        ours = by_name[TRANSFER]
        points.append(
            Point(
                pages=labelled[count],
                whole=count == ALL or labelled[count] == labelled[ALL],
                figures={
                    ranking: float(np.nanmean(values))
                    for ranking, values in {**by_name, rule: simple[rule]}.items()
                },
                difference=_minus(ours, _best_alone(by_name), test),
                against_rule=_against(ours, simple[rule], test),
                to_all_alone=_minus(ours, whole_alone, test),
            )
        )
    distinct = {point.pages: point for point in points}  # the same pages under two counts
    seconds = sum(part.facts["cost"]["seconds"] for part in finished.values())
    tested = int((~np.isnan(simple[rule])).sum())
    return Curve(name, tested, rule, list(distinct.values()), round(seconds, 1))


def _best_alone(by_name: dict[str, Doubles]) -> Doubles | None:
    """Return the pages' figures of what is best without the others, by the test pages' own word."""
    alone = [by_name[name] for name in (ALONE, TREES_ALONE, NETWORK_ALONE) if name in by_name]
    return max(alone, key=lambda values: float(np.nanmean(values)), default=None)


def _minus(ours: Doubles, others: Doubles | None, test: PageSet) -> Interval | None:
    return None if others is None else _against(ours, others, test)


def _against(ours: Doubles, others: Doubles, test: PageSet) -> Interval:
    resampled = resample_means(np.stack([ours, others]), test.shopper, whole(test.pages))
    return resampled.difference(0, 1, 0)
