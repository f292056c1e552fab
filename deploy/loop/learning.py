"""One daily round: read a day, check it, train, compare with what serves, publish or refuse."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deploy.loop.day_checks import drifts, findings
from deploy.loop.documents import SURFACE, document_of
from deploy.loop.drift import Drift
from deploy.loop.further_heads import with_further_heads
from deploy.loop.gate import ALL, CategoryComparison, RankedSearch, compare_categories
from deploy.loop.log_tables import LogTables
from deploy.loop.played_days import Days
from deploy.loop.propensity import Examination, estimate_examination
from deploy.loop.rankers import BundleOrder, PageOrder
from deploy.loop.search_log import CLICK, PURCHASE, LoggedSearch, SearchLog, read_search_log
from deploy.loop.streams import Streams
from deploy.loop.training import (
    CandidateBundle,
    settings_of_run,
    signals_of_run,
    train_candidate,
    write_config,
)
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.reranker import Reranker
from rerank_server.telemetry.document import Document
from trainer.config import read_config

STREAM = "crossrank-learning"
TAKEN, REFUSED_DAY, REJECTED, PUBLISHED = "taken", "refused", "rejected", "canary"
PLACES = 50
_HISTORY = 200
# What a round trains when no configuration is given.
SMALL_NETWORK = """name = "loop"
log = "log.toml"
width = 16
hidden = [24, 16]
heads = 2
number_bins = 4
pages_per_batch = 32
epochs = 3
learning_rate = 5e-3
evaluations_per_epoch = 1
refit_days = 56
objectives = ["click", "cart", "purchase"]
objective_weights = [1.0, 0.3, 0.3]
surfaces = ["search"]
"""


class Publisher(Protocol):
    """Where a bundle that passed goes."""

    def publish(self, candidate: CandidateBundle) -> None:
        """Make the bundle a canary."""
        ...


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """How rounds are run.

    Attributes:
        folder: Tables, runs and candidate bundles.
        settings: TOML lines of the training configuration; its log is `log.toml`. Empty: a small
            network, or one of the shape of the run that it starts from.
        window_days: The newest days that are trained on.
        baseline_days: How many days back the streams are read: what drift, click rate and the
            examination curve are measured by. Fewer than the 30 for which `crossrank-searches`
            keeps a search (`data_retention` of its template): a day of which searches are gone
            looks like another shop, and good days would be refused.
        correct_position_bias: Whether clicks are weighted by inverse propensity.
        threads: Of the graphs.
        seed: Of resampling.
        progress: Whether bars are drawn.
        days: Which stretch of time is a day.
        warm_start: Start from the weights of the run whose bundle serves, where it is known.
    """

    folder: Path
    settings: str = ""
    window_days: int = 28
    baseline_days: int = 28
    correct_position_bias: bool = True
    threads: int = 1
    seed: int = 1
    progress: bool = False
    days: Days = field(default_factory=Days)
    warm_start: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did.

    Attributes:
        day: The day that was read.
        decision: `taken` (nothing to compare yet), `refused` (the day), `rejected` (the bundle),
            or `canary`.
        reasons: Why refused or rejected.
        candidate: What was trained; None when nothing was.
        comparisons: By category, `all` first.
        drift: Of the day to the days before it.
        examination: Estimated propensity of each place; empty when nothing was trained.
        duration_s: Wall seconds.
        serving_bundle_id: What the new bundle is compared with; empty is retrieval order.
        canary_bundle_id: What was tried out beside it when the round began; empty without one.
    """

    day: date
    decision: str
    reasons: tuple[str, ...] = ()
    candidate: CandidateBundle | None = None
    comparisons: tuple[CategoryComparison, ...] = ()
    drift: tuple[Drift, ...] = ()
    examination: tuple[float, ...] = ()
    duration_s: float = 0.0
    serving_bundle_id: str = ""
    canary_bundle_id: str = ""


@dataclass(slots=True)
class Learner:
    """Runs rounds over one learning folder."""

    plan: RoundPlan
    tables: LogTables
    streams: Streams
    _seen: dict[date, list[LoggedSearch]] = field(default_factory=dict)

    def run(
        self, day: date, serving: PageOrder, publisher: Publisher, start: Path | None = None
    ) -> Round:
        """Read `day` and do what follows from it; a day that was read before is judged anew.

        Args:
            day: The day.
            serving: What a new bundle is compared with.
            publisher: Takes a bundle that passes.
            start: Training run whose weights the new one starts from; None begins anew.

        Raises:
            RerankError: The child that names what stops the round.
        """
        began = time.monotonic()
        log, past = self._read(day), self._past(day)
        moved, reasons = tuple(drifts(log.searches, past)), findings(log, past)
        self.tables.add(day, log.searches, reasons)
        if reasons:
            return self._done(began, Round(day, REFUSED_DAY, tuple(reasons), drift=moved))
        self._seen[day] = log.searches
        days = [each for each in self.tables.taken_days() if each <= day]
        days = days[-self.plan.window_days - 1 :]
        if len(days) == 1:
            return self._done(began, Round(day, TAKEN, drift=moved))
        examination = estimate_examination(past, PLACES)
        candidate = self._train(days, examination, start)
        comparisons = self._compare(candidate, serving, log.searches, examination)
        rejected = _objections(comparisons)
        if not rejected:
            publisher.publish(candidate)
        decision = REJECTED if rejected else PUBLISHED
        return self._done(
            began,
            Round(
                day,
                decision,
                tuple(rejected),
                candidate,
                tuple(comparisons),
                moved,
                tuple(examination.propensity.tolist()),
            ),
        )

    def _read(self, day: date) -> SearchLog:
        start = self.plan.days.start(day)
        return read_search_log(self.streams, start, start + self.plan.days.length)

    def _past(self, day: date) -> list[LoggedSearch]:
        """Return the searches of the taken days before one that the streams still hold whole."""
        oldest = day - timedelta(days=self.plan.baseline_days)
        days = [each for each in self.tables.taken_days() if oldest <= each < day]
        return [
            search for each in days[-self.plan.window_days :] for search in self._searches(each)
        ]

    def _searches(self, day: date) -> list[LoggedSearch]:
        if day not in self._seen:
            self._seen[day] = self._read(day).searches
        return self._seen[day]

    def _train(
        self, days: Sequence[date], examination: Examination, start: Path | None
    ) -> CandidateBundle:
        plan = self.plan
        log = plan.folder / "logs" / days[-1].isoformat()
        weights = examination if plan.correct_position_bias else None
        newest = plan.days.start(days[-1])
        signals = signals_of_run(start) if start else ()
        self.tables.write_training_log(log, days, weights, plan.seed, newest, signals)
        settings = plan.settings or (settings_of_run(start) if start else SMALL_NETWORK)
        config = write_config(log, settings)
        if start is not None:
            begin = with_further_heads(start, read_config(config).objectives, log / "start")
            settings += f"start_from = {json.dumps(str(begin.absolute()))}\n"
            config = write_config(log, settings)
        return train_candidate(
            config,
            plan.folder / "work" / days[-1].isoformat(),
            plan.folder / "candidates",
            threads=plan.threads,
            progress=plan.progress,
            start=start,
        )

    def _compare(
        self,
        candidate: CandidateBundle,
        serving: PageOrder,
        searches: Sequence[LoggedSearch],
        examination: Examination,
    ) -> list[CategoryComparison]:
        reranker = Reranker.open(
            candidate.bundle, candidate.products, threads=self.plan.threads, device="cpu"
        )
        new, histories = BundleOrder(reranker), _Histories(self.tables)
        ranked = []
        for search in searches:
            if not search.products_of(CLICK) or not search.found_ids:
                continue
            page = histories.page(search)
            orders = [
                [search.found_ids[rank] for rank in ranker.order(page).ranks.tolist()]
                for ranker in (serving, new)
            ]
            ranked.append(RankedSearch(search, orders[0], orders[1]))
        return compare_categories(ranked, examination, np.random.default_rng(self.plan.seed))

    def _done(self, began: float, result: Round) -> Round:
        return replace(result, duration_s=time.monotonic() - began)


class _Histories:
    """Past purchases by shopper, for pages that are ranked anew."""

    def __init__(self, tables: LogTables) -> None:
        self._past: dict[str, list[tuple[int, str]]] = {}
        for shopper, product, moment in tables.purchases():
            self._past.setdefault(shopper, []).append((moment, product))
        for events in self._past.values():
            events.sort()

    def page(self, search: LoggedSearch) -> SearchPage:
        moment = int(search.time.timestamp())
        past = [each for each in self._past.get(search.shopper, []) if each[0] < moment]
        past = past[-_HISTORY:]
        scored = len(search.retrieval_scores) == len(search.found_ids)
        return SearchPage(
            candidate_ids=search.found_ids,
            retrieval_scores=search.retrieval_scores if scored else (),
            query=search.query,
            surface=SURFACE,
            time=moment,
            history=ShopperHistory(
                product_ids=[product for _, product in past],
                times=[at for at, _ in past],
                kinds=[PURCHASE] * len(past),
            ),
        )


def round_documents(result: Round, number: int, now: datetime) -> list[Document]:
    """Return the documents of a round for the stream `crossrank-learning`."""
    candidate = result.candidate
    shared: dict[str, Any] = {
        "@timestamp": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        "run_id": f"{result.day}-{number}",
        "round": number,
        "serving_bundle_id": result.serving_bundle_id,
        "surface": SURFACE,
        "objective": CLICK,
    }
    if candidate is not None:
        shared["bundle_id"] = candidate.bundle_id
    if result.canary_bundle_id:
        shared["canary_bundle_id"] = result.canary_bundle_id
    run: Mapping[str, Any] = {
        "kind": "run",
        "decision": result.decision,
        "duration_s": result.duration_s,
        "pages": candidate.pages if candidate else 0,
        **({"reason": "; ".join(result.reasons)[:1024]} if result.reasons else {}),
    }
    rows: list[Mapping[str, Any]] = [run]
    for each in result.comparisons:
        for ranking in ("retrieval", "serving", "candidate"):
            row = {
                "kind": "quality",
                "metric": "ndcg_at_10",
                "category": each.category,
                "ranking": "new" if ranking == "candidate" else ranking,
                "value": getattr(each, ranking),
                "pages": each.pages,
            }
            if ranking == "candidate":
                row |= {"low": each.serving + each.low, "high": each.serving + each.high}
            rows.append(row)
    rows += [{"kind": "drift", "drift": asdict(each)} for each in result.drift]
    return [document_of({**shared, **row}) for row in rows]


def _objections(comparisons: Sequence[CategoryComparison]) -> list[str]:
    """Return why a bundle must not be published: a category, or all pages, lose with confidence."""
    return [
        f"{'all pages' if each.category == ALL else each.category}: got NDCG@10 of clicks"
        f" {each.candidate:.3f} on {each.pages} pages, want {each.serving:.3f} as served"
        f" (difference {each.low:+.3f} to {each.high:+.3f})"
        for each in comparisons
        if each.loses
    ]
