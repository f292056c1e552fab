"""What a client gets back for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rerank_server.contract.page import Floats, Rows
from rerank_server.page import SearchPage
from rerank_server.policy_trace import PolicyTrace


@dataclass(frozen=True, slots=True)
class RerankAnswer:
    """A page in its new order, best first; or in retrieval order, with a reason.

    Attributes:
        candidate_ids: Product ids, best first.
        retrieval_ranks: Where each stood, from 0, shape (returned,).
        scores: Shape (returned,); empty when degraded.
        probabilities: Shape (returned,) by objective; empty when degraded.
        explanations: Shape (returned,) by feature group; empty unless asked for.
        bundle_id: The bundle that answered; empty when no server did.
        degraded_reason: Why this is the retrieval order: a reason of the server ("deadline",
            "overloaded", ...), or the status of a call that failed ("unavailable",
            "deadline_exceeded", "unauthenticated", ...). Empty when the page was scored.
        degraded_detail: The same in words.
        policy_trace: Which rule moved what; None unless asked for.
        unknown_candidates: How many candidates the server's product store does not hold.
        stages_us: Microseconds by stage of the server.
        server_us: From the page's arrival in the server to its answer; 0 without one.
        round_trip_us: From the call to the answer.
    """

    candidate_ids: tuple[str, ...]
    retrieval_ranks: Rows
    scores: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    probabilities: Mapping[str, Floats] = field(default_factory=dict)
    explanations: Mapping[str, Floats] = field(default_factory=dict)
    bundle_id: str = ""
    degraded_reason: str = ""
    degraded_detail: str = ""
    policy_trace: PolicyTrace | None = None
    unknown_candidates: int = 0
    stages_us: Mapping[str, int] = field(default_factory=dict)
    server_us: int = 0
    round_trip_us: int = 0

    @property
    def degraded(self) -> bool:
        """Whether this is the retrieval order because the page could not be scored."""
        return bool(self.degraded_reason)

    @property
    def answered(self) -> bool:
        """Whether a server answered, be it in retrieval order."""
        return bool(self.bundle_id)


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What a server says of itself.

    Attributes:
        bundle_id: The bundle it serves.
        bundle_created: When that was written, RFC 3339.
        server_version: Version of the server program.
        provider: The onnxruntime execution provider.
        device: "cpu" or "cuda".
        products: Products in its store.
        uptime_s: Seconds since it began to serve.
        objectives: Objectives in output order.
        categories: Categories that the bundle was trained with.
        surfaces: Surfaces of the bundle.
        signals: Signals that the bundle reads.
        event_kinds: Event kinds that the bundle reads.
        figures: Figures of the model on its test split.
        policy_version: Hash of the policy's rules; empty without a policy.
        challenger: What was seen of the bundle that is tried out; None when there is none.
    """

    bundle_id: str
    bundle_created: str
    server_version: str
    provider: str
    device: str
    products: int
    uptime_s: float
    objectives: tuple[str, ...]
    categories: tuple[str, ...]
    surfaces: tuple[str, ...]
    signals: tuple[str, ...]
    event_kinds: tuple[str, ...]
    figures: Mapping[str, float]
    policy_version: str
    challenger: Mapping[str, str | float | bool] | None


def in_retrieval_order(
    page: SearchPage, reason: str, detail: str, round_trip_us: int
) -> RerankAnswer:
    """Return the page as it came, cut to its `top_k`.

    A server's policy may hide candidates; a client without an answer does not know which.
    """
    kept = tuple(page.candidate_ids[: page.top_k])
    return RerankAnswer(
        candidate_ids=kept,
        retrieval_ranks=np.arange(len(kept), dtype=np.int32),
        degraded_reason=reason,
        degraded_detail=detail,
        round_trip_us=round_trip_us,
    )
