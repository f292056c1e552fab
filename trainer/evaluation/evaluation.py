"""The result of an evaluation, and its JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from rerank_server.contract.errors import RerankError
from trainer.evaluation.bootstrap import Interval

METRICS = (
    "ndcg_at_10",
    "reciprocal_rank",
    "hit_at_1",
    "hit_at_10",
    "recall_at_10",
    "reached_recall_at_10",
)


class EvaluationError(RerankError):
    """Scores that do not fit the pages they are evaluated on."""


@dataclass(frozen=True, slots=True)
class RankingResult:
    """One ranking on one task.

    Attributes:
        metrics: Mean over pages of each of `METRICS`; recall counts what retrieval missed,
            reached recall does not.
        macro: Mean over categories of the category's mean NDCG@10.
        by_category: NDCG@10 of each category with pages.
        by_slice: NDCG@10 of each slice with pages.
        seeds: NDCG@10 of each training seed, when several were given.
        top_10_share: Mean share of each category among the first ten, on mixed tasks.
    """

    metrics: dict[str, Interval]
    macro: Interval
    by_category: dict[str, Interval]
    by_slice: dict[str, Interval]
    seeds: tuple[float, ...]
    top_10_share: dict[str, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """NDCG@10 of the network minus that of another ranking, paired.

    Attributes:
        all: Over all pages.
        macro: Over categories.
        by_category: In each category with pages.
        by_slice: In each slice with pages.
    """

    all: Interval
    macro: Interval
    by_category: dict[str, Interval]
    by_slice: dict[str, Interval]

    def categories(self, verdict: str) -> list[str]:
        """Return the categories where the network has this verdict: win, tie or loss."""
        return [name for name, value in self.by_category.items() if value.verdict == verdict]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """All rankings on one task.

    Attributes:
        pages: Pages of the task.
        scored_pages: Pages with a reached positive, over which NDCG@10 is averaged.
        shoppers: Shoppers of the scored pages.
        candidates_per_page: Mean.
        candidate_recall: Reached positives over all positives; NaN when unknown.
        expected_random: NDCG@10 of a random order, exactly.
        mixed: Whether pages mix categories.
        category_pages: Scored pages of each category, in shares where pages are mixed.
        slice_pages: Scored pages of each slice.
        positive_share: Share of each category among reached positives, on mixed tasks.
        rankings: Result of each ranking, in the order given.
        differences: The network minus each other ranking.
    """

    pages: int
    scored_pages: int
    shoppers: int
    candidates_per_page: float
    candidate_recall: float
    expected_random: float
    mixed: bool
    category_pages: dict[str, float]
    slice_pages: dict[str, int]
    positive_share: dict[str, float]
    rankings: dict[str, RankingResult]
    differences: dict[str, Difference]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every task's result, and how it was computed."""

    network: str
    objective: str
    draws: int
    seed: int
    tasks: dict[str, TaskResult]


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return plain JSON values: intervals as {mean, low, high}, NaN as null."""
    return {"format_version": 1, **plain_json(asdict(evaluation))}


def evaluation_from_json(value: dict[str, Any]) -> Evaluation:
    """Read what `to_json` wrote.

    Raises:
        EvaluationError: On a missing key or another format version.
    """
    if value.get("format_version") != 1:
        raise EvaluationError(f"format_version: got {value.get('format_version')}, want 1")
    try:
        tasks = {name: _read_task(task) for name, task in value["tasks"].items()}
        head = (value["network"], value["objective"], value["draws"], value["seed"])
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"evaluation: got {error!r}, want what to_json writes") from error
    return Evaluation(*head, tasks)


def plain_json(value: Any) -> Any:  # noqa: ANN401  JSON has no narrower type
    """Return the value with lists for tuples and null for NaN."""
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _read_interval(value: dict[str, float | None]) -> Interval:
    return Interval(_number(value["mean"]), _number(value["low"]), _number(value["high"]))


def _read_group(value: dict[str, Any]) -> dict[str, Interval]:
    return {name: _read_interval(interval) for name, interval in value.items()}


def _read_task(value: dict[str, Any]) -> TaskResult:
    rankings = {
        name: RankingResult(
            metrics=_read_group(ranking["metrics"]),
            macro=_read_interval(ranking["macro"]),
            by_category=_read_group(ranking["by_category"]),
            by_slice=_read_group(ranking["by_slice"]),
            seeds=tuple(ranking["seeds"]),
            top_10_share=ranking["top_10_share"],
        )
        for name, ranking in value["rankings"].items()
    }
    differences = {
        name: Difference(
            all=_read_interval(difference["all"]),
            macro=_read_interval(difference["macro"]),
            by_category=_read_group(difference["by_category"]),
            by_slice=_read_group(difference["by_slice"]),
        )
        for name, difference in value["differences"].items()
    }
    numbers = {
        name: _number(value[name])
        for name in ("candidates_per_page", "candidate_recall", "expected_random")
    }
    return TaskResult(**{**value, **numbers, "rankings": rankings, "differences": differences})
