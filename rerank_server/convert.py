"""Between the messages of `rerank.proto` and pages; building the page checks the proto's rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rerank_server.bundle_store import Bundles, Challenger
from rerank_server.contract.errors import PageError, nearest
from rerank_server.contract.page import Floats
from rerank_server.contract.schema import Schema
from rerank_server.page import DegradedReason, RankedPage, SearchPage, ShopperHistory
from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.policy_trace import PolicyTrace
from rerank_server.product_records import ProductError
from rerank_server.product_store import ProductStore
from rerank_server.store_memory import resident_memory

_KINDS: dict[int, str] = {
    pb.EVENT_KIND_IMPRESSION: "impression",
    pb.EVENT_KIND_CLICK: "click",
    pb.EVENT_KIND_CART: "cart",
    pb.EVENT_KIND_PURCHASE: "purchase",
}
_REASONS = {
    DegradedReason.DEADLINE: pb.DEGRADED_REASON_DEADLINE,
    DegradedReason.SCORER_FAILED: pb.DEGRADED_REASON_SCORER_FAILED,
    DegradedReason.SCORES_NOT_FINITE: pb.DEGRADED_REASON_SCORES_NOT_FINITE,
    DegradedReason.OVERLOADED: pb.DEGRADED_REASON_OVERLOADED,
}


def page_from_pb(request: pb.RerankRequest) -> SearchPage:
    """Return the page of a request.

    Raises:
        PageError: When a rule of `rerank.proto` is broken.
    """
    return SearchPage(
        candidate_ids=list(request.candidate_ids),
        retrieval_scores=np.array(request.retrieval_scores, np.float32),
        signals=_signals_from_pb(request),
        query=request.query,
        surface=request.surface,
        time=request.time if request.HasField("time") else None,
        place=request.place if request.HasField("place") else None,
        shopper_id=request.shopper_id if request.HasField("shopper_id") else None,
        history=_history_from_pb(request.history),
        category=request.category if request.HasField("category") else None,
        objective_weights=dict(request.objective_weights),
        explain=request.explain,
        top_k=request.top_k if request.HasField("top_k") else None,
        policy_trace=request.policy_trace,
    )


def response_to_pb(
    ranked: RankedPage, *, queue_us: int, total_us: int, version: str
) -> pb.RerankResponse:
    """Return the response for a ranked page."""
    timings = ranked.timings
    response = pb.RerankResponse(
        candidate_ids=ranked.candidate_ids,
        scores=ranked.scores.tolist(),
        retrieval_ranks=ranked.retrieval_ranks.tolist(),
        objectives=[
            pb.ObjectiveColumn(
                objective=objective, probabilities=ranked.probabilities[:, column].tolist()
            )
            for column, objective in enumerate(ranked.objectives)
        ],
        explanations=[
            pb.ExplanationColumn(group=group, contributions=values.tolist())
            for group, values in ranked.explanations.items()
        ],
        bundle_id=ranked.bundle_id,
        degraded=ranked.degraded,
        degraded_detail=ranked.degraded_detail,
        timings=pb.Timings(
            queue_us=queue_us,
            lookup_us=timings.lookup_us,
            query_us=timings.query_us,
            encode_us=timings.encode_us,
            score_us=timings.score_us,
            policy_us=timings.policy_us,
            total_us=total_us,
        ),
        server_version=version,
        unknown_candidates=ranked.unknown_candidates,
    )
    if ranked.degraded_reason is not None:
        response.degraded_reason = _REASONS[ranked.degraded_reason]
    if ranked.policy_trace is not None:
        response.policy_trace.CopyFrom(_policy_trace_to_pb(ranked.policy_trace))
    return response


def turned_away_to_pb(
    request: pb.RerankRequest, bundle_id: str, *, version: str
) -> pb.RerankResponse:
    """Return the retrieval order for a request that is not read further: it would be too late.

    Costs a tenth of `page_from_pb` and `response_to_pb`, and checks no rule.
    """
    size = len(request.candidate_ids)
    count = min(request.top_k, size) if request.HasField("top_k") else size
    return pb.RerankResponse(
        candidate_ids=request.candidate_ids[:count],
        retrieval_ranks=range(count),
        bundle_id=bundle_id,
        degraded=True,
        degraded_reason=pb.DEGRADED_REASON_DEADLINE,
        degraded_detail="deadline: got less than a page takes now, want more",
        server_version=version,
    )


def bundles_to_pb(bundles: Bundles[Any], *, restarted: int) -> admin_pb2.HeldBundles:
    """Return which bundles are held, and how many processes could not follow."""
    previous, tried = bundles.previous, bundles.challenger
    return admin_pb2.HeldBundles(
        current_id=bundles.current.bundle.manifest.bundle_id,
        previous_id=previous.bundle.manifest.bundle_id if previous else None,
        challenger_id=tried.bundle_id if tried else None,
        processes_restarted=restarted,
    )


def challenger_to_pb(tried: Challenger[Any]) -> pb.ChallengerStatus:
    """Return what was seen of the challenger."""
    figures = tried.figures()
    agreement, same_first = figures.rank_agreement, figures.same_first_share
    return pb.ChallengerStatus(
        bundle_id=tried.bundle_id,
        canary_percent=tried.canary_percent,
        shadow=tried.shadow,
        canary_pages=figures.canary_pages,
        canary_degraded=figures.canary_degraded,
        shadow_pages=figures.shadow_pages,
        shadow_degraded=figures.shadow_degraded,
        shadow_skipped=figures.shadow_skipped,
        rank_agreement=None if math.isnan(agreement) else agreement,
        same_first_share=None if math.isnan(same_first) else same_first,
        current_p50_us=figures.current_us[0],
        current_p99_us=figures.current_us[1],
        challenger_p50_us=figures.challenger_us[0],
        challenger_p99_us=figures.challenger_us[1],
    )


def store_to_pb(store: ProductStore) -> pb.StoreStatus:
    """Return what is to be known of a product store, and of the memory of the process."""
    memory = resident_memory()
    status = pb.StoreStatus(
        vectors="float32",
        resident_private_bytes=memory.private,
        resident_file_bytes=memory.file,
    )
    if store.manifest is not None:
        status.vectors = store.manifest.vectors
        status.largest_score_difference = store.manifest.loss.get("largest_score_difference", 0.0)
        status.changes_in_files = store.manifest.changes_through
    if store.overlay is not None:
        status.changes_in_memory = store.overlay.used
    return status


def products_from_pb(
    request: admin_pb2.UpsertProductsRequest, schema: Schema
) -> list[dict[str, Any]]:
    """Return products as lines of a catalogue hold them; what is absent becomes null.

    Raises:
        ProductError: When an attribute, column or vector is not of the schema.
    """
    columns = [column.name for column in schema.product_columns]
    vectors = [spec.name for spec in schema.vectors]
    records = []
    for index, product in enumerate(request.products):
        _refuse_unknown(product.attributes, schema.attributes, f"products[{index}].attributes")
        _refuse_unknown(product.columns, columns, f"products[{index}].columns")
        _refuse_unknown(product.vectors, vectors, f"products[{index}].vectors")
        records.append(
            {
                "id": product.id,
                "text": product.text,
                "category": product.category or None,
                "category_path": list(product.category_path),
                **{name: product.attributes.get(name) or None for name in schema.attributes},
                "columns": {name: product.columns.get(name) for name in columns},
                **_vectors_from_pb(product),
            }
        )
    return records


def _vectors_from_pb(product: admin_pb2.Product) -> dict[str, Any]:
    if not product.vectors:  # then its line is as it was before there were any
        return {}
    return {"vectors": {name: list(vector.values) for name, vector in product.vectors.items()}}


def _refuse_unknown(given: Iterable[str], known: Sequence[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise ProductError(
                f"{what}: got {name!r}, want some of {', '.join(known) or 'none'}"
                f"{nearest(name, known)}"
            )


def _policy_trace_to_pb(trace: PolicyTrace) -> pb.PolicyTrace:
    return pb.PolicyTrace(
        policy_version=trace.policy_version,
        hidden=trace.hidden,
        rules=trace.rules,
        shortfalls=trace.shortfalls,
        rule_indexes=trace.rule_indexes,
        retrieval_ranks=trace.retrieval_ranks,
        ranks_before=trace.ranks_before,
        ranks_after=trace.ranks_after,
    )


def _signals_from_pb(request: pb.RerankRequest) -> dict[str, Floats]:
    signals: dict[str, Floats] = {}
    for signal in request.signals:
        if not signal.name:
            raise PageError("signals: got an empty name, want 1 to 256 bytes")
        if signal.name in signals:
            raise PageError(f"signals: got {signal.name!r} twice, want each name once")
        signals[signal.name] = np.array(signal.values, np.float32)
    return signals


def _history_from_pb(history: pb.History) -> ShopperHistory:
    return ShopperHistory(
        product_ids=list(history.product_ids),
        times=np.array(history.times, np.int64),
        kinds=[_kind_from_pb(kind, index) for index, kind in enumerate(history.kinds)],
        places=list(history.places),
        discounted=list(history.discounted),
    )


def _kind_from_pb(kind: int, index: int) -> str:
    if kind not in _KINDS:
        known = ", ".join(str(number) for number in _KINDS)
        raise PageError(f"history.kinds[{index}]: got {kind}, want one of {known}")
    return _KINDS[kind]
