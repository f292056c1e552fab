"""What fails around the gateway, on a real Elasticsearch: no search fails through it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from elasticsearch import Elasticsearch

from rerank_server.gateway.settings import GatewaySettings
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from tests.rerank_server.gateway.fake_rankers import wrong_server
from tests.rerank_server.gateway.running import Caller, gateway
from tests.rerank_server.gateway.shop import PRODUCTS

pytestmark = pytest.mark.elasticsearch

BODY = {"query": {"match": {"text": "milk"}}, "size": 5}
ASKING = {**BODY, "ext": {"rerank": {"window": 30, "timeout_ms": 300}}}


@pytest.fixture(scope="module")
def wrong(shop_url):
    """A gateway before a rerank server that is told how to fail."""
    with wrong_server() as (address, service):
        settings = GatewaySettings(elasticsearch=shop_url, reranker=address, port=0)
        with gateway(settings) as running:
            caller = Caller(running.url)
            yield caller, service, running
            caller.close()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("fewer", "wrong_answer"),
        ("more", "wrong_answer"),
        ("unknown", "wrong_answer"),
        ("twice", "wrong_answer"),
        ("nan", "wrong_answer"),
        ("slow", "deadline"),
        ("failing", "failed"),
        ("overloaded", "overloaded"),
    ],
)
def test_a_wrong_or_late_reranker_gives_elasticsearchs_own_answer(wrong, bare, fault, reason):
    caller, service, _ = wrong
    own = bare.search(PRODUCTS, BODY).json
    service.fault = ""
    assert caller.search(PRODUCTS, ASKING).rerank["status"] == "reranked"
    service.fault = fault
    answer = caller.search(PRODUCTS, ASKING)
    assert answer.status == 200
    assert (answer.rerank["status"], answer.rerank["reason"]) == ("degraded", reason)
    assert answer.rerank["detail"]
    assert answer.headers["X-Rerank-Status"] == f"degraded; reason={reason}"
    assert answer.json["hits"] == own["hits"]


def test_a_reranker_that_fails_again_and_again_is_not_waited_for(wrong):
    caller, service, _ = wrong
    service.fault = "slow"
    reasons = []
    for _ in range(8):
        began = time.monotonic()
        reasons.append(caller.search(PRODUCTS, ASKING).rerank["reason"])
        if reasons[-1] == "circuit_open":
            assert time.monotonic() - began < 0.3 + 2.0
    assert "circuit_open" in reasons
    service.fault = ""
    deadline = time.monotonic() + 15
    while caller.search(PRODUCTS, ASKING).rerank["status"] != "reranked":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_places_of_hidden_products_stay_open_so_that_later_pages_begin_where_they_would(
    wrong, bare
):
    caller, service, _ = wrong
    service.fault = "hiding"
    own = bare.search(PRODUCTS, {**BODY, "size": 40}).ids
    first = caller.search(PRODUCTS, {**ASKING, "size": 30})
    assert first.rerank["status"] == "reranked"
    assert first.ids == own[3:30][::-1]
    across = caller.search(PRODUCTS, {**ASKING, "from": 25, "size": 10})
    assert across.ids == [*own[3:30][::-1][25:], *own[30:35]]
    service.fault = ""


@pytest.mark.parametrize(("first", "then"), [("", "failing"), ("failing", "")])
def test_further_pages_continue_the_first_whatever_the_reranker_does(wrong, bare, first, then):
    caller, service, _ = wrong
    own = bare.search(PRODUCTS, {**BODY, "size": 20}).ids

    def page(start):
        named = {"window": 20, "session_id": f"after {first}", "timeout_ms": 2_000}
        return caller.search(PRODUCTS, {**BODY, "from": start, "ext": {"rerank": named}}).ids

    service.fault = first
    ids = page(0)
    service.fault = then
    ids += [*page(5), *page(10), *page(15)]
    service.fault = ""
    assert ids == (own if first else own[::-1])
    assert page(0) == own[::-1][:5]  # the first page is ranked anew


def test_the_shoppers_events_come_from_the_stream_and_then_from_memory(wrong, shop_url):
    caller, service, running = wrong
    service.fault = ""
    with Elasticsearch(shop_url) as client:
        client.options(ignore_status=404).indices.delete(index="ubi_events")
        client.indices.create(
            index="ubi_events",
            mappings={
                "properties": {
                    "client_id": {"type": "keyword"},
                    "action_name": {"type": "keyword"},
                    "timestamp": {"type": "date"},
                }
            },
        )
        for number, (name, action) in enumerate(
            [("ann", "click"), ("ann", "purchase"), ("bob", "click"), ("ann", "scrolled")]
        ):
            client.index(
                index="ubi_events",
                refresh=True,
                document={
                    "client_id": name,
                    "action_name": action,
                    "timestamp": f"2026-01-0{number + 1}T00:00:00Z",
                    "event_attributes": {"object": {"object_id": f"p{number}"}},
                },
            )
        asking = {**BODY, "ext": {"rerank": {"shopper_id": "ann", "timeout_ms": 2_000}}}
        try:
            sources = []
            for _ in range(20):
                answer = caller.search(PRODUCTS, asking)
                (record,) = running.records.of(answer.rerank["query_id"])
                sources.append(record.history_source)
                if sources[-1] == "cache":
                    break
                time.sleep(0.1)
            assert sources[-1] == "cache"
            history = service.requests[-1].history
            assert list(history.product_ids) == ["p1", "p0"]
            assert list(history.kinds) == [pb.EVENT_KIND_PURCHASE, pb.EVENT_KIND_CLICK]
            assert list(history.times) == [1_767_312_000, 1_767_225_600]
            sent = {"product_id": "p7", "time": 5}
            own = {**BODY, "ext": {"rerank": {"shopper_id": "ann", "history": [sent]}}}
            caller.search(PRODUCTS, own)
            assert list(service.requests[-1].history.product_ids) == ["p7"]
        finally:
            client.indices.delete(index="ubi_events")


def test_an_elasticsearch_that_refuses_by_its_circuit_breaker_says_so_itself(wrong, bare, shop_url):
    caller, service, running = wrong
    service.fault = ""
    counted = {"aggs": {"c": {"terms": {"field": "category"}}}}
    limit = "indices.breaker.request.limit"  # of aggregations; requests for settings pass
    with Elasticsearch(shop_url) as client:
        client.cluster.put_settings(persistent={limit: "0%"})
        try:
            own = bare.search(PRODUCTS, {**BODY, **counted})
            named = {"rerank": {"query_id": "refused"}}
            answer = caller.search(PRODUCTS, {**BODY, **counted, "ext": named})
        finally:
            client.cluster.put_settings(persistent={limit: None})
    assert own.status == answer.status == 429
    assert answer.json["error"]["type"] == own.json["error"]["type"]
    (record,) = running.records.of("refused")
    assert (record.elasticsearch_status, record.degraded_reason) == (429, "elasticsearch_refused")


def test_a_missing_index_and_a_block_are_answered_by_elasticsearch(wrong, bare, shop_url):
    caller, _, _ = wrong
    own, answer = bare.search("no-such-index", BODY), caller.search("no-such-index", ASKING)
    assert (answer.status, answer.body) == (own.status, own.body)
    assert answer.status == 404
    block = {"index.blocks.read_only_allow_delete": True}
    with Elasticsearch(shop_url) as client:
        client.indices.put_settings(index=PRODUCTS, settings=block)
        try:
            put = f"/{PRODUCTS}/_doc/new"
            assert caller.send("PUT", put, {"id": "new"}).status in {403, 429}
            assert caller.search(PRODUCTS, ASKING).rerank["status"] == "reranked"
        finally:
            client.indices.put_settings(index=PRODUCTS, settings={next(iter(block)): None})


def test_a_node_that_is_down_is_passed_over(shop_url, reranker_address):
    nodes = f"http://127.0.0.1:9,{shop_url}"
    settings = GatewaySettings(elasticsearch=nodes, reranker=reranker_address, port=0)
    with gateway(settings) as running:
        caller = Caller(running.url)
        for _ in range(3):
            assert caller.search(PRODUCTS, ASKING).status == 200
            assert caller.send("HEAD", f"/{PRODUCTS}").status == 200
        created = caller.send("PUT", "/crossrank-bare/_doc/passed-over", {"text": "rice"})
        assert created.status == 201
        caller.close()


@contextlib.contextmanager
def process(*arguments: str, wait_for: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A program of ours; gives it and the address that its log names."""
    started = subprocess.Popen(
        [sys.executable, "-m", "rerank_server", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={name: text for name, text in os.environ.items() if not name.startswith("RERANK_")},
    )
    try:
        assert started.stderr is not None
        for line in started.stderr:
            if found := re.search(wait_for.encode(), line):
                address = found[1].decode()
                break
        else:
            pytest.fail(f"{arguments}: ended without a line like {wait_for}")
        draining = threading.Thread(target=started.stderr.read, daemon=True)
        draining.start()
        yield started, address
        started.send_signal(signal.SIGCONT)
        started.kill()
        started.wait(10)
        draining.join(10)
    finally:
        started.kill()
        started.wait(10)
        if started.stderr is not None:
            started.stderr.close()


@pytest.mark.slow
def test_a_reranker_paused_and_killed_in_traffic_loses_no_search(shop_url, bare, other_folders):
    own = bare.search(PRODUCTS, BODY).ids
    serve = ("serve", "--bundle", str(other_folders.bundle), "--products")
    with process(
        *serve, str(other_folders.products), "--port", "0", wait_for=r'"address": "([^"]+:\d+)"'
    ) as (server, address):
        _wait_for_server(address)
        settings = GatewaySettings(elasticsearch=shop_url, reranker=address, port=0)
        with gateway(settings) as running:
            caller = Caller(running.url)
            asking = {**BODY, "ext": {"rerank": {"timeout_ms": 1_000}}}
            assert caller.search(PRODUCTS, asking).rerank["status"] == "reranked"
            server.send_signal(signal.SIGSTOP)
            paused = [caller.search(PRODUCTS, ASKING) for _ in range(7)]
            server.send_signal(signal.SIGCONT)
            assert {answer.rerank["reason"] for answer in paused} == {"deadline", "circuit_open"}
            assert all(answer.ids == own for answer in paused)
            server.kill()
            killed = [caller.search(PRODUCTS, ASKING) for _ in range(5)]
            assert {answer.rerank["status"] for answer in killed} == {"degraded"}
            assert all(answer.ids == own for answer in killed)
            caller.close()


def _wait_for_server(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        RerankServiceStub(channel).GetServerStatus(
            pb.GetServerStatusRequest(), timeout=30, wait_for_ready=True
        )


@pytest.mark.slow
def test_a_gateway_killed_under_load_harms_nobody_but_its_callers(shop_url, bare):
    flags = ("--elasticsearch", shop_url, "--reranker", "127.0.0.1:9", "--port")
    listens = r'gateway listens.*"address": "127.0.0.1:(\d+)"'
    outcomes: list[int | str] = []
    with process("gateway", *flags, "0", wait_for=listens) as (killed, port):
        stop = threading.Event()
        threads = [
            threading.Thread(target=_hammer, args=(f"http://127.0.0.1:{port}", stop, outcomes))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while outcomes.count(200) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        killed.kill()
        killed.wait(10)
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join(30)
    assert set(outcomes) == {200, "closed"}
    assert bare.search(PRODUCTS, BODY).status == 200
    with process("gateway", *flags, port, wait_for=listens) as (again, _):
        caller = Caller(f"http://127.0.0.1:{port}")
        assert caller.search(PRODUCTS, BODY).status == 200
        caller.close()
        again.send_signal(signal.SIGTERM)
        assert again.wait(20) == 0


def _hammer(url: str, stop: threading.Event, outcomes: list[int | str]) -> None:
    while not stop.is_set():
        caller = Caller(url)
        try:
            while not stop.is_set():
                outcomes.append(caller.search(PRODUCTS, ASKING).status)
        except (OSError, http.client.HTTPException):
            outcomes.append("closed")
            time.sleep(0.02)
        finally:
            caller.close()
