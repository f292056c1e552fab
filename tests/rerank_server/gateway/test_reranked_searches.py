"""Searches that ask for reranking, on a real Elasticsearch and a real rerank server."""

from __future__ import annotations

import gzip
import json
import time
from urllib.parse import quote

import pytest

from rerank_server.telemetry.document import DocumentRules, search_document
from tests.rerank_server.gateway.shop import BARE, BOTH, NARROW, PRODUCTS, UNICODE

pytestmark = pytest.mark.elasticsearch

MILK = {"match": {"text": "milk"}}


def asking(body, **options):
    return {**body, "ext": {"rerank": options}}


def without_score(hit):
    """A hit without what reranking changes."""
    fields = {k: v for k, v in hit.get("fields", {}).items() if k != "_first_pass_score"}
    rest = {k: v for k, v in hit.items() if k not in {"_score", "fields"}}
    return {**rest, "fields": fields} if fields else rest


def test_the_window_is_reranked_and_the_page_is_cut_from_it(bare, through):
    window = bare.search(PRODUCTS, {"query": MILK, "size": 30})
    answer = through.search(PRODUCTS, asking({"query": MILK, "size": 5}, window=30))

    assert answer.rerank["status"] == "reranked"
    assert answer.rerank["candidates"] == 30
    assert answer.headers["X-Rerank-Status"] == "reranked"
    first_pass = {hit["_id"]: hit["_score"] for hit in window.hits}
    kept = [hit["fields"]["_first_pass_score"] for hit in answer.hits]
    assert kept == [[first_pass[id_]] for id_ in answer.ids]
    assert [score for (score,) in kept] == sorted(first_pass.values())[:5]
    scores = [hit["_score"] for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    assert answer.json["hits"]["max_score"] == scores[0]


def test_pages_hold_every_hit_once_and_go_on_in_retrieval_order(bare, through):
    all_ids = bare.search(PRODUCTS, {"query": MILK, "size": 70}).ids
    pages = []
    for start in range(0, 70, 7):
        body = asking({"query": MILK, "from": start, "size": 7}, window=30)
        pages.append(through.search(PRODUCTS, body).ids)
    assert [len(page) for page in pages] == [7] * 10
    ids = [id_ for page in pages for id_ in page]
    assert sorted(ids[:30]) == sorted(all_ids[:30])
    assert ids[:30] != all_ids[:30]
    assert ids[30:] == all_ids[30:]


@pytest.mark.parametrize(
    "shape",
    [
        {"highlight": {"fields": {"text": {}}}, "_source": ["id"]},
        {"_source": False, "fields": ["price", "sales_*"], "docvalue_fields": ["category"]},
        {"sort": ["_score", {"id": "asc"}], "track_scores": True, "version": True},
        {"explain": True, "seq_no_primary_term": True, "stored_fields": ["_source"]},
        {"collapse": {"field": "leaf", "inner_hits": {"name": "n", "size": 2}}},
        {"script_fields": {}, "indices_boost": [{PRODUCTS: 2.0}]},
    ],
    ids=lambda shape: next(iter(shape)),
)
def test_hits_are_those_the_caller_asked_for(bare, through, shape):
    body = {"query": MILK, "size": 20, **shape}
    own = bare.search(PRODUCTS, body)
    answer = through.search(PRODUCTS, asking(body, window=20, id_field="id", category_field="leaf"))
    assert answer.rerank["status"] == "reranked"
    assert len(answer.hits) == len(own.hits) >= 3
    by_id = {hit["_id"]: hit for hit in own.hits}
    for hit in answer.hits:
        assert without_score(hit) == without_score(by_id[hit["_id"]])
        assert hit["fields"]["_first_pass_score"] == [by_id[hit["_id"]]["_score"]]


def test_totals_and_aggregations_are_those_of_the_callers_search(bare, through):
    body = {
        "query": MILK,
        "size": 3,
        "track_total_hits": 5,
        "aggs": {"c": {"terms": {"field": "category"}}},
        "suggest": {"s": {"text": "mlik", "term": {"field": "text"}}},
    }
    own, answer = bare.search(PRODUCTS, body).json, through.search(PRODUCTS, asking(body)).json
    assert answer["hits"]["total"] == own["hits"]["total"] == {"value": 5, "relation": "gte"}
    assert answer["aggregations"] == own["aggregations"]
    assert answer["suggest"] == own["suggest"]


@pytest.mark.parametrize(
    ("body", "target", "reason"),
    [
        ({"size": 0}, "", "size_0"),
        ({"sort": [{"sales_56d": "desc"}, {"id": "asc"}], "size": 4}, "", "sort"),
        ({"from": 40, "size": 5}, "", "beyond_window"),
        ({"size": 4}, "?sort=sales_56d:desc,id", "sort"),
        ({"size": 4}, "?format=yaml", "format"),
    ],
)
def test_what_is_no_page_by_score_is_left_alone(bare, through, body, target, reason):
    body = {"query": MILK, **body}
    own = bare.send("POST", f"/{PRODUCTS}/_search{target}", body)
    answer = through.send("POST", f"/{PRODUCTS}/_search{target}", asking(body, window=30))
    assert answer.headers["X-Rerank-Status"] == f"skipped; reason={reason}"
    assert answer.status == own.status == 200
    strip = slice(answer.body.index(b"timed_out"), None)
    assert answer.body[strip] == own.body[own.body.index(b"timed_out") :]


def test_a_scroll_and_a_point_in_time_are_left_alone(bare, through):
    scrolled = through.send("POST", f"/{PRODUCTS}/_search?scroll=1m", asking({"query": MILK}))
    assert scrolled.headers["X-Rerank-Status"] == "skipped; reason=scroll"
    assert scrolled.ids == bare.search(PRODUCTS, {"query": MILK}).ids
    pit = through.send("POST", f"/{PRODUCTS}/_pit?keep_alive=1m").json["id"]
    body = asking({"query": MILK, "pit": {"id": pit}, "size": 3})
    answer = through.send("POST", "/_search", body)
    assert answer.headers["X-Rerank-Status"] == "skipped; reason=pit"
    assert len(answer.hits) == 3


def test_a_window_beyond_the_indexs_limit_is_narrowed_to_it(bare, through):
    own = bare.search(NARROW, {"query": MILK, "size": 20}).ids
    for _ in range(2):  # the second time the limit is known
        answer = through.search(NARROW, asking({"query": MILK, "size": 5}, window=100))
        assert (answer.rerank["status"], answer.rerank["candidates"]) == ("reranked", 20)
        assert set(answer.ids) <= set(own)
    refused = through.search(NARROW, asking({"query": MILK, "from": 15, "size": 10}, window=100))
    plain = bare.search(NARROW, {"query": MILK, "from": 15, "size": 10})
    assert refused.status == plain.status == 400
    assert refused.json["error"]["reason"] == plain.json["error"]["reason"]


def test_an_alias_of_two_indices_keeps_every_document(bare, through):
    body = {"query": {"ids": {"values": [f"p{n}" for n in range(10)]}}, "size": 50}
    own = [(hit["_index"], hit["_id"]) for hit in bare.search(BOTH, body).hits]
    answer = through.search(BOTH, asking(body))
    assert (answer.rerank["status"], answer.rerank["candidates"]) == ("reranked", 10)
    assert len(own) == 20
    found = [(hit["_index"], hit["_id"]) for hit in answer.hits]
    assert sorted(found) == sorted(own)
    # the two documents of a product stand together
    assert [id_ for _, id_ in found[::2]] == [id_ for _, id_ in found[1::2]]


def test_documents_without_the_id_field_stay_on_the_page(through, shop_gateway):
    answer = through.search(BARE, asking({"query": MILK, "size": 10}, id_field="sku"))
    assert (answer.rerank["status"], answer.rerank["candidates"]) == ("reranked", 10)
    assert sorted(answer.ids) == sorted(f"p{n}" for n in range(10))
    (record,) = shop_gateway.records.of(answer.rerank["query_id"])
    assert {id_ for id_ in record.candidate_ids if id_.startswith("sku")} == {
        f"sku-{n}" for n in range(1, 10, 2)
    }


def test_a_search_that_finds_nothing_says_its_arm(through, shop_gateway):
    body = asking({"query": {"match": {"text": "klim"}}}, query_id="nothing", shopper_id="ann")
    until = time.monotonic() + 10
    while (answer := through.search(PRODUCTS, body)).rerank.get("variant") is None:
        assert time.monotonic() < until  # the gateway has just begun, and asks the server's status
        time.sleep(0.05)
    assert answer.hits == []
    assert (answer.rerank["status"], answer.rerank["variant"]) == ("reranked", "current")
    record = shop_gateway.records.of("nothing")[-1]
    assert (record.total_hits, record.shown_ids) == (0, ())
    document = json.loads(search_document(record, DocumentRules()).body)
    assert document["variant"] == document["query_attributes"]["variant"] == "current"


def test_no_product_id_at_all_degrades(bare, through):
    body = {"query": MILK, "size": 5}
    answer = through.search(PRODUCTS, asking(body, id_field="no_such"))
    assert answer.rerank["status"] == "degraded"
    assert answer.rerank["reason"] == "no_product_ids"
    assert answer.ids == bare.search(PRODUCTS, body).ids


def test_wrong_options_degrade_and_are_named(bare, through):
    body = {"query": MILK, "size": 5}
    answer = through.search(PRODUCTS, asking(body, windo=3))
    assert (answer.rerank["status"], answer.rerank["reason"]) == ("degraded", "invalid_options")
    assert "ext.rerank.windo: got an unknown name" in answer.rerank["detail"]
    assert "nearest: window" in answer.rerank["detail"]
    assert answer.ids == bare.search(PRODUCTS, body).ids


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.search(UNICODE, {"query": MILK, "size": 3}, X_Rerank="true"),
        lambda c: c.send(
            "GET", f"/{quote(UNICODE)}/_search", asking({"query": MILK, "size": 3}, window=40)
        ),
        lambda c: c.send(
            "GET",
            f"/{quote(UNICODE)}/_search?source_content_type=application/json&source="
            + quote(json.dumps(asking({"query": MILK, "size": 3}))),
        ),
        lambda c: c.send(
            "GET", f"/{quote(UNICODE)}/_search?q=text:milk&size=3", None, {"X-Rerank": "{}"}
        ),
        lambda c: c.send(
            "POST",
            f"/{quote(UNICODE)}/_search",
            gzip.compress(json.dumps(asking({"query": MILK, "size": 3})).encode()),
            {"Content-Encoding": "gzip"},
        ),
        lambda c: c.send(
            "POST",
            f"/{quote(UNICODE)}/_search",
            json.dumps(asking({"query": MILK, "size": 3})).encode(),
            chunked=True,
        ),
    ],
    ids=["header", "get with body", "source", "uri search", "gzip", "chunked"],
)
def test_every_way_to_send_a_search_is_reranked(bare, through, ask):
    lowest = [
        hit["_score"] for hit in bare.search(quote(UNICODE), {"query": MILK, "size": 40}).hits
    ]
    through_url = ask(_Quoting(through))
    assert through_url.rerank["status"] == "reranked"
    kept = [hit["fields"]["_first_pass_score"][0] for hit in through_url.hits]
    assert kept == sorted(lowest)[:3]


class _Quoting:
    """Writes index names as a URL needs them."""

    def __init__(self, caller):
        self._caller = caller
        self.send = caller.send

    def search(self, index, body, **headers):
        return self._caller.search(quote(index), body, **headers)


def test_the_answer_is_compressed_for_callers_that_take_it(through):
    body = asking({"query": MILK, "size": 20})
    answer = through.search(PRODUCTS, body, Accept_Encoding="gzip")
    assert (
        answer.headers[
            "content-encoding" if "content-encoding" in answer.headers else "Content-Encoding"
        ]
        == "gzip"
    )
    assert json.loads(gzip.decompress(answer.body))["ext"]["rerank"]["status"] == "reranked"


def test_a_filtered_answer_has_what_the_filter_names(bare, through):
    target = f"/{PRODUCTS}/_search?filter_path=hits.hits._source.id,ext"
    answer = through.send("POST", target, asking({"query": MILK, "size": 3}, id_field="id"))
    assert answer.json["ext"]["rerank"]["status"] == "reranked"
    assert [list(hit) for hit in answer.json["hits"]["hits"]] == [["_source"]] * 3
    assert list(answer.json["hits"]) == ["hits"]


def test_searches_of_an_msearch_are_reranked_each_as_it_asks(bare, through, shop_gateway):
    lines = [
        {"index": PRODUCTS},
        asking({"query": MILK, "size": 4}, window=20, query_id="one"),
        {"index": "no-index"},
        asking({"query": MILK}, query_id="two"),
        {"index": PRODUCTS},
        {"query": MILK, "size": 2},
        {"index": NARROW},
        asking({"query": MILK, "size": 3}, window=500, query_id="four"),
        {"index": [PRODUCTS]},
        asking({"query": MILK, "size": 0}, query_id="five"),
        {"index": PRODUCTS},
        asking({"query": {"range": {"sales_56d": {"gte": "no"}}}}, query_id="six"),
    ]
    body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    answer = through.send("POST", "/_msearch", body, {"Content-Type": "application/x-ndjson"})
    replies = answer.json["responses"]
    assert [reply["status"] for reply in replies] == [200, 404, 200, 200, 200, 400]
    said = [reply.get("ext", {}).get("rerank", {}).get("status") for reply in replies]
    # the fourth is refused as widened, or narrowed where the limit of its index is known
    assert said[3] in {"reranked", "degraded"}
    assert said[:3] + said[4:] == ["reranked", None, None, None, None]
    assert len(replies[3]["hits"]["hits"]) == 3
    window = bare.search(PRODUCTS, {"query": MILK, "size": 20}).hits
    kept = [hit["fields"]["_first_pass_score"][0] for hit in replies[0]["hits"]["hits"]]
    assert kept == sorted(hit["_score"] for hit in window)[:4]
    own = bare.search(PRODUCTS, {"query": MILK, "size": 2}).hits
    assert replies[2]["hits"]["hits"] == own
    ids = ["one", "two", "four", "six"]
    assert [r.query_id for r in shop_gateway.records.of(*ids)] == ids


def test_the_record_says_what_happened_and_no_shopper(through, shop_gateway):
    options = {
        "query_id": "q-1",
        "shopper_id": "ann@example.org",
        "surface": "search",
        "category_field": "category",
        "experiment": {"arm": "b"},
    }
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    answer = through.search(
        PRODUCTS,
        asking({"query": MILK, "from": 2, "size": 3}, window=20, **options),
        traceparent=trace,
        X_Opaque_Id="front",
    )
    (record,) = shop_gateway.records.of("q-1")
    assert (record.query_id, record.query, record.index) == ("q-1", "milk", PRODUCTS)
    assert answer.rerank["query_id"] == "q-1"
    assert len(record.candidate_ids) == len(record.categories) == len(record.scores) == 20
    assert sorted(record.reranked_ids) == sorted(record.candidate_ids)
    assert list(record.shown_ids) == answer.ids == list(record.reranked_ids[2:5])
    assert (record.shown_from, record.total_is_exact) == (2, True)
    assert record.total_hits == answer.json["hits"]["total"]["value"]
    assert set(record.categories) <= {"a", "b", "c"}
    assert len(record.bundle_id) == 64
    assert record.latency.total_ms >= record.latency.elasticsearch_ms > 0
    assert record.latency.rerank_ms > 0
    assert record.latency.score_ms > 0
    assert (record.trace_id, record.opaque_id) == ("a" * 32, "front")
    assert record.experiment == {"arm": "b"}
    assert "ann" not in repr(record)
