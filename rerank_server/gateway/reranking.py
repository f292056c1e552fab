"""One answer of Elasticsearch put in order: candidates, the shopper's events, the call, the page.

Whatever goes wrong, the page is Elasticsearch's own, with the reason in `ext.rerank`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import numpy as np

from rerank_server.access_log import hash_shopper
from rerank_server.contract.errors import PageError
from rerank_server.gateway.candidates import (
    Candidates,
    find_candidates,
    order_hits,
    product_id_of,
)
from rerank_server.gateway.errors import RankingError
from rerank_server.gateway.events import SOURCE_NONE, ShopperEvents
from rerank_server.gateway.kept_orders import KeptOrders
from rerank_server.gateway.options import RerankOptions
from rerank_server.gateway.ranking import PageRanker, Ranking
from rerank_server.gateway.record import SearchRecord, StageLatency
from rerank_server.gateway.search_answer import (
    SearchAnswer,
    Shown,
    add_status,
    read_answer,
    write_page,
)
from rerank_server.gateway.search_request import SearchPlan, Widened
from rerank_server.page import SearchPage, ShopperHistory

SOURCE_CALLER = "caller"
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Timed:
    """Milliseconds by stage and what was seen on the way, filled while a search goes on."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.perf_counter)
    elasticsearch_ms: float = 0.0
    elasticsearch_took_ms: float = 0.0
    events_ms: float = 0.0
    rerank_ms: float = 0.0
    elasticsearch_status: int = 200
    history_source: str = SOURCE_NONE
    history_events: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What the caller's headers say of a search.

    Attributes:
        authorization: For Elasticsearch; None without one.
        trace_id: Of `traceparent`; empty without one.
        opaque_id: `X-Opaque-Id`; empty without one.
    """

    authorization: str | None = None
    trace_id: str = ""
    opaque_id: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one search.

    Attributes:
        body: The caller's answer.
        record: What telemetry takes; times of the end are still missing.
        timed: Its clock.
    """

    body: bytes
    record: SearchRecord
    timed: Timed


@dataclass(frozen=True, slots=True)
class _Order:
    """The hits in the order to show, None where a hidden one was, and who says so."""

    hits: Sequence[Shown | None]
    candidates: Candidates | None = None
    ranking: Ranking | None = None
    problem: RankingError | None = None


class Reranking:
    """Puts answers in order."""

    def __init__(
        self,
        ranker: PageRanker,
        events: ShopperEvents,
        *,
        timeout_ms: int,
        key: bytes | None,
        kept: KeptOrders,
    ) -> None:
        """Ask `ranker`, for at most `timeout_ms`.

        Args:
            ranker: The rerank server.
            events: Of shoppers whose history the caller does not send.
            timeout_ms: Where a search says nothing else.
            key: Hashes ids for telemetry; None leaves them out.
            kept: Orders of searches whose further pages may come.
        """
        self._ranker = ranker
        self._events = events
        self._timeout_ms = timeout_ms
        self._key = key
        self._kept = kept

    async def history(
        self, options: RerankOptions, authorization: str | None, timed: Timed
    ) -> ShopperHistory:
        """Return the shopper's events: the caller's, or those of the stream."""
        if options.history is not None:
            timed.history_source = SOURCE_CALLER
            timed.history_events = len(options.history.product_ids)
            return options.history
        if not options.shopper_id:
            return ShopperHistory()
        began = time.perf_counter()
        history, timed.history_source = await self._events.of(options.shopper_id, authorization)
        timed.history_events = len(history.product_ids)
        timed.events_ms = since_ms(began)
        return history

    async def reorder(
        self,
        plan: SearchPlan,
        widened: Widened,
        body: bytes,
        history: asyncio.Task[ShopperHistory],
        timed: Timed,
    ) -> Outcome:
        """Return the page of an answer to the widened search, reranked or not.

        Raises:
            AnswerError: When the answer has no hits that can be read.
        """
        answer = read_answer(body, widened.options.fields)
        timed.elasticsearch_took_ms = answer.took_ms
        order = await self._order(answer, widened, history, timed)
        cut = order.hits[widened.offset : widened.offset + widened.size]
        places = [place for place in cut if place is not None]
        record = self._record(plan.index, widened, answer, order, timed)
        record = replace(record, shown_ids=_shown_ids(order, answer, places, widened))
        scores = record.scores
        page = write_page(
            answer,
            places,
            widened,
            max_score=max(scores) if scores else None,
            said=_status(record),
        )
        return Outcome(page, record, timed)

    def refused(
        self, plan: SearchPlan, body: bytes, problem: RankingError, timed: Timed
    ) -> Outcome:
        """Return Elasticsearch's own answer to the caller's own search, with the reason."""
        options = plan.widened.options if plan.widened else RerankOptions()
        query = plan.widened.query_text if plan.widened else ""
        record = replace(
            self._begin_record(plan.index, options, query, timed),
            degraded_reason=problem.reason,
            degraded_detail=str(problem),
        )
        answered = timed.elasticsearch_status == HTTPStatus.OK
        return Outcome(add_status(body, _status(record)) if answered else body, record, timed)

    async def _order(
        self,
        answer: SearchAnswer,
        widened: Widened,
        history: asyncio.Task[ShopperHistory],
        timed: Timed,
    ) -> _Order:
        window = answer.hits[: widened.options.window]
        rest = [Shown(place) for place in range(len(window), len(answer.hits))]
        retrieval = [Shown(place) for place in range(len(answer.hits))]
        if not window:
            return _Order(retrieval)
        try:
            candidates = find_candidates(window, widened.options)
        except RankingError as problem:
            return _Order(retrieval, problem=problem)
        ranking = None
        try:
            ranking = await self._ranking(candidates, widened, history, timed)
            hits = order_hits(candidates, ranking)
        except RankingError as problem:
            return _Order(retrieval, candidates, ranking, problem)
        except Exception:  # noqa: BLE001 - whatever fails, the shopper gets retrieval order
            _LOG.exception("reranking failed")
            failure = RankingError("gateway_failed", "the gateway failed, see its log")
            return _Order(retrieval, candidates, ranking, failure)
        # the places of hidden products stay open, so that pages beyond the window begin where
        # Elasticsearch begins them
        hidden = [None] * (len(window) - len(hits))
        return _Order([*hits, *hidden, *rest], candidates, ranking)

    async def _ranking(
        self,
        candidates: Candidates,
        widened: Widened,
        history: asyncio.Task[ShopperHistory],
        timed: Timed,
    ) -> Ranking:
        """Return the order of a first page; a further page has that of the first."""
        mark = widened.fingerprint
        if widened.offset and (kept := self._kept.find(mark, candidates)):
            if kept.problem is not None:
                raise RankingError(kept.problem.reason, str(kept.problem))
            if kept.ranking is not None:
                return kept.ranking
        try:
            ranking = await self._rank(candidates, widened, history, timed)
        except PageError as error:
            raise RankingError("refused_page", str(error)) from error
        except RankingError as problem:
            # another error, since the traceback of this one holds the whole answer
            kept_problem = RankingError(problem.reason, str(problem))
            self._kept.keep(mark, candidates, None, kept_problem)
            raise
        self._kept.keep(mark, candidates, ranking, None)
        return ranking

    async def _rank(
        self,
        candidates: Candidates,
        widened: Widened,
        history: asyncio.Task[ShopperHistory],
        timed: Timed,
    ) -> Ranking:
        options = widened.options
        past = await history
        began = time.perf_counter()
        try:
            return await self._ranker.rank(
                SearchPage(
                    candidate_ids=candidates.ids,
                    retrieval_scores=np.array(candidates.retrieval_scores, np.float32),
                    signals={
                        name: np.array(values, np.float32)
                        for name, values in candidates.signals.items()
                    },
                    query=widened.query_text,
                    surface=options.surface,
                    time=options.time,
                    place=options.place,
                    shopper_id=options.shopper_id,
                    history=past,
                    category=options.category,
                    objective_weights=options.objective_weights,
                    # says how many the policy hid: an answer that lacks others is wrong
                    policy_trace=True,
                ),
                options.timeout_ms or self._timeout_ms,
            )
        finally:
            timed.rerank_ms = since_ms(began)

    def _begin_record(
        self, index: str, options: RerankOptions, query: str, timed: Timed
    ) -> SearchRecord:
        return SearchRecord(
            query_id=options.query_id or str(uuid.uuid4()),
            query=query,
            index=index,
            started=timed.started,
            finished=timed.started,
            shopper=self._hashed(options.shopper_id),
            session_id=self._hashed(options.session_id),
            application=options.application,
            surface=options.surface,
            object_id_field=options.id_field,
            history_source=timed.history_source,
            history_events=timed.history_events,
            experiment=options.experiment,
            elasticsearch_status=timed.elasticsearch_status,
        )

    def _hashed(self, text: str | None) -> str:
        return hash_shopper(text, self._key) if text and self._key else ""

    def _record(
        self, index: str, widened: Widened, answer: SearchAnswer, order: _Order, timed: Timed
    ) -> SearchRecord:
        candidates, ranking, problem = order.candidates, order.ranking, order.problem
        total, exact = answer.total
        record = replace(
            self._begin_record(index, widened.options, widened.query_text, timed),
            candidate_ids=candidates.ids if candidates else (),
            retrieval_scores=candidates.retrieval_scores if candidates else (),
            reranked_ids=candidates.ids if candidates else (),
            categories=candidates.categories if candidates else (),
            shown_from=widened.offset,
            total_hits=total,
            total_is_exact=exact,
        )
        if candidates is None and problem is None:
            # nothing was found, in the arm that the shopper is in: arms are compared by this too
            return replace(record, variant=self._ranker.variant_of(widened.options.shopper_id))
        if ranking is not None:
            record = replace(
                record,
                unknown_candidates=ranking.unknown,
                bundle_id=ranking.bundle_id,
                variant=ranking.variant,
                latency=StageLatency(**ranking.stages_ms),
            )
        if problem is not None:
            return replace(record, degraded_reason=problem.reason, degraded_detail=str(problem))
        if ranking is not None:
            record = replace(record, reranked_ids=ranking.ids, scores=ranking.scores)
        return record


def finish(outcome: Outcome, heard: Heard) -> SearchRecord:
    """Return the record of an answer that was sent just now."""
    timed = outcome.timed
    latency = replace(
        outcome.record.latency,
        total_ms=since_ms(timed.began),
        elasticsearch_ms=timed.elasticsearch_ms,
        elasticsearch_took_ms=timed.elasticsearch_took_ms,
        events_ms=timed.events_ms,
        rerank_ms=timed.rerank_ms,
    )
    return replace(
        outcome.record,
        finished=datetime.now(UTC),
        latency=latency,
        trace_id=heard.trace_id,
        opaque_id=heard.opaque_id,
    )


def since_ms(began: float) -> float:
    """Return the milliseconds since `began` on the clock of `perf_counter`."""
    return (time.perf_counter() - began) * 1_000


def _shown_ids(
    order: _Order, answer: SearchAnswer, places: Sequence[Shown], widened: Widened
) -> tuple[str, ...]:
    """Return the product ids of a page; a hit beyond the window has its own."""
    by_place = {}
    if order.candidates is not None:
        for product_id, found in zip(order.candidates.ids, order.candidates.places, strict=True):
            by_place.update(dict.fromkeys(found, product_id))
    id_field = widened.options.id_field
    return tuple(
        by_place.get(place.hit) or product_id_of(answer.hits[place.hit], id_field) or ""
        for place in places
    )


def _status(record: SearchRecord) -> Mapping[str, Any]:
    """Return what the caller reads in `ext.rerank`."""
    said: dict[str, Any] = {
        "status": "degraded" if record.degraded else "reranked",
        "query_id": record.query_id,
        "candidates": len(record.candidate_ids),
    }
    if record.degraded:
        said |= {"reason": record.degraded_reason, "detail": record.degraded_detail}
    if record.unknown_candidates:
        said["unknown_candidates"] = record.unknown_candidates
    if record.bundle_id:
        said["bundle_id"] = record.bundle_id
    if record.variant:
        said["variant"] = record.variant
    return said
