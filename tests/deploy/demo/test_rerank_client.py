from __future__ import annotations

import socket
from datetime import timedelta

import numpy as np
import pytest

from deploy.demo.rerank_client import RerankClient, search_page, wire_signals
from deploy.demo.retrieval.retriever import Retrieved
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.reranker import Reranker
from rerank_server.scorer import ScorerError
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.scorers import FailingScorer, SlowScorer, with_scorer
from tests.rerank_server.tiny_bundle import NOW, write_tiny_bundle, write_tiny_store


@pytest.fixture(scope="module")
def reranker(tmp_path_factory) -> Reranker:
    root = tmp_path_factory.mktemp("tiny")
    bundle = write_tiny_bundle(root / "bundle")
    write_tiny_store(root / "products", bundle, root / "snapshot")
    return Reranker.open(root / "bundle", root / "products", threads=1)


@pytest.fixture
async def connect():
    """Serve a reranker and give a client of it; both end with the test."""
    running = []

    async def start(reranker: Reranker, **options) -> RerankClient:
        server = tiny_rerank_server(reranker)
        port = await server.start("localhost", 0)
        client = RerankClient(f"localhost:{port}", **options)
        running.append((server, client))
        return client

    yield start
    for server, client in running:
        await client.close()
        await server.stop(timedelta(seconds=2))


def page_of_four(*, explain: bool = False) -> SearchPage:
    retrieved = Retrieved(
        ids=("milk-1", "milk-2", "dog-1", "unknown"),
        scores=np.array([4, 3, 2, 1], np.float32),
        signals={
            "promoted": np.array([0, 1, np.nan, 0], np.float32),
            "promotion_display": np.array([0, 3, 0, 0], np.float32),
        },
    )
    history = ShopperHistory(
        product_ids=["dog-1", "dog-1"],
        times=np.array([NOW - 90_000, NOW - 900_000]),
        places=["north", ""],
        discounted=[True, False],
    )
    return search_page(
        retrieved,
        query="milk",
        surface="search",
        category=None,
        place="north",
        time=NOW,
        history=history,
        explain=explain,
    )


async def test_the_wire_gives_the_order_of_the_in_process_reranker(reranker, connect):
    client = await connect(reranker)
    page = page_of_four(explain=True)
    known = {"promoted": page.signals["promoted"]}
    want = reranker.rerank(
        SearchPage(
            candidate_ids=page.candidate_ids,
            retrieval_scores=page.retrieval_scores,
            signals=known,
            query="milk",
            surface="search",
            time=NOW,
            place="north",
            history=page.history,
            explain=True,
        )
    )
    got = await client.rerank(page)
    assert got.degraded_reason == ""
    assert got.ids == tuple(want.candidate_ids)
    assert got.retrieval_ranks == tuple(want.retrieval_ranks.tolist())
    np.testing.assert_array_equal(got.scores, want.scores)
    np.testing.assert_array_equal(got.probabilities["purchase"], want.probabilities[:, 0])
    assert got.explanations.keys() == want.explanations.keys()
    assert got.bundle_id == want.bundle_id
    assert 0 < got.server_us <= got.round_trip_us


async def test_signals_that_the_bundle_does_not_read_are_left_out(reranker, connect):
    client = await connect(reranker)
    assert (await client.status()).signals == ("promoted",)
    assert (await client.rerank(page_of_four())).degraded_reason == ""


def test_a_promotion_code_becomes_a_code_and_a_flag():
    codes = np.array([0, 3, np.nan], np.float32)
    wire = wire_signals({"promotion_display": codes, "store_sales_28d": codes})
    np.testing.assert_array_equal(wire["display_location"], codes)
    np.testing.assert_array_equal(wire["promotion_display"], np.array([0, 1, np.nan]))
    np.testing.assert_array_equal(wire["store_sales_28d"], codes)


async def test_without_a_server_the_page_keeps_retrieval_order():
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        port = unused.getsockname()[1]
        async with RerankClient(f"localhost:{port}", deadline_s=0.3) as client:
            got = await client.rerank(page_of_four())
    assert got.degraded_reason in ("unavailable", "deadline_exceeded")
    assert got.degraded_detail
    assert got.ids == ("milk-1", "milk-2", "dog-1", "unknown")
    assert got.retrieval_ranks == (0, 1, 2, 3)
    assert got.scores.size == 0


async def test_a_late_server_leaves_retrieval_order(reranker, connect):
    client = await connect(with_scorer(reranker, SlowScorer(0.6)), deadline_s=0.2)
    got = await client.rerank(page_of_four())
    assert got.degraded_reason in ("deadline", "deadline_exceeded")
    assert got.ids == ("milk-1", "milk-2", "dog-1", "unknown")
    assert got.round_trip_us < 500_000


async def test_a_failing_scorer_is_named(reranker, connect):
    client = await connect(with_scorer(reranker, FailingScorer(ScorerError("no memory"))))
    got = await client.rerank(page_of_four())
    assert got.degraded_reason == "scorer_failed"
    assert got.retrieval_ranks == (0, 1, 2, 3)
