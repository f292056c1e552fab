"""The replay's figures: before and after per category, latency, and how far all of it agrees."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deploy.demo.replay import ReplayedSearch
from deploy.demo.tables import aligned
from deploy.demo.titles import category_title
from trainer.evaluation.bootstrap import Interval, paired_difference
from trainer.evaluation.evaluation_tables import bracketed, figure

EXACT = 1e-6


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """The replayed searches of one category, or of all.

    Attributes:
        title: Its name.
        searches: Those with something bought among the candidates; NDCG is over them.
        before: Mean NDCG@10 of retrieval order.
        after: Mean NDCG@10 of the server's order.
        p50_ms: Median time of the server's answer, as the caller sees it.
        p95_ms: The time that 95 of 100 answers keep.
    """

    title: str
    searches: int
    before: float
    after: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the replay equals what was evaluated offline.

    Attributes:
        shared: Mean share of candidates that retrieval and the log have in common.
        same_candidates: Searches where they are the same.
        same_served: Mean NDCG@10 of those through retrieval and server; NaN without any.
        same_offline: Mean NDCG@10 of the same pages offline.
        compared: Searches with figures of both kinds for the log's candidates.
        served: Mean NDCG@10 of the log's candidates, ranked by the server.
        offline: Mean NDCG@10 of the same pages offline.
        equal: Share of `compared` where the two are equal.
    """

    shared: float
    same_candidates: int
    same_served: float
    same_offline: float
    compared: int
    served: float
    offline: float
    equal: float


@dataclass(frozen=True, slots=True)
class ReplayFigures:
    """Everything that the replay says.

    Attributes:
        searches: Replayed searches.
        categories: Per category, most searches first.
        all: Over all of them.
        difference: After minus before, with its interval over shoppers.
        retrieval_p50_ms: Median time of retrieval.
        degraded: Searches by the reason that the server gave retrieval order for.
        agreement: With the offline evaluation.
    """

    searches: int
    categories: tuple[CategoryFigures, ...]
    all: CategoryFigures
    difference: Interval
    retrieval_p50_ms: float
    degraded: Mapping[str, int]
    agreement: Agreement

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values, NaN as null."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def replay_figures(
    replayed: Sequence[ReplayedSearch], offline: Mapping[int, float]
) -> ReplayFigures:
    """Sum the replayed searches up.

    Args:
        replayed: At least one.
        offline: NDCG@10 of the network by page of the prepared log, NaN where nothing counts.
    """
    by_category: dict[str, list[ReplayedSearch]] = {}
    for search in replayed:
        by_category.setdefault(search.category, []).append(search)
    ordered = sorted(by_category.items(), key=lambda item: (-len(item[1]), item[0]))
    return ReplayFigures(
        searches=len(replayed),
        categories=tuple(_figures(category_title(name), part) for name, part in ordered),
        all=_figures("All", replayed),
        difference=_difference(replayed),
        retrieval_p50_ms=float(np.median([search.retrieval_us for search in replayed])) / 1_000,
        degraded=Counter(s.degraded_reason for s in replayed if s.degraded_reason),
        agreement=_agreement(replayed, offline),
    )


def _figures(title: str, replayed: Sequence[ReplayedSearch]) -> CategoryFigures:
    latencies_ms = np.array([search.rerank_us for search in replayed]) / 1_000
    counted = [search for search in replayed if not math.isnan(search.before)]
    return CategoryFigures(
        title=title,
        searches=len(counted),
        before=_mean([search.before for search in counted]),
        after=_mean([search.after for search in counted]),
        p50_ms=float(np.percentile(latencies_ms, 50)),
        p95_ms=float(np.percentile(latencies_ms, 95)),
    )


def _difference(replayed: Sequence[ReplayedSearch]) -> Interval:
    counted = [search for search in replayed if not math.isnan(search.before)]
    if not counted:
        return Interval(math.nan, math.nan, math.nan)
    numbers = {name: index for index, name in enumerate(dict.fromkeys(s.shopper for s in counted))}
    return paired_difference(
        np.array([search.after for search in counted]),
        np.array([search.before for search in counted]),
        np.array([numbers[search.shopper] for search in counted], np.int32),
    )


def _agreement(replayed: Sequence[ReplayedSearch], offline: Mapping[int, float]) -> Agreement:
    known = [
        (search, offline[search.page])
        for search in replayed
        if not (math.isnan(offline.get(search.page, math.nan)) or math.isnan(search.logged))
    ]
    same = [(search, figure) for search, figure in known if search.same_candidates]
    return Agreement(
        shared=_mean([search.shared for search in replayed]),
        same_candidates=sum(search.same_candidates for search in replayed),
        same_served=_mean([search.after for search, _ in same]),
        same_offline=_mean([value for _, value in same]),
        compared=len(known),
        served=_mean([search.logged for search, _ in known]),
        offline=_mean([value for _, value in known]),
        equal=_mean([abs(search.logged - value) <= EXACT for search, value in known]),
    )


def format_replay(figures: ReplayFigures) -> str:
    """The figures as plain text for the terminal."""
    rows: list[tuple[str, ...]] = [
        ("category", "searches", "before", "after", "change", "p50 ms", "p95 ms"),
        *(_row(line) for line in (*figures.categories, figures.all)),
    ]
    return "\n".join([aligned(rows, foot=1), "", *_sentences(figures)])


def _row(line: CategoryFigures) -> tuple[str, ...]:
    return (
        line.title,
        f"{line.searches:,}",
        figure(line.before),
        figure(line.after),
        figure(line.after - line.before, signed=True),
        f"{line.p50_ms:.1f}",
        f"{line.p95_ms:.1f}",
    )


def _sentences(figures: ReplayFigures) -> list[str]:
    agreement = figures.agreement
    degraded = sum(figures.degraded.values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in figures.degraded.items())
    sentences = [
        f"NDCG@10 before (retrieval order) and after (the server's), change "
        f"{bracketed(figures.difference, signed=True)}; p50 and p95 are of the server's answers, "
        f"retrieval took {figures.retrieval_p50_ms:.1f} ms (median).",
        f"{degraded} of {figures.searches} searches were answered in retrieval order"
        + (f" ({reasons})." if degraded else "."),
        f"Retrieval's candidates and the log's: {agreement.shared:.0%} shared, "
        f"{agreement.same_candidates} of {figures.searches} searches have the same.",
    ]
    if not math.isnan(agreement.same_served):
        sentences.append(
            f"On those, NDCG@10 is {figure(agreement.same_served)} served and "
            f"{figure(agreement.same_offline)} offline."
        )
    if agreement.compared:
        sentences.append(
            f"The log's own candidates, {agreement.compared} pages: {figure(agreement.served)} "
            f"served, {figure(agreement.offline)} offline, {agreement.equal:.0%} of them equal "
            "(the server knows the sales up to the first test day, the evaluation those up to "
            "the day of each page)."
        )
    return sentences


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _plain(value: Any) -> Any:  # noqa: ANN401  JSON has no narrower type
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
