"""Evaluates every ranking on every task, with paired intervals clustered by shopper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import nearest
from trainer.encoding.pageset import UNKNOWN_TOTAL, Doubles, PageSet
from trainer.evaluation.bootstrap import (
    DRAWS,
    Interval,
    Membership,
    Resampled,
    resample_means,
    whole,
)
from trainer.evaluation.evaluation import (
    METRICS,
    Difference,
    Evaluation,
    EvaluationError,
    RankingResult,
    TaskResult,
)
from trainer.evaluation.metrics import expected_random_ndcg_at_k, page_metrics, ranks_in_page
from trainer.evaluation.slices import category_membership, page_slices, slice_membership

CUTOFF = 10

Scores = npt.NDArray[Any]


def evaluate(
    page_sets: Mapping[str, PageSet],
    scores: Mapping[str, Mapping[str, Scores]],
    *,
    category_names: tuple[str, ...],
    network: str = "network",
    objective: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Evaluation:
    """Evaluate every ranking on every task that it has scores for.

    Args:
        page_sets: Pages of each task, by its name.
        scores: Scores of each ranking and task, shape (rows,), or (seeds, rows) for several
            trainings: a page's metric is then its mean over the seeds.
        category_names: Names by category row.
        network: The ranking that differences are taken of.
        objective: What the gains are; the first objective of the pages when not given.
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Raises:
        EvaluationError: On scores of an unknown task, of a wrong shape or NaN, on a task that
            the network has no scores for, or on category rows without a name.
    """
    if network not in scores:
        raise EvaluationError(
            f"network: got {network!r}, want one of {', '.join(scores)}{nearest(network, scores)}"
        )
    tasks = {}
    for ranking, by_task in scores.items():
        for task in by_task:
            if task not in page_sets:
                raise EvaluationError(
                    f"scores of {ranking}: got task {task!r}, want one of "
                    f"{', '.join(page_sets)}{nearest(task, page_sets)}"
                )
    for task, pages in page_sets.items():
        of_task = {ranking: by_task[task] for ranking, by_task in scores.items() if task in by_task}
        if network not in of_task:
            raise EvaluationError(f"scores of {network}: got none for task {task!r}, want some")
        _check(pages, task, of_task, category_names)
        gains = pages.objective(objective or pages.objectives[0])
        tasks[task] = _evaluate_task(
            pages, gains, of_task, category_names, network=network, draws=draws, seed=seed
        )
    first = next(iter(page_sets.values()))
    return Evaluation(network, objective or first.objectives[0], draws, seed, tasks)


def _check(
    pages: PageSet, task: str, scores: Mapping[str, Scores], category_names: tuple[str, ...]
) -> None:
    for ranking, values in scores.items():
        if values.shape[-1:] != (pages.candidates,) or values.ndim not in {1, 2} or not values.size:
            raise EvaluationError(
                f"scores of {ranking} for {task}: got shape {values.shape}, "
                f"want ({pages.candidates},) or (seeds, {pages.candidates}), and at least one"
            )
        if np.isnan(values).any():
            raise EvaluationError(
                f"scores of {ranking} for {task}: got {int(np.isnan(values).sum())} NaN, "
                "want numbers"
            )
    if pages.categories.max(initial=0) >= len(category_names):
        raise EvaluationError(
            f"categories of {task}: got row {int(pages.categories.max())}, "
            f"want 0 to {len(category_names) - 1}"
        )


def _evaluate_task(
    pages: PageSet,
    gains: Doubles,
    scores: Mapping[str, Scores],
    category_names: tuple[str, ...],
    *,
    network: str,
    draws: int,
    seed: int,
) -> TaskResult:
    rankings = list(scores)
    by_ranking = [_seed_metrics(pages, gains, values) for values in scores.values()]
    ndcg = np.stack([metrics["ndcg_at_10"].mean(axis=0) for metrics in by_ranking])
    scored = pages.sums(gains > 0) > 0

    def resample(values: Doubles, membership: Membership) -> Resampled:
        return resample_means(values, pages.shopper, membership, draws=draws, seed=seed)

    def metric(name: str) -> Resampled:
        values = np.stack([metrics[name].mean(axis=0) for metrics in by_ranking])
        return resample(values, whole(pages.pages))

    categories = category_membership(pages, gains, category_names)
    slices = page_slices(pages, gains)
    overall = {name: metric(name) for name in METRICS}
    by_category = resample(ndcg, categories)
    by_slice = resample(ndcg, slice_membership(slices))
    macro = by_category.macro(np.arange(len(category_names)))
    mixed = bool((pages.page_categories() < 0).any())
    results = {
        ranking: RankingResult(
            metrics={name: resampled.interval(index, 0) for name, resampled in overall.items()},
            macro=macro.interval(index, 0),
            by_category=_intervals(by_category, index),
            by_slice=_intervals(by_slice, index),
            seeds=_seed_means(by_ranking[index]["ndcg_at_10"]),
            top_10_share=_top_share(pages, scores[ranking], category_names) if mixed else {},
        )
        for index, ranking in enumerate(rankings)
    }
    own = rankings.index(network)
    differences = {
        ranking: Difference(
            all=overall["ndcg_at_10"].difference(own, index, 0),
            macro=macro.difference(own, index, 0),
            by_category=_intervals(by_category, own, index),
            by_slice=_intervals(by_slice, own, index),
        )
        for index, ranking in enumerate(rankings)
        if index != own
    }
    weights = dict(zip(category_names, categories.totals(scored).tolist(), strict=True))
    expected = expected_random_ndcg_at_k(gains, pages.offsets, CUTOFF)
    return TaskResult(
        pages=pages.pages,
        scored_pages=int(scored.sum()),
        shoppers=int(np.unique(pages.shopper[scored]).size),
        candidates_per_page=pages.candidates / max(pages.pages, 1),
        candidate_recall=_candidate_recall(pages, gains),
        expected_random=float(expected[scored].mean()) if scored.any() else math.nan,
        mixed=mixed,
        category_pages={name: weight for name, weight in weights.items() if weight > 0},
        slice_pages={name: int((flags & scored).sum()) for name, flags in slices.items()},
        positive_share=_positive_share(pages, gains, category_names) if mixed else {},
        rankings=results,
        differences=differences,
    )


def _seed_metrics(pages: PageSet, gains: Doubles, scores: Scores) -> dict[str, Doubles]:
    """Return each metric, shape (seeds, pages)."""
    totals = pages.positives_total.astype(np.int64)
    rows = [page_metrics(gains, values, pages.offsets, totals) for values in np.atleast_2d(scores)]
    return {name: np.stack([getattr(row, name) for row in rows]) for name in METRICS}


def _seed_means(ndcg: Doubles) -> tuple[float, ...]:
    if ndcg.shape[0] == 1:
        return ()
    scored = ~np.isnan(ndcg[0])
    return tuple(float(row[scored].mean()) for row in ndcg)


def _intervals(resampled: Resampled, ranking: int, other: int | None = None) -> dict[str, Interval]:
    """Return the interval of each group with pages, of `ranking` or of it minus `other`."""
    return {
        name: resampled.interval(ranking, group)
        if other is None
        else resampled.difference(ranking, other, group)
        for group, name in enumerate(resampled.names)
        if not math.isnan(resampled.means[ranking, group])
    }


def _candidate_recall(pages: PageSet, gains: Doubles) -> float:
    known = pages.positives_total != UNKNOWN_TOTAL
    total = int(pages.positives_total[known].sum())
    return float(pages.sums(gains > 0)[known].sum() / total) if total else math.nan


def _top_share(pages: PageSet, scores: Scores, category_names: tuple[str, ...]) -> dict[str, float]:
    """Return the mean over pages of each category's share among the first ten."""
    total = np.zeros(len(category_names))
    seeds = np.atleast_2d(scores)
    for values in seeds:
        rows = np.flatnonzero(ranks_in_page(values, pages.offsets) < CUTOFF)
        weight = 1.0 / np.minimum(pages.sizes, CUTOFF)[pages.page_of_row[rows]]
        total += np.bincount(pages.categories[rows], weight, len(category_names))
    shares = total / (max(int((pages.sizes > 0).sum()), 1) * seeds.shape[0])
    return dict(zip(category_names, shares.tolist(), strict=True))


def _positive_share(
    pages: PageSet, gains: Doubles, category_names: tuple[str, ...]
) -> dict[str, float]:
    counts = np.bincount(pages.categories[gains > 0], minlength=len(category_names))
    return dict(zip(category_names, (counts / max(counts.sum(), 1)).tolist(), strict=True))
