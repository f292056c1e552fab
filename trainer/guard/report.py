"""What the guard did on test pages: against the default, and against models of one category."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.encoding.pageset import PageSet
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluation import Evaluation, plain_json
from trainer.guard.guard import GuardChoice, guard_from_json

PROMISED = 0.005  # NDCG@10 that a category may be below its best single-category model
_WITH, _WITHOUT = "with the guard", "without the guard"


@dataclass(frozen=True, slots=True)
class GuardEffect:
    """A task, or one of its categories, with the guard and without it, on test pages.

    Attributes:
        task: Name of the task.
        category: Of those that another ranking than the default serves; `all` is every page.
        pages: Test pages with a positive.
        with_guard: NDCG@10 of what is served.
        without_guard: Of the default.
        difference: The first minus the second, paired.
    """

    task: str
    category: str
    pages: float
    with_guard: float
    without_guard: float
    difference: Interval


@dataclass(frozen=True, slots=True)
class Promise:
    """A category beside the best model that learned from it alone, on test pages.

    Attributes:
        task: Name of the task.
        category: Name of the category.
        pages: Test pages with a positive.
        served: NDCG@10 of what is served.
        best: Name of the best single-category model.
        alone: Its NDCG@10.
        difference: `served` minus `alone`, paired.
    """

    task: str
    category: str
    pages: float
    served: float
    best: str
    alone: float
    difference: Interval

    @property
    def kept(self) -> bool:
        """Whether the category is not more than `PROMISED` below its best single-category model."""
        return self.difference.mean >= -PROMISED


@dataclass(frozen=True, slots=True)
class GuardFigures:
    """All that a report tells of the guard.

    Attributes:
        choices: What serves each surface and category, and why.
        effects: What it changed on test pages.
        promises: How categories stand beside models of their own.
    """

    choices: tuple[GuardChoice, ...]
    effects: tuple[GuardEffect, ...] = ()
    promises: tuple[Promise, ...] = ()


def guard_effects(
    page_sets: Mapping[str, PageSet],
    served: Mapping[str, np.ndarray],
    default: Mapping[str, np.ndarray],
    switched: Mapping[str, frozenset[str]],
    category_names: tuple[str, ...],
) -> list[GuardEffect]:
    """Compare what is served with the default on the tasks where they differ.

    Args:
        page_sets: Test pages by task.
        served: Scores with the guard by task, as `evaluate` takes them.
        default: Scores without it, of the tasks with a switched category.
        switched: Names of the switched categories, by task.
        category_names: Names by category row.
    """
    if not default:
        return []
    scores = {_WITH: {task: served[task] for task in default}, _WITHOUT: dict(default)}
    pages = {task: page_sets[task] for task in default}
    evaluation = evaluate(pages, scores, category_names=category_names, network=_WITH)
    effects = []
    for task, result in evaluation.tasks.items():
        own, other = result.rankings[_WITH], result.rankings[_WITHOUT]
        difference = result.differences[_WITHOUT]
        effects.append(
            GuardEffect(
                task,
                "all",
                result.scored_pages,
                own.metrics["ndcg_at_10"].mean,
                other.metrics["ndcg_at_10"].mean,
                difference.all,
            )
        )
        effects += [
            GuardEffect(
                task,
                name,
                result.category_pages[name],
                own.by_category[name].mean,
                other.by_category[name].mean,
                difference.by_category[name],
            )
            for name in sorted(switched[task] & difference.by_category.keys())
        ]
    return effects


def single_category_promises(evaluation: Evaluation, singles: Sequence[str]) -> list[Promise]:
    """Return how each category stands beside the best of the rankings named `singles`.

    A task that none of them ranks, such as one whose pages mix categories, has no row.
    """
    promises = []
    for task, result in evaluation.tasks.items():
        present = [name for name in singles if name in result.differences]
        served = result.rankings[evaluation.network].by_category
        for category, pages in result.category_pages.items():
            figures = {
                name: result.rankings[name].by_category[category].mean
                for name in present
                if category in result.rankings[name].by_category
            }
            if not figures:
                continue
            best = max(figures, key=lambda name: figures[name])
            promises.append(
                Promise(
                    task=task,
                    category=category,
                    pages=pages,
                    served=served[category].mean,
                    best=best,
                    alone=figures[best],
                    difference=result.differences[best].by_category[category],
                )
            )
    return promises


def describe_guard(choices: Sequence[GuardChoice]) -> str:
    """Return in one sentence how many categories the guard turned away from the default."""
    switched = [choice for choice in choices if choice.switched]
    compared = sum(bool(choice.rivals) for choice in choices)
    listed = ", ".join(f"{c.surface} {c.category} ({c.choice})" for c in switched)
    return (
        f"{len(switched)} of {len(choices)} surfaces and categories are served by another ranking "
        f"than the network with the trees{f': {listed}' if listed else ''}; {compared} had enough "
        f"validation pages to compare."
    )


def describe_promises(promises: Sequence[Promise]) -> str:
    """Return in one sentence how many categories are as good as their best single model."""
    broken = [promise for promise in promises if not promise.kept]
    sure = [promise for promise in broken if promise.difference.high < 0]
    listed = ", ".join(
        f"{p.task} {p.category} ({p.difference.mean:+.3f}, {p.pages:.0f} pages)" for p in broken
    )
    return (
        f"{len(promises) - len(broken)} of {len(promises)} categories are at most {PROMISED} "
        f"NDCG@10 below their best single-category model on test pages"
        f"{f'; below it by more: {listed}' if listed else ''}"
        f"{f'; with an interval below 0: {len(sure)}' if broken else ''}."
    )


def figures_to_json(figures: GuardFigures) -> dict[str, Any]:
    """Return plain JSON values, NaN as null."""
    value: dict[str, Any] = plain_json(asdict(figures))
    return value


def figures_from_json(value: Mapping[str, Any]) -> GuardFigures:
    """Read what `figures_to_json` wrote."""
    return GuardFigures(
        choices=tuple(guard_from_json(value["choices"])),
        effects=tuple(GuardEffect(**_row(row)) for row in value["effects"]),
        promises=tuple(Promise(**_row(row)) for row in value["promises"]),
    )


def _row(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's fields with its interval and its missing numbers."""
    numbers = {
        name: math.nan if item is None else item for name, item in value["difference"].items()
    }
    rest = {name: math.nan if item is None else item for name, item in value.items()}
    return {**rest, "difference": Interval(**numbers)}
