"""Metrics after real calls, worked out by hand, and in both of Prometheus' formats."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import (
    generate_latest as generate_openmetrics,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from rerank_server.bundle_store import BundleStore
from rerank_server.doors import Doors
from rerank_server.metrics import BATCH_BOUNDS, Histogram, MeasuredScorer, Metrics
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.reranker import Reranker
from tests.rerank_server.scorers import ConstantScorer, FailingScorer, SlowScorer, with_scorer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_bound_belongs_to_its_bucket():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert [(name, count) for name, count, _ in histogram.buckets()] == [
        ("1.0", 2),
        ("2.0", 4),
        ("+Inf", 5),
    ]
    assert histogram.total == 14.0


@given(st.lists(st.floats(0, 100)))
def test_the_last_bucket_holds_every_number(values):
    histogram = Histogram(BATCH_BOUNDS)
    for value in values:
        histogram.observe(value)
    counts = [count for _, count, _ in histogram.buckets()]
    assert counts[-1] == len(values)
    assert counts == sorted(counts)


async def settled(metrics: Metrics) -> None:
    """Wait until the calls that were answered are counted."""
    for _ in range(100):
        if metrics.in_flight == 0:
            return
        await asyncio.sleep(0.01)


async def test_pages_are_counted_with_their_stages_and_sizes(serving, tiny_reranker):
    metrics = Metrics()
    running = await serving(tiny_reranker, doors=Doors(metrics=metrics))
    for size in (1, 10, 11):
        ids = [f"p{number}" for number in range(size)]
        await running.stub.Rerank(pb.RerankRequest(candidate_ids=ids))
    await running.stub.GetServerStatus(pb.GetServerStatusRequest())
    await settled(metrics)
    value = metrics.registry().get_sample_value
    rerank = {"method": "/rerank.v1.RerankService/Rerank", "code": "OK"}
    assert value("crossrank_calls_total", rerank) == 3
    status = rerank | {"method": "/rerank.v1.RerankService/GetServerStatus"}
    assert value("crossrank_calls_total", status) == 1
    assert value("crossrank_page_seconds_count") == 3
    assert value("crossrank_stage_seconds_count", {"stage": "score"}) == 3
    buckets = [value("crossrank_page_candidates_bucket", {"le": le}) for le in ("1.0", "10.0")]
    assert buckets == [1, 2]
    assert value("crossrank_page_candidates_sum") == 22
    assert value("crossrank_in_flight") == 0
    assert value("crossrank_products") == tiny_reranker.products.size
    served = {family.name: family for family in metrics.collect()}["crossrank_bundle"].samples
    bundle_id = tiny_reranker.bundle.manifest.bundle_id
    assert [sample.labels["bundle_id"] for sample in served] == [bundle_id]
    assert (value("process_resident_memory_bytes") or 0) > 1e6


async def test_a_challenger_is_seen_while_it_is_tried_and_not_after(
    serving, tiny_reranker, other_folders
):
    metrics = Metrics()
    store = BundleStore(tiny_reranker, Reranker.open)
    running = await serving(store, doors=Doors(metrics=metrics))
    value = metrics.registry().get_sample_value
    name = "crossrank_challenger_pages_total"
    store.load(other_folders.bundle, other_folders.products)
    challenger = store.bundles.challenger
    assert challenger is not None
    tried = {"bundle_id": challenger.bundle_id}
    assert value(name, tried | {"role": "canary", "outcome": "ranked"}) == 0
    assert value("crossrank_challenger_rank_agreement", tried) is None
    store.divert(canary_percent=100, shadow=False)
    page = pb.RerankRequest(candidate_ids=["milk-1", "dog-1"], shopper_id="s")
    await running.stub.Rerank(page)
    await settled(metrics)
    assert value(name, tried | {"role": "canary", "outcome": "ranked"}) == 1
    store.divert(canary_percent=0, shadow=True)
    await running.stub.Rerank(page)
    shadow = tried | {"role": "shadow", "outcome": "ranked"}
    for _ in range(500):
        if value(name, shadow):
            break
        await asyncio.sleep(0.01)
    assert value(name, shadow) == 1
    # the other bundle's order is the opposite one
    assert value("crossrank_challenger_rank_agreement", tried) == -1
    assert value("crossrank_challenger_same_first_share", tried) == 0
    slow = tried | {"bundle": "challenger", "quantile": "0.99"}
    assert (value("crossrank_challenger_shadow_seconds", slow) or 0) > 0
    store.promote()
    assert value(name, shadow) is None


async def test_degraded_pages_are_counted_by_reason(serving, tiny_reranker):
    metrics = Metrics()
    broken = with_scorer(tiny_reranker, FailingScorer(ValueError("x")))
    running = await serving(broken, doors=Doors(metrics=metrics))
    await running.stub.Rerank(pb.RerankRequest(candidate_ids=["a"]))
    await settled(metrics)
    value = metrics.registry().get_sample_value
    assert value("crossrank_degraded_total", {"reason": "scorer_failed"}) == 1
    assert value("crossrank_page_seconds_count") == 1
    assert value("crossrank_stage_seconds_count", {"stage": "score"}) == 0


async def test_calls_in_flight_are_seen_while_they_are(serving, tiny_reranker):
    metrics = Metrics()
    scorer = SlowScorer(0.2)
    running = await serving(with_scorer(tiny_reranker, scorer), doors=Doors(metrics=metrics))
    call = asyncio.ensure_future(running.stub.Rerank(pb.RerankRequest(candidate_ids=["a"])))
    await asyncio.to_thread(scorer.began.wait, 2)
    assert metrics.in_flight == 1
    await call
    await settled(metrics)
    assert metrics.in_flight == 0


async def test_candidates_that_wait_are_seen_while_they_do(serving, tiny_reranker):
    metrics = Metrics()
    running = await serving(
        with_scorer(tiny_reranker, SlowScorer(0.3)), doors=Doors(metrics=metrics)
    )
    page = pb.RerankRequest(candidate_ids=["a", "b", "c"])
    calls = [asyncio.ensure_future(running.stub.Rerank(page, timeout=20)) for _ in range(5)]
    value = metrics.registry().get_sample_value
    seen = 0.0
    while seen != 6:  # two workers have a page each and one is next to them, two wait
        assert not all(call.done() for call in calls)
        await asyncio.sleep(0.005)
        seen = value("crossrank_queued_candidates") or 0.0
    await asyncio.gather(*calls)
    assert value("crossrank_queued_candidates") == 0


async def test_the_newest_trace_is_the_exemplar_in_openmetrics_only(serving, tiny_reranker):
    metrics = Metrics()
    running = await serving(tiny_reranker, doors=Doors(metrics=metrics))
    metadata = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)
    await running.stub.Rerank(pb.RerankRequest(candidate_ids=["a"]), metadata=metadata)
    await settled(metrics)
    text = generate_openmetrics(metrics.registry()).decode()
    exemplars = [
        sample.exemplar
        for family in text_string_to_metric_families(text)
        if family.name == "crossrank_page_seconds"
        for sample in family.samples
        if sample.exemplar
    ]
    assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": TRACE}]
    assert TRACE not in generate_latest(metrics.registry()).decode()


def test_no_scorer_call_of_any_thread_is_lost():
    metrics = Metrics()
    scorer = MeasuredScorer(ConstantScorer(0.5), metrics)
    threads = [
        threading.Thread(target=lambda: [scorer.score([]) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.registry().get_sample_value("crossrank_scorer_call_pages_count") == 2_000
    assert (scorer.provider, scorer.threads) == ("CPUExecutionProvider", 1)


@pytest.mark.parametrize("reason", ["UNAUTHENTICATED", "RESOURCE_EXHAUSTED"])
def test_a_refusal_is_counted(reason):
    metrics = Metrics()
    metrics.count_refused(reason)
    labels = {"reason": reason}
    assert metrics.registry().get_sample_value("crossrank_refused_total", labels) == 1
