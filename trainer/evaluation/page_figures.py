"""NDCG@10 of every page of a task, kept so that rankings can be compared pair by pair later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import RerankError
from trainer.encoding.pageset import Doubles, Integers, PageSet
from trainer.evaluation.bootstrap import DRAWS, Interval, Membership, resample_means, whole
from trainer.evaluation.metrics import ndcg_at_k
from trainer.evaluation.slices import category_membership

CUTOFF = 10
_CATEGORIES = "categories"


class PageFiguresError(RerankError):
    """Figures that cannot be read, or that are not of the same pages."""


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """What one ranking reaches on the pages of one task.

    Attributes:
        ndcg_at_10: Shape (pages,); NaN without a reached positive.
        pages: Which pages of the prepared log they are, shape (pages,).
        shoppers: Shopper of each page, shape (pages,).
        categories: The pages of each category.
    """

    ndcg_at_10: Doubles
    pages: Integers
    shoppers: npt.NDArray[Any]
    categories: Membership


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """NDCG@10 of two rankings on the same pages, and the first minus the second.

    Attributes:
        first: Of the first ranking, over all pages.
        second: Of the second ranking.
        all: The difference over all pages.
        macro: The mean over categories of the difference.
        by_category: The difference in each category with pages.
        category_pages: Scored pages of each of these, in shares where pages are mixed.
    """

    first: Interval
    second: Interval
    all: Interval
    macro: Interval
    by_category: dict[str, Interval]
    category_pages: dict[str, float]


def task_figures(
    pages: PageSet, scores: npt.NDArray[Any], of_log: Integers, category_names: tuple[str, ...]
) -> TaskFigures:
    """Return the figures of the first objective.

    Args:
        pages: The pages of the task.
        scores: Shape (candidates of all pages,).
        of_log: Which pages of the prepared log they are, shape (pages,).
        category_names: Names by category row.
    """
    gains = pages.objective(pages.objectives[0])
    ndcg = ndcg_at_k(gains, scores.astype(np.float64), pages.offsets, CUTOFF)
    members = category_membership(pages, gains, category_names)
    return TaskFigures(ndcg, of_log, pages.shopper, members)


def paired_figures(
    first: TaskFigures, second: TaskFigures, *, draws: int = DRAWS, seed: int = 0
) -> PairedDifference:
    """Return the figures of both and their difference, with intervals by resampled shoppers.

    Raises:
        PageFiguresError: When they are not of the same pages.
    """
    if not np.array_equal(first.pages, second.pages):
        raise PageFiguresError(
            f"pages: got {first.pages.size} and {second.pages.size} that are not the same, "
            "want figures of the same pages"
        )
    values = np.stack([first.ndcg_at_10, second.ndcg_at_10])
    members = first.categories

    def resample(groups: Membership) -> Any:  # noqa: ANN401  named by what it returns
        return resample_means(values, first.shoppers, groups, draws=draws, seed=seed)

    over_all, by_category = resample(whole(first.pages.size)), resample(members)
    scored: npt.NDArray[np.bool_] = np.logical_not(np.isnan(values).any(axis=0))
    weights = members.totals(scored)
    present = [index for index, weight in enumerate(weights) if weight > 0]
    return PairedDifference(
        first=over_all.interval(0, 0),
        second=over_all.interval(1, 0),
        all=over_all.difference(0, 1, 0),
        macro=by_category.macro(np.arange(len(members.names))).difference(0, 1, 0),
        by_category={members.names[i]: by_category.difference(0, 1, i) for i in present},
        category_pages={members.names[index]: float(weights[index]) for index in present},
    )


def mean_figures(figures: Sequence[TaskFigures]) -> TaskFigures:
    """Return the mean over several trainings, page by page; all are of the same pages."""
    mean = np.mean([one.ndcg_at_10 for one in figures], axis=0)
    first = figures[0]
    return TaskFigures(mean, first.pages, first.shoppers, first.categories)


def figures_to_arrays(figures: Mapping[str, TaskFigures]) -> dict[str, npt.NDArray[Any]]:
    """Return the figures of several tasks as named arrays, for `np.savez`."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for task, one in figures.items():
        members = one.categories
        arrays |= {
            f"{task}/ndcg_at_10": one.ndcg_at_10,
            f"{task}/pages": one.pages,
            f"{task}/shoppers": one.shoppers,
            f"{task}/member_page": members.page,
            f"{task}/member_group": members.group,
            f"{task}/member_weight": members.weight,
        }
        arrays[_CATEGORIES] = np.array(json.dumps(members.names))
    return arrays


def figures_from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, TaskFigures]:
    """Read what `figures_to_arrays` returned.

    Raises:
        PageFiguresError: When an array is missing, or of another length than the pages.
    """
    try:
        names = tuple(json.loads(str(arrays[_CATEGORIES])))
        tasks = [name.removesuffix("/pages") for name in arrays if name.endswith("/pages")]
        figures = {
            task: TaskFigures(
                arrays[f"{task}/ndcg_at_10"],
                arrays[f"{task}/pages"],
                arrays[f"{task}/shoppers"],
                Membership(
                    arrays[f"{task}/member_page"],
                    arrays[f"{task}/member_group"],
                    arrays[f"{task}/member_weight"],
                    names,
                ),
            )
            for task in tasks
        }
    except KeyError as error:
        raise PageFiguresError(f"figures of pages: got no {error.args[0]!r}, want it") from error
    for task, one in figures.items():
        if not one.ndcg_at_10.shape == one.pages.shape == one.shoppers.shape:
            raise PageFiguresError(
                f"figures of {task}: got shapes {one.ndcg_at_10.shape}, {one.pages.shape} and "
                f"{one.shoppers.shape}, want one of each page"
            )
    return figures


def write_figures(path: Path, figures: Mapping[str, TaskFigures]) -> None:
    """Write the figures of several tasks, whole or not at all."""
    temporary = path.with_suffix(".unfinished")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **figures_to_arrays(figures))
    temporary.replace(path)


def read_figures(path: Path) -> dict[str, TaskFigures]:
    """Read what `write_figures` wrote.

    Raises:
        PageFiguresError: When the file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return figures_from_arrays(dict(stored.items()))
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise PageFiguresError(f"{path}: got {error}, want figures of pages") from error
