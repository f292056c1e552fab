"""The retriever with shards on three nodes, and on the newest Elasticsearch 9."""

from __future__ import annotations

import time

import pytest

from tests.es_plugin_config.plugin.conftest import call, fill
from tests.es_plugin_config.plugin.plugin_nodes import installed, joined, plugin_node
from tests.es_plugin_config.plugin.rerank_servers import told_server
from tests.es_plugin_config.plugin.test_retriever import MILK, rerank

pytestmark = [pytest.mark.slow, pytest.mark.elasticsearch]

NEWEST_9 = "9.5.4"


def test_any_of_three_nodes_asks_once_for_the_page_of_all_shards(first_node, told):
    spread = {"number_of_shards": 3, "number_of_replicas": 0}
    index = {"settings": spread | {"index.routing.allocation.total_shards_per_node": 1}}
    with joined(first_node, 2) as second, joined(first_node, 3) as third:
        assert first_node.call("PUT", "/groceries-spread", index).status == 200
        for number in range(12):
            body = {"title": "milk " * (number + 1)}
            first_node.call("PUT", f"/groceries-spread/_doc/{number}", body)
        first_node.call("POST", "/groceries-spread/_refresh")
        shards = first_node.call("GET", "/_cat/shards/groceries-spread?format=json").body
        assert {shard["node"] for shard in shards} == {"node-1", "node-2", "node-3"}
        wanted = None
        for asked in (first_node, second, third):
            told.pages.clear()
            answer = asked.search({"retriever": MILK}, "groceries-spread", size=12, explain=True)
            (page,) = told.pages
            assert answer.page.startswith("reranked"), answer
            assert answer.ids == list(page.candidate_ids)[::-1]
            assert wanted in (None, answer.ids)
            wanted = answer.ids
            for place, hit in enumerate(answer.body["hits"]["hits"], start=1):
                assert f"rank [{place}]" in hit["_explanation"]["description"]
        assert second.stats()["pages"]["reranked"] == 1
        call(first_node, "127.0.0.1:9")
        assert third.search({"retriever": MILK}, "groceries-spread").page.startswith("degraded")
        first_node.call("DELETE", "/groceries-spread")
        time.sleep(0.2)  # for the nodes to hear of it before they leave


def test_the_newest_elasticsearch_9_gives_the_same(told_9):
    node, server = told_9
    answer = node.search(rerank(), size=30, explain=True)
    (page,) = server.pages
    assert answer.page.startswith("reranked; bundle=backwards; took_ms=")
    assert answer.ids == [f"doc-{id_[1:]}" for id_ in reversed(page.candidate_ids)]
    explanation = answer.body["hits"]["hits"][0]["_explanation"]["description"]
    assert "cross_rerank: reranked, rank [1], retrieval rank [30]" in explanation
    counted = node.search(rerank(), size=0, aggs={"prices": {"max": {"field": "price"}}})
    assert counted.body["aggregations"]["prices"]["value"] == 39 / 4
    call(node, "127.0.0.1:9")
    answer = node.search(rerank(), size=10)
    assert answer.page.startswith("degraded; reason=unavailable")
    assert answer.ids == [f"doc-{id_[1:]}" for id_ in list(page.candidate_ids)[:10]]


@pytest.fixture
def told_9():
    with plugin_node(installed(NEWEST_9)) as node, told_server() as server:
        fill(node)
        call(node, server.address)
        yield node, server
