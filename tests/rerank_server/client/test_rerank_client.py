"""The synchronous client against real servers: answers, deadlines, retries and fallbacks."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rerank_server.client.connection import Connection
from rerank_server.client.messages import CallError
from rerank_server.client.rerank_client import RerankClient
from rerank_server.contract.errors import PageError
from rerank_server.page import SearchPage, ShopperHistory
from tests.rerank_server.client.processes import ServerProcess
from tests.rerank_server.tiny_bundle import NOW

PAGE = SearchPage(["dog-1", "milk-2", "milk-1"], retrieval_scores=[3.0, 2.0, 1.0], time=NOW)


@pytest.fixture(scope="module")
def server(tiny_folders):
    process = ServerProcess(tiny_folders)
    yield process
    process.kill()


@pytest.fixture
def client(server):
    with RerankClient(Connection(server.address, timeout_ms=10_000)) as made:
        yield made


def test_the_answer_is_that_of_the_reranker_in_process(client, tiny_reranker):
    page = SearchPage(
        ["dog-1", "milk-2", "milk-1"],
        retrieval_scores=[3.0, float("nan"), 1.0],
        query="milk",
        surface="promotion",
        time=NOW,
        place="store 1",
        shopper_id="7",
        history=ShopperHistory(["milk-1"], [NOW - 100], ["purchase"], ["store 1"], [True]),
        objective_weights={"purchase": 0.25, "trial": 0.75},
        explain=True,
        top_k=2,
    )
    ranked = tiny_reranker.rerank(page)
    answer = client.rerank(page)
    assert not answer.degraded
    assert answer.answered
    assert answer.candidate_ids == tuple(ranked.candidate_ids)
    np.testing.assert_array_equal(answer.retrieval_ranks, ranked.retrieval_ranks)
    np.testing.assert_array_equal(answer.scores, ranked.scores)
    assert list(answer.probabilities) == list(ranked.objectives)
    for column, values in enumerate(answer.probabilities.values()):
        np.testing.assert_array_equal(values, ranked.probabilities[:, column])
    assert answer.explanations.keys() == ranked.explanations.keys()
    assert answer.bundle_id == ranked.bundle_id
    assert 0 < answer.server_us <= answer.round_trip_us
    assert answer.stages_us["score"] > 0


def test_the_status_is_what_the_bundle_says(client, tiny_bundle):
    status = client.status()
    assert status.bundle_id == tiny_bundle.manifest.bundle_id
    assert status.objectives == ("purchase", "trial")
    assert status.products == 5
    assert status.challenger is None


def test_one_client_serves_many_threads(client):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.rerank(PAGE), range(64)))
    assert {answer.candidate_ids for answer in answers} == {answers[0].candidate_ids}
    assert not any(answer.degraded for answer in answers)


def test_nobody_there_is_retrieval_order_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with RerankClient(Connection(f"localhost:{port}", timeout_ms=5_000)) as client:
        began = time.monotonic()
        answer = client.rerank(PAGE)
        took_s = time.monotonic() - began
    assert answer.degraded_reason == "unavailable"
    assert f"localhost:{port}: got unavailable" in answer.degraded_detail
    assert answer.candidate_ids == tuple(PAGE.candidate_ids)
    assert answer.retrieval_ranks.tolist() == [0, 1, 2]
    assert not answer.answered
    assert took_s < 4
    assert client.fallbacks.by_reason() == {"unavailable": 1}


def test_a_server_that_never_speaks_costs_the_deadline_and_no_more():
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with RerankClient(Connection(address, timeout_ms=300)) as client:
            began = time.monotonic()
            answer = client.rerank(PAGE)
            took_s = time.monotonic() - began
    assert answer.degraded_reason == "deadline_exceeded"
    assert 0.25 < took_s < 10


def test_top_k_holds_in_retrieval_order_too():
    page = SearchPage(["a", "b", "c"], top_k=2)
    with RerankClient(Connection("localhost:1")) as client:
        assert client.rerank(page).candidate_ids == ("a", "b")


def test_a_server_killed_during_a_call_is_retrieval_order_long_before_the_deadline(
    server_process,
):
    server = server_process(seconds=20)
    with RerankClient(Connection(server.address, timeout_ms=15_000)) as client:
        client.status()
        threading.Timer(0.3, server.process.send_signal, [signal.SIGKILL]).start()
        began = time.monotonic()
        answer = client.rerank(PAGE)
        took_s = time.monotonic() - began
    assert answer.degraded_reason == "unavailable"
    assert answer.candidate_ids == tuple(PAGE.candidate_ids)
    assert 0.2 < took_s < 12


def test_a_page_that_was_under_way_goes_to_the_server_that_is_left(server_process):
    slow, quick = server_process(seconds=20), server_process()
    target = f"ipv4:127.0.0.1:{slow.port},127.0.0.1:{quick.port}"
    with RerankClient(Connection(target, timeout_ms=15_000)) as client:
        for _ in range(4):  # until both are connected; the slow one may take one of these
            client.status()
        threading.Timer(0.5, slow.process.send_signal, [signal.SIGKILL]).start()
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: client.rerank(PAGE), range(8)))
    assert not [answer.degraded_detail for answer in answers if answer.degraded]


def test_a_restarted_server_is_found_again(server_process):
    server = server_process()
    with RerankClient(Connection(server.address, timeout_ms=2_000)) as client:
        assert not client.rerank(PAGE).degraded
        server.kill()
        assert client.rerank(PAGE).degraded
        server_process(port=server.port)
        deadline = time.monotonic() + 10
        while client.rerank(PAGE).degraded:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_server_in_time_says_itself_that_it_is_late(server_process):
    server = server_process(seconds=1)
    with RerankClient(Connection(server.address, timeout_ms=10_000)) as client:
        client.status()
        answer = client.rerank(PAGE, timeout_ms=400)
    assert answer.degraded_reason in {"deadline", "deadline_exceeded"}
    assert answer.candidate_ids == tuple(PAGE.candidate_ids)


def test_what_the_server_refuses_is_retrieval_order_or_an_error_by_choice(client):
    page = SearchPage(["a", "b"], objective_weights={"sale": 1.0})
    answer = client.rerank(page)
    assert answer.degraded_reason == "invalid_argument"
    assert "objective_weights: got 'sale'" in answer.degraded_detail
    with pytest.raises(CallError, match="objective_weights: got 'sale'") as refused:
        client.ask(page)
    assert refused.value.status == "invalid_argument"


def test_texts_and_unknown_event_kinds_are_refused_before_they_are_sent(client):
    with pytest.raises(PageError, match="texts: got some, want none over gRPC"):
        client.rerank(SearchPage(["a"], texts=["milk"]))
    history = ShopperHistory(["a"], [NOW], ["purchased"])
    with pytest.raises(PageError, match="nearest: purchase"):
        client.rerank(SearchPage(["a"], history=history))
