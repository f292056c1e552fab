"""A client of the rerank service that always answers, in retrieval order where the server cannot.

It takes the same `SearchPage` as the in-process `Reranker`, but is asynchronous.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Protocol, Self

import grpc
import numpy as np

from deploy.demo.retrieval.retriever import Retrieved
from rerank_server.contract.page import Floats
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.pb import rerank_pb2, rerank_pb2_grpc

EVENT_KINDS = {
    "impression": rerank_pb2.EVENT_KIND_IMPRESSION,
    "click": rerank_pb2.EVENT_KIND_CLICK,
    "cart": rerank_pb2.EVENT_KIND_CART,
    "purchase": rerank_pb2.EVENT_KIND_PURCHASE,
}
# Retrieval names the codes of the locations after what they promote; the bundle reads both the
# code and whether there is one.
PROMOTION_CODES = {
    "promotion_display": "display_location",
    "promotion_mailer": "mailer_location",
}


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What a server says of itself.

    Attributes:
        bundle_id: The bundle it serves.
        provider: The onnxruntime execution provider.
        objectives: Objectives in output order.
        signals: Signals that the bundle reads.
        surfaces: Surfaces of the bundle.
        figures: Figures of the model on its test split.
    """

    bundle_id: str
    provider: str
    objectives: tuple[str, ...]
    signals: tuple[str, ...]
    surfaces: tuple[str, ...]
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RankedCandidates:
    """A page in its new order, best first; or in retrieval order, with a reason.

    Attributes:
        ids: Product ids.
        retrieval_ranks: Where each stood, from 0.
        scores: Shape (candidates,); empty when degraded.
        probabilities: One column per objective; empty when degraded.
        explanations: One column per feature group; empty unless asked for.
        bundle_id: The bundle that answered; empty when none did.
        degraded_reason: Empty when the page was scored.
        degraded_detail: The same in words.
        stages_us: Microseconds by stage of the server.
        server_us: From the page's arrival in the server to its answer; 0 without one.
        round_trip_us: From the call to the answer.
    """

    ids: tuple[str, ...]
    retrieval_ranks: tuple[int, ...]
    scores: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    probabilities: Mapping[str, Floats] = field(default_factory=dict)
    explanations: Mapping[str, Floats] = field(default_factory=dict)
    bundle_id: str = ""
    degraded_reason: str = ""
    degraded_detail: str = ""
    stages_us: Mapping[str, int] = field(default_factory=dict)
    server_us: int = 0
    round_trip_us: int = 0


class PageRanker(Protocol):
    """What puts a page in order; `RerankClient`, or a program in its place."""

    async def rerank(self, page: SearchPage) -> RankedCandidates:
        """The page in its new order; never an error for a page that keeps the rules."""
        ...


class RerankClient:
    """Calls one server; use it inside one event loop."""

    def __init__(self, target: str, *, deadline_s: float = 1.0) -> None:
        """Prepare to call `target` (host:port) without waiting for it.

        Args:
            target: Where the server listens.
            deadline_s: How long one call may take before retrieval order is shown, > 0.
        """
        self._channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", 16 * 1024 * 1024),
                # A server that was restarted is found again within a second.
                ("grpc.max_reconnect_backoff_ms", 1_000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._stub: rerank_pb2_grpc.RerankServiceAsyncStub = rerank_pb2_grpc.RerankServiceStub(
            self._channel
        )
        self._deadline_s = deadline_s
        self._signals: frozenset[str] | None = None

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def status(self) -> ServerStatus:
        """What the server says of itself.

        Raises:
            grpc.aio.AioRpcError: The server cannot be reached in time.
        """
        answer = await self._stub.GetServerStatus(
            rerank_pb2.GetServerStatusRequest(), timeout=self._deadline_s
        )
        return ServerStatus(
            bundle_id=answer.bundle_id,
            provider=answer.provider,
            objectives=tuple(answer.objectives),
            signals=tuple(answer.signals),
            surfaces=tuple(answer.surfaces),
            figures=dict(answer.figures),
        )

    async def rerank(self, page: SearchPage) -> RankedCandidates:
        """The page in the server's order, or in retrieval order with the reason why."""
        began = perf_counter_ns()
        try:
            if self._signals is None:
                self._signals = frozenset((await self.status()).signals)
            began = perf_counter_ns()
            request = request_of(page, self._signals)
            answer = await self._stub.Rerank(request, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            # Another bundle may have come, with other signals.
            self._signals = None
            elapsed_us = (perf_counter_ns() - began) // 1_000
            return _retrieval_order(page, error, elapsed_us)
        return _ranked(answer, (perf_counter_ns() - began) // 1_000)


def search_page(
    retrieved: Retrieved,
    *,
    query: str,
    surface: str,
    category: str | None,
    place: str | None,
    time: int,
    history: ShopperHistory,
    explain: bool,
) -> SearchPage:
    """The page of what retrieval found, for one shopper.

    Raises:
        PageError: A rule of the contract is broken, such as a page without candidates.
    """
    return SearchPage(
        candidate_ids=retrieved.ids,
        retrieval_scores=retrieved.scores,
        signals=wire_signals(retrieved.signals),
        query=query,
        surface=surface,
        time=time,
        place=place,
        history=history,
        category=category,
        explain=explain,
    )


def wire_signals(signals: Mapping[str, Floats]) -> dict[str, Floats]:
    """Retrieval's signals under the names and with the values that bundles are trained on.

    A promotion's code becomes two signals: the code, and whether it is above 0.
    """
    columns: dict[str, Floats] = {}
    for name, values in signals.items():
        code_name = PROMOTION_CODES.get(name)
        if code_name is None:
            columns[name] = values
        else:
            columns[code_name] = values
            columns[name] = np.where(np.isnan(values), np.nan, values > 0).astype(np.float32)
    return columns


def request_of(page: SearchPage, signals: Collection[str]) -> rerank_pb2.RerankRequest:
    """The wire form of a page, with those of its signals that the bundle reads."""
    history = page.history
    return rerank_pb2.RerankRequest(
        candidate_ids=page.candidate_ids,
        retrieval_scores=page.retrieval_scores,
        signals=[
            rerank_pb2.Signal(name=name, values=values)
            for name, values in page.signals.items()
            if name in signals
        ],
        query=page.query,
        surface=page.surface,
        time=page.time,
        place=page.place,
        shopper_id=page.shopper_id,
        history=rerank_pb2.History(
            product_ids=history.product_ids,
            times=np.asarray(history.times).tolist(),
            kinds=[EVENT_KINDS[kind] for kind in history.kinds],
            places=history.places,
            discounted=history.discounted,
        ),
        category=page.category,
        objective_weights=page.objective_weights,
        explain=page.explain,
        top_k=page.top_k,
    )


def _ranked(answer: rerank_pb2.RerankResponse, round_trip_us: int) -> RankedCandidates:
    timings = answer.timings
    reason = rerank_pb2.DegradedReason.Name(answer.degraded_reason)
    return RankedCandidates(
        ids=tuple(answer.candidate_ids),
        retrieval_ranks=tuple(answer.retrieval_ranks),
        scores=_floats(answer.scores),
        probabilities={
            column.objective: _floats(column.probabilities) for column in answer.objectives
        },
        explanations={
            column.group: _floats(column.contributions) for column in answer.explanations
        },
        bundle_id=answer.bundle_id,
        degraded_reason=(
            reason.removeprefix("DEGRADED_REASON_").lower() if answer.degraded else ""
        ),
        degraded_detail=answer.degraded_detail,
        stages_us={
            "queue": timings.queue_us,
            "lookup": timings.lookup_us,
            "query": timings.query_us,
            "encode": timings.encode_us,
            "score": timings.score_us,
            "policy": timings.policy_us,
        },
        server_us=timings.total_us,
        round_trip_us=round_trip_us,
    )


def _retrieval_order(
    page: SearchPage, error: grpc.aio.AioRpcError, elapsed_us: int
) -> RankedCandidates:
    kept = page.candidate_ids[: page.top_k]
    return RankedCandidates(
        ids=tuple(kept),
        retrieval_ranks=tuple(range(len(kept))),
        degraded_reason=str(error.code().name).lower(),
        degraded_detail=error.details() or "the server gave no details",
        round_trip_us=elapsed_us,
    )


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, np.float32)
