"""Between pages and the messages of `rerank.proto`, as a client sees them."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np
from google.protobuf import json_format

from rerank_server.client.answer import RerankAnswer, ServerStatus
from rerank_server.contract.errors import PageError, RerankError, nearest
from rerank_server.contract.page import Floats, Rows
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.policy_trace import PolicyTrace

_KIND, _REASON = "EVENT_KIND_", "DEGRADED_REASON_"
_STAGES = ("queue", "lookup", "query", "encode", "score", "policy")


class CallError(RerankError):
    """A call that a server refused, or that did not reach one.

    Attributes:
        status: The name of the gRPC status in lower case, for example "unavailable".
    """

    def __init__(self, message: str, status: str) -> None:
        """Say what came of the call."""
        super().__init__(message)
        self.status = status


class AnswerError(RerankError):
    """An answer that does not belong to the page it was asked for."""


def page_to_pb(page: SearchPage) -> pb.RerankRequest:
    """Return the request of a page.

    Raises:
        PageError: When the page has what the wire does not carry: texts of candidates, or an
            event kind that the proto does not know.
    """
    if any(page.texts):
        raise PageError("texts: got some, want none over gRPC; `POST /v1/rerank` takes texts")
    scores = np.asarray(page.retrieval_scores, np.float32)
    return pb.RerankRequest(
        candidate_ids=page.candidate_ids,
        retrieval_scores=() if np.isnan(scores).all() else scores.tolist(),
        signals=[
            pb.Signal(name=name, values=np.asarray(values).tolist())
            for name, values in page.signals.items()
        ],
        query=page.query,
        surface=page.surface,
        time=page.time,
        place=page.place,
        shopper_id=page.shopper_id,
        history=_history_to_pb(page.history) if page.history.product_ids else None,
        category=page.category,
        objective_weights=page.objective_weights,
        explain=page.explain,
        top_k=page.top_k,
        policy_trace=page.policy_trace,
    )


def answer_from_pb(
    page: SearchPage, response: pb.RerankResponse, round_trip_us: int
) -> RerankAnswer:
    """Return the answer to a page.

    Raises:
        AnswerError: When it names candidates that the page does not have, or one twice.
    """
    ranks = np.array(response.retrieval_ranks, np.int32)
    _check_belongs(page, response.candidate_ids, ranks)
    reason = ""
    if response.degraded:
        reason = _reason_name(response.degraded_reason)
    trace = response.policy_trace if response.HasField("policy_trace") else None
    timings = response.timings
    return RerankAnswer(
        candidate_ids=tuple(response.candidate_ids),
        retrieval_ranks=ranks,
        scores=_floats(response.scores),
        probabilities={
            column.objective: _floats(column.probabilities) for column in response.objectives
        },
        explanations={
            column.group: _floats(column.contributions) for column in response.explanations
        },
        bundle_id=response.bundle_id,
        degraded_reason=reason,
        degraded_detail=response.degraded_detail,
        policy_trace=None if trace is None else _policy_trace_from_pb(trace),
        unknown_candidates=response.unknown_candidates,
        stages_us={stage: int(getattr(timings, f"{stage}_us")) for stage in _STAGES},
        server_us=timings.total_us,
        round_trip_us=round_trip_us,
    )


def status_from_pb(response: pb.GetServerStatusResponse) -> ServerStatus:
    """Return what a server says of itself."""
    challenger = None
    if response.HasField("challenger"):
        challenger = json_format.MessageToDict(
            response.challenger,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
    return ServerStatus(
        bundle_id=response.bundle_id,
        bundle_created=response.bundle_created,
        server_version=response.server_version,
        provider=response.provider,
        device=response.device,
        products=response.products,
        uptime_s=response.uptime_s,
        objectives=tuple(response.objectives),
        categories=tuple(response.categories),
        surfaces=tuple(response.surfaces),
        signals=tuple(response.signals),
        event_kinds=tuple(response.event_kinds),
        figures=dict(response.figures),
        policy_version=response.policy_version,
        challenger=challenger,
    )


def call_error(error: grpc.RpcError, address: str) -> CallError:
    """Return what came of a call, in the words of the server or of gRPC."""
    code, details = error.code(), error.details()
    status = code.name.lower()
    return CallError(f"{address}: got {status}: {details or 'no details'}, want an answer", status)


def _history_to_pb(history: ShopperHistory) -> pb.History:
    return pb.History(
        product_ids=history.product_ids,
        times=np.asarray(history.times).tolist(),
        kinds=[_kind_to_pb(kind) for kind in history.kinds],
        places=history.places,
        discounted=history.discounted,
    )


def _kind_to_pb(kind: str) -> pb.EventKind.ValueType:
    known = [name.removeprefix(_KIND).lower() for name in pb.EventKind.keys()[1:]]
    if kind not in known:
        want = f"one of {', '.join(known)}{nearest(kind, known)}"
        raise PageError(f"history.kinds: got {kind!r}, want {want}")
    return pb.EventKind.Value(f"{_KIND}{kind.upper()}")


def _reason_name(reason: int) -> str:
    """Return the reason's name; a newer server may know others."""
    try:
        return pb.DegradedReason.Name(reason).removeprefix(_REASON).lower()  # type: ignore[arg-type]
    except ValueError:
        return f"reason {reason}"


def _check_belongs(page: SearchPage, ids: Sequence[str], ranks: Rows) -> None:
    same = len(ids) == len(ranks) and len(set(ids)) == len(ids)
    inside = same and (not len(ranks) or (ranks.min() >= 0 and ranks.max() < page.size))
    if not inside or any(
        page.candidate_ids[rank] != product_id
        for rank, product_id in zip(ranks.tolist(), ids, strict=True)
    ):
        raise AnswerError("answer: got candidates of another page, want those that were sent")


def _policy_trace_from_pb(trace: pb.PolicyTrace) -> PolicyTrace:
    return PolicyTrace(
        policy_version=trace.policy_version,
        hidden=trace.hidden,
        rules=tuple(trace.rules),
        shortfalls=tuple(trace.shortfalls),
        rule_indexes=tuple(trace.rule_indexes),
        retrieval_ranks=tuple(trace.retrieval_ranks),
        ranks_before=tuple(trace.ranks_before),
        ranks_after=tuple(trace.ranks_after),
    )


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, np.float32)
