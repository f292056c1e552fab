"""All that `crossrank quality` says of a span of time, as tables and as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.loop.day_checks import drifts
from deploy.loop.documents import document_of
from deploy.loop.drift import Drift
from deploy.loop.errors import ExperimentError
from deploy.loop.experiments import Verdict, judge, to_record
from deploy.loop.interleaving import Interleaved, Preference, credit, preference
from deploy.loop.quality import METRICS, QualityRow, Rate, quality, rate_of
from deploy.loop.search_log import CLICK, LoggedSearch
from rerank_server.telemetry.document import Document

STREAM = "crossrank-experiments"
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """Two variants of the traffic, to be compared.

    Attributes:
        baseline: The variant that was there before.
        arm: The other.
        share: Of the shoppers, the arm was to get; more than 0 and less than 1.
    """

    baseline: str
    arm: str
    share: float


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """What an experiment says of one metric.

    Attributes:
        metric: Its name.
        baseline: The baseline's rate.
        arm: The arm's.
        verdict: Of both.
    """

    metric: str
    baseline: Rate
    arm: Rate
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The whole report.

    Attributes:
        rows: Rates.
        experiment: By metric; empty without an experiment.
        interleaving: Of the interleaved pages; None without any.
        drift: Of the span to the one before it; empty when that has no searches.
    """

    rows: Sequence[QualityRow]
    experiment: Sequence[ExperimentResult]
    interleaving: Preference | None
    drift: Sequence[Drift]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "quality": [
                {
                    "group": row.group,
                    "name": row.name,
                    "metric": row.metric,
                    "value": row.rate.value,
                    "low": row.rate.low,
                    "high": row.rate.high,
                    "searches": row.rate.searches,
                    "shoppers": row.rate.shoppers,
                }
                for row in self.rows
            ],
            "experiment": [
                {"metric": each.metric, **asdict(each.verdict)} for each in self.experiment
            ],
            "interleaving": asdict(self.interleaving) if self.interleaving else None,
            "drift": [{**asdict(each), "shifted": each.shifted} for each in self.drift],
        }


def quality_report(
    searches: Sequence[LoggedSearch],
    before: Sequence[LoggedSearch],
    plan: ExperimentPlan | None,
) -> QualityReport:
    """Report on searches, compared with those of the span before.

    Raises:
        ExperimentError: When a variant of the experiment has no searches.
    """
    margins = [
        credit(Interleaved(each.shown_ids, each.teams), each.products_of(CLICK))
        for each in searches
        if each.teams and len(each.teams) == len(each.shown_ids)
    ]
    return QualityReport(
        quality(searches),
        judge_experiment(searches, plan) if plan else (),
        preference(margins) if margins else None,
        drifts(searches, before),
    )


def judge_experiment(
    searches: Sequence[LoggedSearch], plan: ExperimentPlan
) -> list[ExperimentResult]:
    """Judge an experiment by every metric, with a look at the end of each day.

    Raises:
        ExperimentError: When a variant has no searches.
    """
    arms = {
        name: [each for each in searches if each.variant == name]
        for name in (plan.baseline, plan.arm)
    }
    for name, members in arms.items():
        if not members:
            raise ExperimentError(f"variant {name}: got no searches, want some")
    ends = _days(searches)
    results = []
    for metric in METRICS:
        looks = []
        for end in ends:
            base, arm = (
                rate_of([each for each in arms[name] if each.time < end], metric)
                for name in (plan.baseline, plan.arm)
            )
            looks.append((base, arm))
        try:
            verdict = judge(looks, plan.share)
        except ExperimentError:
            continue  # nobody did this in either arm
        results.append(ExperimentResult(metric, *looks[-1], verdict))
    return results


def experiment_documents(
    results: Sequence[ExperimentResult], plan: ExperimentPlan, now: datetime
) -> list[Document]:
    """Return the documents of an experiment for the stream `crossrank-experiments`."""
    moment = now.astimezone(UTC).isoformat(timespec="milliseconds")
    return [
        document_of({"@timestamp": moment, **row})
        for each in results
        for row in to_record(
            f"{plan.baseline}-{plan.arm}",
            each.metric,
            {plan.baseline: each.baseline, plan.arm: each.arm},
            each.verdict,
        )
    ]


def _days(searches: Sequence[LoggedSearch]) -> list[datetime]:
    days = sorted({each.time.date() for each in searches})
    return [datetime.combine(day, datetime.min.time(), UTC) + _DAY for day in days]
