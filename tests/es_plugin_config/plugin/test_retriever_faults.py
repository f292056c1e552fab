"""What a search answers when the server is dead, stuck, slow, wrong, or not let in."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from rerank_server.pb import rerank_pb2 as pb
from tests.es_plugin_config.plugin.conftest import call
from tests.es_plugin_config.plugin.plugin_nodes import Answer, PluginNode
from tests.es_plugin_config.plugin.rerank_servers import RealServer, backwards, told_server
from tests.es_plugin_config.plugin.test_retriever import MILK, rerank
from tests.rerank_server.token_files import write_tokens

pytestmark = [pytest.mark.slow, pytest.mark.elasticsearch]

GONE = "127.0.0.1:9"  # discard, where nobody listens


@pytest.fixture(scope="module")
def retrieved(first_node: PluginNode) -> list[str]:
    """What a page shows that is not reranked: the order of the plain query."""
    call(first_node, "")
    ids = first_node.search(rerank(), size=10).ids
    plain = {"query": MILK["standard"]["query"], "size": 40, "explain": False}
    hits = first_node.call("POST", "/groceries/_search", plain).body["hits"]["hits"]
    scores = {hit["_id"]: hit["_score"] for hit in hits}
    assert [scores[id_] for id_ in ids] == sorted(scores.values(), reverse=True)[:10]
    return ids


def degraded(answer: Answer, reason: str, ids: list[str]) -> bool:
    return (
        answer.status == 200
        and answer.page.startswith(f"degraded; reason={reason}; ")
        and answer.ids == ids
    )


def test_a_dead_server_leaves_retrieval_order(first_node, retrieved):
    call(first_node, GONE)
    answer = first_node.search(rerank(), size=10, explain=True)
    assert degraded(answer, "unavailable", retrieved), answer
    assert "cross_rerank: degraded: unavailable, rank [1]" in json.dumps(answer.body)


def test_no_address_leaves_retrieval_order(first_node, retrieved):
    call(first_node, "")
    assert degraded(first_node.search(rerank(), size=10), "not_configured", retrieved)
    assert not first_node.stats()["configured"]


def test_a_server_killed_in_mid_query_leaves_retrieval_order(first_node, real, retrieved):
    first_node.search(rerank())  # connects
    real.pause()
    with ThreadPoolExecutor(1) as pool:
        search = pool.submit(first_node.search, rerank(), size=10)
        time.sleep(1)
        assert not search.done()
        real.kill()
        answer = search.result(30)
    assert degraded(answer, "unavailable", retrieved), answer


def test_a_paused_server_costs_no_more_than_the_deadline(first_node, real, retrieved):
    first_node.search(rerank())
    real.pause()
    answer = first_node.search(rerank(deadline="150ms"), size=10)
    assert degraded(answer, "deadline", retrieved), answer
    took_ms = int(answer.page.split("took_ms=")[1].split(";")[0])
    assert 150 <= took_ms < 5_000
    real.go_on()
    assert first_node.search(rerank()).page.startswith("reranked")


def test_a_slow_server_holds_no_thread_of_elasticsearch(first_node, told):
    free = threading.Event()

    def slow(page, context):
        free.wait(60)
        return backwards(page, context)

    told.answering = slow
    with ThreadPoolExecutor(8) as pool:
        try:
            slow_ones = [pool.submit(first_node.search, rerank()) for _ in range(8)]
            deadline = time.monotonic() + 20
            while first_node.stats()["in_flight"] < 8 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert first_node.stats()["in_flight"] == 8
            pools = first_node.call("GET", "/_nodes/_local/stats/thread_pool").body["nodes"]
            (node,) = [it["thread_pool"] for it in pools.values()]
            assert node["search"]["active"] == node["search_coordination"]["active"] == 0
            assert not any(search.done() for search in slow_ones)
        finally:
            free.set()
        assert all(search.result(60).page.startswith("reranked") for search in slow_ones)


@pytest.mark.parametrize("change", ["fewer", "more", "unknown", "twice", "not finite", "unscored"])
def test_an_answer_that_does_not_fit_is_not_shown(first_node, told, retrieved, change):
    def wrong(page, context):
        answer = backwards(page, context)
        if change == "fewer":
            del answer.candidate_ids[-1], answer.scores[-1]
        elif change == "more":
            answer.candidate_ids.append("one-more")
            answer.scores.append(0.0)
        elif change == "unknown":
            answer.candidate_ids[3] = "unknown"
        elif change == "twice":
            answer.candidate_ids[3] = answer.candidate_ids[4]
        elif change == "not finite":
            answer.scores[0] = float("nan")
        else:
            del answer.scores[:]
        return answer

    told.answering = wrong
    assert degraded(first_node.search(rerank(), size=10), "wrong_answer", retrieved)


def test_a_page_that_the_server_degraded_has_its_reason(first_node, told, retrieved):
    told.answering = lambda page, _: pb.RerankResponse(
        candidate_ids=page.candidate_ids,
        degraded=True,
        degraded_reason=pb.DEGRADED_REASON_SCORER_FAILED,
        degraded_detail="no memory",
    )
    answer = first_node.search(rerank(), size=10)
    assert degraded(answer, "scorer_failed", retrieved)
    assert 'detail="server: no memory"' in answer.page


def test_a_page_that_the_server_refuses_says_why(first_node, real, retrieved):
    answer = first_node.search(rerank(objectives={"joy": 1}), size=10)
    assert degraded(answer, "refused_page", retrieved), answer
    assert "joy" in answer.page
    answer = first_node.search(rerank(id_field="nothing"), size=10)
    assert degraded(answer, "no_product_ids", retrieved)


def test_no_search_fails_while_the_server_dies_under_load_and_comes_back(first_node, real):
    call(first_node, real.address, breaker__failures=5, breaker__pause="500ms")
    before = first_node.stats()["pages"]

    killed = threading.Event()

    def some(_: int):
        answers, after = [], 15
        while after:
            after -= killed.is_set()
            answers.append(first_node.search(rerank(), size=10))
        return answers

    with ThreadPoolExecutor(4) as pool:
        running = pool.map(some, range(4))
        time.sleep(0.5)
        real.kill()
        killed.set()
        answers = [answer for part in running for answer in part]
    assert {answer.status for answer in answers} == {200}
    assert all(len(answer.ids) == 10 for answer in answers)
    words = {answer.page.split(";")[0] for answer in answers}
    assert "degraded" in words
    after = first_node.stats()["pages"]
    counted = after["reranked"] - before["reranked"]
    counted += sum(after["degraded"].values()) - sum(before["degraded"].values())
    assert counted == len(answers) >= 60
    assert first_node.stats()["circuit_open"]
    assert first_node.search(rerank()).page.startswith("degraded")
    real.restart()
    deadline = time.monotonic() + 30
    while first_node.search(rerank()).page.startswith("degraded"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not first_node.stats()["circuit_open"]


def test_calls_beyond_the_limit_are_not_made(first_node, told, retrieved):
    call(first_node, told.address, max_in_flight=1)
    free = threading.Event()

    def slow(page, context):
        free.wait(60)
        return backwards(page, context)

    told.answering = slow
    with ThreadPoolExecutor(1) as pool:
        try:
            held = pool.submit(first_node.search, rerank())
            assert told.began.wait(20)
            assert degraded(first_node.search(rerank(), size=10), "overloaded", retrieved)
        finally:
            free.set()
        assert held.result(60).page.startswith("reranked")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"address": "reranker"}, "want host:port"),
        ({"address": "http://reranker:1"}, "want host:port"),
        ({"deadline": "11s"}, "must be <= [10s]"),
        (
            {"address": GONE, "tls__enabled": True, "tls__certificate_authorities": "no.pem"},
            "no.pem",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(first_node, settings, said):
    answer = first_node.set(**settings)
    assert answer.status == 400
    assert said in json.dumps(answer.body)


def test_tls_and_token_let_the_node_in_and_nothing_else_does(
    first_node, tiny_folders, tmp_path, retrieved
):
    authority, stranger = trustme.CA(), trustme.CA()
    for name, signer in (("ca.pem", authority), ("stranger.pem", stranger)):
        _write_for_the_node(first_node, name, signer)
    certificate, key = _issue(authority, tmp_path)
    (token,) = write_tokens(tmp_path / "tokens.toml", "node")
    files = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    server = RealServer(*tiny_folders, *files, "--tokens", str(tmp_path / "tokens.toml"))

    def searched(**settings: object) -> Answer:
        call(first_node, server.address, **settings)
        answer: Answer = first_node.search(rerank(), size=10)
        return answer

    secure = {"tls__enabled": True, "tls__certificate_authorities": "ca.pem"}
    other = secure | {"tls__certificate_authorities": "stranger.pem"}
    try:
        assert degraded(searched(), "unavailable", retrieved)
        assert degraded(searched(**other), "unavailable", retrieved)
        assert degraded(searched(**secure), "unauthenticated", retrieved)
        first_node.keystore("add", "--stdin", "--force", "crossrank.token", given=token)
        assert first_node.call("POST", "/_nodes/reload_secure_settings").status == 200
        assert first_node.search(rerank()).page.startswith("reranked")
    finally:
        server.kill()


def test_an_expired_certificate_leaves_retrieval_order(first_node, tmp_path, retrieved):
    authority = trustme.CA()
    _write_for_the_node(first_node, "expired-ca.pem", authority)
    files = _issue(authority, tmp_path, not_after=datetime.now(UTC) - timedelta(days=1))
    with told_server(files) as server:
        secure = {"tls__enabled": True, "tls__certificate_authorities": "expired-ca.pem"}
        call(first_node, server.address, **secure)
        answer = first_node.search(rerank(), size=10)
    assert degraded(answer, "unavailable", retrieved), answer
    assert "expired" in answer.page or "validity" in answer.page, answer.page


def _write_for_the_node(node: PluginNode, name: str, authority: trustme.CA) -> None:
    file = node.node.run / "config" / name
    authority.cert_pem.write_to_path(file)
    file.chmod(0o644)


def _issue(
    authority: trustme.CA, folder: Path, not_after: datetime | None = None
) -> tuple[Path, Path]:
    """Files of a certificate for this machine and of its key."""
    issued = authority.issue_cert("localhost", "127.0.0.1", not_after=not_after)
    certificate, key = folder / "server.pem", folder / "server.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return certificate, key
