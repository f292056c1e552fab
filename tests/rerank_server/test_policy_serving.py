"""A policy in a reranker and on the wire; degraded pages too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from rerank_server.page import DegradedReason, SearchPage
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.policy_parse import parse_policy
from rerank_server.reranker import Reranker
from rerank_server.scorer import ScorerError
from tests.rerank_server.scorers import FailingScorer, SlowScorer, with_scorer
from tests.rerank_server.tiny_bundle import NOW

IDS = ["dog-1", "milk-2", "milk-1", "never-seen"]
RULES = """
    [[hide]]
    name = "no dogs"
    categories = ["pet"]
    [[boost]]
    name = "acme"
    brands = ["Acme"]
    multiply = 2.0
    [[pin]]
    name = "new"
    products = ["never-seen"]
    position = 1
"""


@pytest.fixture
def ruled(tiny_folders) -> Reranker:
    reranker = Reranker.open(tiny_folders.bundle, tiny_folders.products, threads=1)
    reranker.policy = reranker.compile_policy(parse_policy(RULES))
    return reranker


def test_a_policy_without_rules_changes_nothing(tiny_reranker, ruled):
    ruled.policy = ruled.compile_policy(parse_policy(""))
    plain = tiny_reranker.rerank(SearchPage(IDS, time=NOW))
    got = ruled.rerank(SearchPage(IDS, time=NOW))
    assert got.candidate_ids == plain.candidate_ids
    np.testing.assert_array_equal(got.scores, plain.scores)


def test_the_rules_act_on_the_scores_of_the_page(tiny_reranker, ruled):
    plain = tiny_reranker.rerank(SearchPage(IDS, time=NOW))
    score = dict(zip(plain.candidate_ids, plain.scores.tolist(), strict=True))
    got = ruled.rerank(SearchPage(IDS, time=NOW, explain=True))
    assert set(got.candidate_ids) == {"milk-1", "milk-2", "never-seen"}
    assert got.candidate_ids[0] == "never-seen"
    assert [IDS[rank] for rank in got.retrieval_ranks] == got.candidate_ids
    now = dict(zip(got.candidate_ids, got.scores.tolist(), strict=True))
    assert now["milk-1"] == pytest.approx(2 * score["milk-1"])
    assert now["milk-2"] == score["milk-2"]
    assert got.probabilities.shape == (3, 2)
    assert {values.shape for values in got.explanations.values()} == {(3,)}
    assert got.policy_trace is None


def test_rules_on_categories_reach_unknown_products_of_a_category_page(ruled):
    shown = ruled.rerank(SearchPage(IDS, time=NOW, category="pet")).candidate_ids
    assert shown == ["milk-1", "milk-2"]


@pytest.mark.parametrize("top_k", [None, 2])
def test_a_page_in_retrieval_order_hides_all_the_same(ruled, top_k):
    broken = with_scorer(ruled, FailingScorer(ScorerError("gone")))
    broken.policy = ruled.policy
    got = broken.rerank(SearchPage(IDS, time=NOW, top_k=top_k, policy_trace=True))
    assert got.degraded_reason is DegradedReason.SCORER_FAILED
    assert got.candidate_ids == ["milk-2", "milk-1", "never-seen"][:top_k]
    assert got.retrieval_ranks.tolist() == [1, 2, 3][:top_k]
    assert got.policy_trace is None


def test_every_candidate_may_be_hidden(ruled):
    got = ruled.rerank(SearchPage(["dog-1"], time=NOW, policy_trace=True))
    assert got.candidate_ids == []
    assert got.policy_trace is not None
    assert got.policy_trace.hidden == 1


async def test_the_trace_comes_over_the_wire_when_asked_for(serving, ruled):
    running = await serving(ruled)
    request = pb.RerankRequest(candidate_ids=IDS, time=NOW, policy_trace=True)
    response = await running.stub.Rerank(request)
    trace = response.policy_trace
    assert trace.policy_version == ruled.policy.version
    assert trace.hidden == 1
    assert list(trace.rules) == ["new", "no dogs", "acme"]
    assert list(trace.shortfalls) == [0, 0, 0]
    # the pin, the hidden dog, and what is of Acme, the hidden dog among it
    assert list(trace.rule_indexes) == [0, 1, 2, 2]
    assert list(trace.retrieval_ranks) == [3, 0, 0, 2]
    assert list(trace.ranks_after) == [0, -1, -1, 1]
    request.policy_trace = False
    assert not (await running.stub.Rerank(request)).HasField("policy_trace")
    status = await running.stub.GetServerStatus(pb.GetServerStatusRequest())
    assert status.policy_version == ruled.policy.version


async def test_a_server_without_a_policy_has_no_trace(tiny_server):
    request = pb.RerankRequest(candidate_ids=IDS, policy_trace=True)
    assert not (await tiny_server.stub.Rerank(request)).HasField("policy_trace")
    status = await tiny_server.stub.GetServerStatus(pb.GetServerStatusRequest())
    assert status.policy_version == ""


async def test_a_page_that_is_too_late_hides_all_the_same(serving, ruled):
    slow = with_scorer(ruled, SlowScorer(0.5))
    slow.policy = ruled.policy
    running = await serving(slow, timeout=timedelta(milliseconds=50))
    response = await running.stub.Rerank(pb.RerankRequest(candidate_ids=IDS, time=NOW))
    assert response.degraded_reason == pb.DEGRADED_REASON_DEADLINE
    assert list(response.candidate_ids) == ["milk-2", "milk-1", "never-seen"]


@pytest.mark.slow
async def test_the_command_line_serves_a_policy_and_reads_it_again_on_sighup(
    tiny_folders, tmp_path
):
    path = tmp_path / "policy.toml"
    path.write_text('[[hide]]\nname = "h"\nproducts = ["dog-1"]\n', encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "rerank_server", "serve", "--port", "0", "--policy", str(path)),
        *("--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None

    async def line(message: str) -> dict[str, Any]:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while True:
                fields: dict[str, Any] = json.loads(await process.stderr.readline())
                if fields["message"].startswith(message):
                    return fields

    try:
        await line("serving")
        path.write_text("[[hide", encoding="utf-8")
        os.kill(process.pid, signal.SIGHUP)
        assert "want TOML" in (await line("policy refused"))["reason"]
        path.write_text("# none", encoding="utf-8")
        os.kill(process.pid, signal.SIGHUP)
        assert (await line("policy in use"))["rules"] == 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_server_without_a_policy_outlives_a_reload(tiny_folders):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "rerank_server", "serve", "--port", "0"),
        *("--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while json.loads(await process.stderr.readline())["message"] != "serving":
                pass
        os.kill(process.pid, signal.SIGHUP)
        await asyncio.sleep(0.3)
        assert process.returncode is None
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
