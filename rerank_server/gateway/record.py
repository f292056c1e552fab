"""What is known of one search that the gateway was asked to rerank, and who may take it.

The record is for telemetry: it holds no raw shopper id and no text but the query. The gateway
calls a `SearchRecorder` once a search, after the answer was sent, on the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

VARIANT_CURRENT = "current"
VARIANT_CANARY = "canary"


@dataclass(frozen=True, slots=True)
class StageLatency:
    """Milliseconds of one search by stage; 0 for a stage that was not reached.

    The first five are the gateway's own clock, the others are what the server said of its part
    of `rerank_ms`.

    Attributes:
        total_ms: From the request's last byte in to the answer's last byte out.
        elasticsearch_ms: The search itself, as the gateway waited for it, all its tries.
        elasticsearch_took_ms: `took` of the answer, Elasticsearch's own figure.
        events_ms: Reading the shopper's events; it runs beside the search.
        rerank_ms: The call of the server.
        queue_ms: The page waited for a worker.
        lookup_ms: Rows of candidates and events.
        query_ms: The query's vector.
        encode_ms: Features.
        score_ms: The scorer.
        policy_ms: Rules after the scores.
    """

    total_ms: float = 0.0
    elasticsearch_ms: float = 0.0
    elasticsearch_took_ms: float = 0.0
    events_ms: float = 0.0
    rerank_ms: float = 0.0
    queue_ms: float = 0.0
    lookup_ms: float = 0.0
    query_ms: float = 0.0
    encode_ms: float = 0.0
    score_ms: float = 0.0
    policy_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """One search that asked for reranking, whether it got it or not.

    Attributes:
        query_id: The caller's (`ext.rerank.query_id`), or a new random UUID; what the events
            that follow refer to.
        query: What the shopper typed; empty where the gateway could not tell.
        index: The index expression of the request as it was sent, `products-*` for example.
        started: When the request had arrived, UTC.
        finished: When the answer had been sent, UTC.
        candidate_ids: Product ids of the window in retrieval order; empty when Elasticsearch
            gave none.
        retrieval_scores: `_score` of each candidate; NaN without one.
        reranked_ids: Product ids in the new order, without those that a policy hid; equal to
            `candidate_ids` when degraded.
        scores: Score of each of `reranked_ids`; empty when degraded.
        categories: Category of each of `candidate_ids`, an empty text where it is unknown;
            empty when no field of categories is configured.
        shown_ids: Product ids of the page that the caller got, in its order.
        shown_from: Rank of the first of them, from 0: the request's `from`.
        total_hits: `hits.total`; None when the caller did not ask for it.
        total_is_exact: Whether `total_hits` is exact, not a lower bound.
        unknown_candidates: How many of the candidates the product store does not hold.
        bundle_id: The bundle that answered; empty when none did.
        variant: `current`, `canary`, or empty when that is not known; of a search that found
            nothing, the arm that its shopper is in.
        degraded_reason: Why the answer is in retrieval order, `deadline` for example; empty
            when it was reranked.
        degraded_detail: The same in words, for people.
        shopper: Keyed hash of the shopper's id, 16 hexadecimal digits; empty without an id or
            without a key.
        session_id: Keyed hash of the session's id, likewise.
        application: What the caller or the index rule calls the shop's application; may be empty.
        surface: Where the page is shown, as sent to the server.
        object_id_field: The field whose values the product ids are; `_id` or a configured one.
        history_source: `caller`, `stream`, `cache`, or `none`.
        history_events: How many past events were sent to the server.
        experiment: Free labels that the caller sent (`ext.rerank.experiment`), such as
            `{"id": "title-boost", "arm": "b"}`.
        trace_id: Of the request's `traceparent`; empty without one.
        opaque_id: The request's `X-Opaque-Id`; empty without one.
        elasticsearch_status: HTTP status of the answer.
        latency: Milliseconds by stage.
    """

    query_id: str
    query: str
    index: str
    started: datetime
    finished: datetime
    candidate_ids: tuple[str, ...] = ()
    retrieval_scores: tuple[float, ...] = ()
    reranked_ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    shown_ids: tuple[str, ...] = ()
    shown_from: int = 0
    total_hits: int | None = None
    total_is_exact: bool = True
    unknown_candidates: int = 0
    bundle_id: str = ""
    variant: str = ""
    degraded_reason: str = ""
    degraded_detail: str = ""
    shopper: str = ""
    session_id: str = ""
    application: str = ""
    surface: str = ""
    object_id_field: str = "_id"
    history_source: str = "none"
    history_events: int = 0
    experiment: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""
    opaque_id: str = ""
    elasticsearch_status: int = 200
    latency: StageLatency = field(default_factory=StageLatency)

    @property
    def degraded(self) -> bool:
        """Whether the answer is in retrieval order because it could not be reranked."""
        return bool(self.degraded_reason)


class SearchRecorder(Protocol):
    """Takes the records of searches; telemetry implements it."""

    def record(self, search: SearchRecord) -> None:
        """Take one record and return at once, without input or output and without an error.

        Called on the event loop: put the record into a bounded queue and count it as lost when
        that is full. An error is logged by the gateway and changes no answer.
        """
        ...
