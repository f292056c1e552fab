"""The retriever `cross_rerank` over REST on a real node, with a server that answers as told."""

from __future__ import annotations

import json

import grpc
import pytest

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from tests.es_plugin_config.plugin.rerank_servers import backwards

pytestmark = [pytest.mark.slow, pytest.mark.elasticsearch]

MILK = {"standard": {"query": {"match": {"title": "milk"}}}}


def rerank(**more: object) -> dict[str, object]:
    return {"retriever": MILK, "id_field": "product_id", "rank_window_size": 30} | more


def test_hits_of_all_shards_come_in_the_order_of_the_server(first_node, told):
    answer = first_node.search(rerank(), size=30)
    (page,) = told.pages
    assert answer.page.startswith("reranked; bundle=backwards; took_ms=")
    assert answer.ids == [f"doc-{id_[1:]}" for id_ in reversed(page.candidate_ids)]
    scores = [hit["_score"] for hit in answer.body["hits"]["hits"]]
    assert scores == sorted(set(scores), reverse=True)
    assert scores[0] == 1.0
    assert {hit["_index"] for hit in answer.body["hits"]["hits"]} == {"groceries"}


def test_the_page_is_what_was_retrieved_and_said(first_node, told):
    shopper = {"id": "s1", "history": {"product_ids": ["p1"], "times": [9], "kinds": ["click"]}}
    context = {"surface": "search", "place": "store-7", "category": "dairy", "time": 99}
    first_node.search(
        rerank(
            query="milk",
            shopper=shopper,
            context=context,
            objectives={"purchase": 1, "click": 0.25},
            fields={"price_now": "price", "promoted": "promoted"},
        ),
        size=3,
    )
    (page,) = told.pages
    assert len(page.candidate_ids) == 30
    assert list(page.retrieval_scores) == sorted(page.retrieval_scores, reverse=True)
    assert page.query == "milk"
    assert page.shopper_id == "s1"
    assert list(page.history.product_ids) == ["p1"]
    assert list(page.history.kinds) == [pb.EVENT_KIND_CLICK]
    assert (page.surface, page.place, page.category, page.time) == (
        "search",
        "store-7",
        "dairy",
        99,
    )
    assert dict(page.objective_weights) == {"purchase": 1.0, "click": 0.25}
    signals = {signal.name: list(signal.values) for signal in page.signals}
    numbers = [int(id_[1:]) for id_ in page.candidate_ids]
    assert signals["price_now"] == [number / 4 for number in numbers]
    assert signals["promoted"] == [float(number % 2 == 0) for number in numbers]


def test_pages_cut_one_order_without_gap_or_repeat(first_node, told):
    whole = first_node.search(rerank(), size=30).ids
    cut = []
    for begin in range(0, 30, 10):
        cut += first_node.search(rerank(), size=10, **{"from": begin}).ids
    assert cut == whole
    assert first_node.search(rerank(), size=10, **{"from": 25}).ids == whole[25:]


def test_totals_and_aggregations_are_of_the_whole_search(first_node, told):
    prices = {"prices": {"stats": {"field": "price"}}}
    plain = {"query": MILK["standard"]["query"], "size": 5, "aggs": prices}
    without = first_node.call("POST", "/groceries/_search", plain).body
    answer = first_node.search(rerank(), size=5, aggs=prices).body
    assert answer["hits"]["total"] == without["hits"]["total"] == {"value": 40, "relation": "eq"}
    assert answer["aggregations"] == without["aggregations"]


def test_a_search_that_shows_no_page_asks_no_server(first_node, told):
    prices = {"prices": {"max": {"field": "price"}}}
    answer = first_node.search(rerank(), size=0, aggs=prices)
    assert answer.body["aggregations"]["prices"]["value"] == 39 / 4
    assert answer.body["hits"]["total"]["value"] == 40
    nothing = {"standard": {"query": {"match": {"title": "bread"}}}}
    assert first_node.search(rerank(retriever=nothing)).ids == []
    assert told.pages == []


def test_filters_reach_the_inner_retriever(first_node, told):
    cheap = {"range": {"price": {"lt": 1}}}
    answer = first_node.search(rerank(filter=cheap), size=10)
    assert sorted(answer.ids) == ["doc-0", "doc-1", "doc-2", "doc-3"]
    assert len(told.pages[0].candidate_ids) == 4


def test_any_retriever_may_be_inside(first_node, told):
    near = {"field": "vector", "query_vector": [1.0, 0.0], "k": 20, "num_candidates": 40}
    answer = first_node.search(rerank(retriever={"knn": near}, rank_window_size=20), size=20)
    assert answer.status == 200, answer.body
    assert answer.ids == [f"doc-{id_[1:]}" for id_ in reversed(told.pages[0].candidate_ids)]
    sorted_by_price = {"standard": MILK["standard"] | {"sort": [{"price": "desc"}]}}
    answer = first_node.search(rerank(retriever=sorted_by_price, rank_window_size=10), size=3)
    assert answer.ids == ["doc-30", "doc-31", "doc-32"]
    assert not told.pages[1].retrieval_scores


def test_a_reranked_page_can_be_reranked_again(first_node, told):
    inner = {"cross_rerank": rerank(rank_window_size=40, filter={"range": {"price": {"lt": 5}}})}
    answer = first_node.search(rerank(retriever=inner, rank_window_size=10), size=10)
    first, second = told.pages
    assert list(second.candidate_ids) == list(first.candidate_ids)[::-1][:10]
    assert answer.ids == [f"doc-{id_[1:]}" for id_ in reversed(second.candidate_ids)]


def test_explain_and_profile_say_where_a_document_stood(first_node, told):
    def explained(page, context):
        answer = backwards(page, context)
        count = len(page.candidate_ids)
        answer.objectives.add(objective="click", probabilities=[0.5] * count)
        answer.explanations.add(group="price", contributions=[0.25] * count)
        return answer

    told.answering = explained
    answer = first_node.search(rerank(), size=1, explain=True)
    assert told.pages[0].explain
    (hit,) = answer.body["hits"]["hits"]
    explanation = hit["_explanation"]
    assert explanation["value"] == hit["_score"]
    assert "cross_rerank: reranked, rank [1], retrieval rank [30]" in explanation["description"]
    details = [(line["description"], line["value"]) for line in explanation["details"]]
    assert details[:2] == [("probability of click", 0.5), ('score from "price"', 0.25)]
    assert "weight(title:milk" in details[2][0]
    profiled = first_node.search(rerank(), size=1, profile=True)
    assert not told.pages[1].explain
    assert "{rank=1, retrieval_rank=30, " in json.dumps(profiled.body["profile"])
    assert "status=reranked" in json.dumps(profiled.body["profile"])


def test_documents_of_one_product_stay_together_and_those_without_go_along(first_node, told):
    first_node.call("PUT", "/groceries-more/_doc/again?refresh=true", {"title": "milk", "n": 1})
    mapping = {"properties": {"product_id": {"type": "keyword"}}}
    first_node.call("PUT", "/groceries-more/_mapping", mapping)
    first_node.call(
        "PUT", "/groceries-more/_doc/twin?refresh=true", {"title": "milk", "product_id": "p3"}
    )
    try:
        answer = first_node.search(rerank(rank_window_size=50), index="groceries*", size=50)
    finally:
        first_node.call("DELETE", "/groceries-more")
    sent = list(told.pages[0].candidate_ids)
    assert len(sent) == len(set(sent)) == 41
    assert next(id_ for id_ in sent if not id_.startswith("p")).startswith("no-product-id:")
    assert len(answer.ids) == 42
    assert abs(answer.ids.index("twin") - answer.ids.index("doc-3")) == 1


def test_what_a_policy_hides_is_not_shown(first_node, told):
    def hiding(page, context):
        answer = backwards(page, context)
        del answer.candidate_ids[:2]
        del answer.scores[:2]
        answer.policy_trace.hidden = 2
        return answer

    told.answering = hiding
    answer = first_node.search(rerank(rank_window_size=10), size=10)
    sent = list(told.pages[0].candidate_ids)
    assert answer.ids == [f"doc-{id_[1:]}" for id_ in sent[:8][::-1]]


def test_a_product_deleted_meanwhile_is_still_shown(first_node, told):
    body = {"title": "milk " * 50, "product_id": "p99"}
    first_node.call("PUT", "/groceries/_doc/doc-99?refresh=true", body)

    def deleting(page, context):
        assert first_node.call("DELETE", "/groceries/_doc/doc-99?refresh=true").status == 200
        return backwards(page, context)

    told.answering = deleting
    answer = first_node.search(rerank(rank_window_size=41), size=41)
    assert "doc-99" in answer.ids
    assert answer.page.startswith("reranked")


def test_a_query_of_a_megabyte_is_cut_not_refused(first_node, told):
    answer = first_node.search(rerank(query="mülk " * 200_000), size=1)
    assert answer.status == 200
    assert 1_000 < len(told.pages[0].query.encode()) <= 1_024


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"querry": "milk"}, "did you mean [query]?"),
        ({"rank_window_size": 1_001}, "rank_window_size: got 1001, want 1 to 1000"),
        ({"min_score": 0.5}, "min_score: got 0.5, want none here"),
        ({"objectives": {"click": "much"}}, "objectives.click: got much, want a number"),
        ({"shopper": {"id": "s" * 257}}, "shopper.id: got 257 characters, want at most 256"),
    ],
)
def test_a_mistake_of_the_caller_is_named(first_node, parameters, said):
    answer = first_node.search(rerank(**parameters))
    assert answer.status == 400
    assert said in json.dumps(answer.body)


def test_sorting_and_a_page_beyond_the_window_are_refused_by_elasticsearch(first_node):
    assert first_node.search(rerank(), sort=["price"]).status == 400
    answer = first_node.search(rerank(rank_window_size=10), size=11)
    assert answer.status == 400
    assert "rank_window_size: 10" in json.dumps(answer.body)


def test_the_real_server_gives_its_own_order(first_node, real):
    products = ["gift-1", "dog-1", "milk-2", "cat-1", "milk-1"]
    lines = []
    for place, product in enumerate(products):
        lines += [{"index": {"_id": product}}, {"title": "milk " * (place + 1)}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    first_node.call("POST", "/groceries-real/_bulk?refresh=true", body)
    try:
        answer = first_node.search({"retriever": MILK}, index="groceries-real", explain=True)
        plain = {"query": MILK["standard"]["query"]}
        retrieved = first_node.call("POST", "/groceries-real/_search", plain).body["hits"]["hits"]
    finally:
        first_node.call("DELETE", "/groceries-real")
    with grpc.insecure_channel(real.address) as channel:
        page = pb.RerankRequest(
            candidate_ids=[hit["_id"] for hit in retrieved],
            retrieval_scores=[hit["_score"] for hit in retrieved],
        )
        wanted = RerankServiceStub(channel).Rerank(page, timeout=30)
    assert answer.page.startswith(f"reranked; bundle={wanted.bundle_id}; took_ms=")
    assert answer.ids == list(wanted.candidate_ids) != [hit["_id"] for hit in retrieved]
    assert "score from" in json.dumps(answer.body)
