"""Requests for the conformance of the gateway: what the official client sends, and bare REST.

The client's calls are recorded where it hands them to its connection, so method, path, query
string, headers and body are its own.
"""

from __future__ import annotations

import gzip
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from elastic_transport import BaseNode, HttpHeaders
from elastic_transport._models import ApiResponseMeta
from elastic_transport._node import NodeApiResponse
from elasticsearch import Elasticsearch

from tests.rerank_server.gateway.shop import BARE, BOTH, PRODUCTS, UNICODE

TWIN = "crossrank-twin"


@dataclass(frozen=True)
class Recorded:
    """One request; `{scroll_id}` and `{pit_id}` stand for what an answer before it gave."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.target[:100]} {(self.body or b'')[:120]!r}"


class _RecordingNode(BaseNode):
    """Answers nothing and keeps what it was asked."""

    requests: ClassVar[list[Recorded]] = []

    def perform_request(self, method, target, body=None, headers=None, request_timeout=None):
        self.requests.append(Recorded(method, target, body, dict(headers or {})))
        meta = ApiResponseMeta(
            200,
            "1.1",
            HttpHeaders({"x-elastic-product": "Elasticsearch", "content-type": "application/json"}),
            0.0,
            self.config,
        )
        return NodeApiResponse(meta, b"{}")

    def close(self):
        pass


def requests_of_the_client(*, compressed: bool = False) -> list[Recorded]:
    """What the official client sends for one call of each kind."""
    _RecordingNode.requests = []
    with Elasticsearch(
        "http://recorded:9200", node_class=_RecordingNode, http_compress=compressed
    ) as client:
        for call in _calls(client):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # previews and deprecations of the client
                call()
    return list(_RecordingNode.requests)


def _calls(client: Elasticsearch) -> Iterator[Callable[[], object]]:
    yield from _writing_calls(client)
    yield from _reading_calls(client)
    yield from _searching_calls(client)
    yield from _administering_calls(client)


def _writing_calls(client: Elasticsearch) -> Iterator[Callable[[], object]]:
    mappings = {"properties": {"t": {"type": "text"}, "n": {"type": "integer"}}}
    yield lambda: client.indices.create(
        index=TWIN, mappings=mappings, settings={"number_of_replicas": 0}
    )
    yield lambda: client.index(index=TWIN, id="1", document={"t": "milk", "n": 1})
    yield lambda: client.index(index=TWIN, id="ü/1 %", document={"t": "Größe 🥛", "n": 2})
    yield lambda: client.create(index=TWIN, id="2", document={"t": "bread"})
    yield lambda: client.create(index=TWIN, id="2", document={"t": "twice"})
    yield lambda: client.update(index=TWIN, id="1", doc={"n": 3})
    yield lambda: client.update(index=TWIN, id="no", doc={"n": 3})
    yield lambda: client.index(index=TWIN, id="bad", document={"n": "no number"})
    operations: list[Any] = []
    for number in range(20):
        operations += [{"index": {"_id": f"b{number}"}}, {"t": "milk bread", "n": number}]
    operations += [{"delete": {"_id": "b3"}}, {"update": {"_id": "b4"}}, {"doc": {"n": 44}}]
    operations += [{"create": {"_id": "b4"}}, {"t": "conflict"}]
    yield lambda: client.bulk(index=TWIN, operations=operations, refresh=True)
    yield lambda: client.bulk(operations=[{"index": {"_index": "no", "_id": "1"}}], refresh=False)
    yield lambda: client.delete(index=TWIN, id="b5", refresh=True)
    yield lambda: client.delete(index=TWIN, id="no")
    yield lambda: client.delete_by_query(index=TWIN, query={"term": {"n": 6}})
    yield lambda: client.update_by_query(index=TWIN)
    yield lambda: client.reindex(source={"index": TWIN}, dest={"index": "x"})


def _reading_calls(client: Elasticsearch) -> Iterator[Callable[[], object]]:
    milk = {"match": {"text": "milk"}}
    yield client.info
    yield client.ping
    yield lambda: client.get(index=TWIN, id="1")
    yield lambda: client.get(index=TWIN, id="ü/1 %")
    yield lambda: client.get(index=TWIN, id="no")
    yield lambda: client.get_source(index=TWIN, id="1")
    yield lambda: client.exists(index=TWIN, id="1")
    yield lambda: client.exists(index=TWIN, id="no")
    yield lambda: client.exists_source(index=TWIN, id="1")
    yield lambda: client.mget(index=TWIN, ids=["1", "2", "no"])
    yield lambda: client.count(index=PRODUCTS, query=milk)
    yield lambda: client.explain(index=PRODUCTS, id="p1", query=milk)
    yield lambda: client.termvectors(index=PRODUCTS, id="p1", fields=["text"], term_statistics=True)
    yield lambda: client.mtermvectors(index=PRODUCTS, ids=["p1"], fields=["text"])
    yield lambda: client.field_caps(index=PRODUCTS, fields="*")
    yield lambda: client.search_shards(index=PRODUCTS)
    yield lambda: client.rank_eval(index=PRODUCTS, requests=[])
    yield lambda: client.search_template(index=PRODUCTS, source='{"query": {"match_all": {}}}')
    yield lambda: client.msearch_template(search_templates=[{"index": PRODUCTS}, {"source": "{}"}])
    yield lambda: client.render_search_template(source='{"query": {"match_all": {}}}')


def _searching_calls(client: Elasticsearch) -> Iterator[Callable[[], object]]:
    milk = {"match": {"text": "milk"}}
    yield lambda: client.search(index=PRODUCTS, query=milk)
    yield lambda: client.search(index=PRODUCTS, query=milk, scroll="1m", size=7)
    yield lambda: client.scroll(scroll_id="{scroll_id}", scroll="1m")
    yield lambda: client.clear_scroll(scroll_id="{scroll_id}")
    yield lambda: client.scroll(scroll_id="{scroll_id}")
    yield lambda: client.open_point_in_time(index=PRODUCTS, keep_alive="1m")
    yield lambda: client.search(pit={"id": "{pit_id}"}, query=milk, size=3)
    yield lambda: client.search(
        pit={"id": "{pit_id}"}, query=milk, sort=["_score", "_shard_doc"], search_after=[0.3, 7]
    )
    yield lambda: client.close_point_in_time(id="{pit_id}")
    yield lambda: client.msearch(
        index=PRODUCTS,
        searches=[
            {},
            {"query": milk, "size": 3},
            {"index": "no-index"},
            {"query": milk},
            {"index": [TWIN, PRODUCTS], "preference": "_local"},
            {"query": {"match_all": {}}, "sort": ["_doc"], "size": 2},
            {},
            {"query": {"no": {}}},
            {},
            {"size": 0, "aggs": {"c": {"terms": {"field": "category"}}}},
        ],
    )
    yield lambda: client.search(index="no-index", query=milk)
    yield lambda: client.search(index="no-*", query=milk)
    yield lambda: client.search(index="no-index", ignore_unavailable=True)
    yield lambda: client.search(index=f"{PRODUCTS},{BARE}", query=milk)
    yield lambda: client.search(index="crossrank-products-sh*", query=milk)
    yield lambda: client.search(index=UNICODE, query=milk)
    yield lambda: client.search(index=BOTH, query=milk, size=20)
    yield lambda: client.search(query={"term": {"id": "p3"}})
    yield lambda: client.search(index=PRODUCTS, q="text:milk", size=4, from_=2)
    yield lambda: client.knn_search(index=PRODUCTS, knn={"field": "vector", "k": 1})
    yield lambda: client.async_search.submit(index=PRODUCTS, query=milk)
    yield lambda: client.esql.query(query="from x")
    yield lambda: client.sql.query(query="select 1")


def _administering_calls(client: Elasticsearch) -> Iterator[Callable[[], object]]:
    yield client.cluster.get_settings
    yield client.cluster.pending_tasks
    yield lambda: client.cat.aliases(name=BOTH)
    yield lambda: client.cat.count(index=PRODUCTS, h=["count"])
    yield lambda: client.cat.indices(index=TWIN, h=["index", "docs.count"], format="json")
    yield lambda: client.cat.indices(index=TWIN, h=["index"], format="yaml")
    yield lambda: client.indices.get(index=PRODUCTS)
    yield lambda: client.indices.get_mapping(index=PRODUCTS)
    yield lambda: client.indices.get_field_mapping(index=PRODUCTS, fields=["text"])
    yield lambda: client.indices.get_settings(index=PRODUCTS)
    yield lambda: client.indices.get_alias(name=BOTH)
    yield lambda: client.indices.exists(index=PRODUCTS)
    yield lambda: client.indices.exists(index="no")
    yield lambda: client.indices.exists_alias(name="no")
    yield lambda: client.indices.refresh(index=TWIN)
    yield lambda: client.indices.analyze(index=PRODUCTS, field="text", text="Vollmilch & Käse 1 L")
    yield lambda: client.indices.validate_query(
        index=PRODUCTS, query={"match": {"text": "milk"}}, explain=True
    )
    yield lambda: client.indices.put_mapping(index=TWIN, properties={"k": {"type": "keyword"}})
    yield lambda: client.indices.put_settings(index=TWIN, settings={"refresh_interval": "5s"})
    yield lambda: client.indices.put_alias(index=TWIN, name="crossrank-twins")
    yield lambda: client.indices.resolve_index(name="crossrank-b*")
    yield lambda: client.indices.simulate_index_template(name="crossrank-products-x")
    yield lambda: client.ingest.get_pipeline(id="no")
    yield client.license.get_basic_status
    yield client.xpack.usage
    yield lambda: client.indices.delete(index=TWIN)
    yield lambda: client.indices.delete(index=TWIN)


# --- searches -----------------------------------------------------------------------------------

QUERIES: tuple[Mapping[str, Any], ...] = (
    {"query": {"match": {"text": "milk"}}},
    {"query": {"match": {"text": {"query": "milk bread", "operator": "and"}}}},
    {"query": {"multi_match": {"query": "coffee tea", "fields": ["text^2", "category"]}}},
    {"query": {"combined_fields": {"query": "ham cola", "fields": ["text"]}}},
    {"query": {"simple_query_string": {"query": "rice + -milk", "fields": ["text"]}}},
    {
        "query": {
            "bool": {
                "must": [{"match": {"text": "oats"}}],
                "filter": [{"range": {"sales_56d": {"gte": 2}}}],
                "should": [{"term": {"category": "b"}}],
            }
        }
    },
    {
        "query": {
            "function_score": {
                "query": {"match": {"text": "tea"}},
                "field_value_factor": {"field": "sales_56d", "modifier": "log1p"},
            }
        }
    },
    {"query": {"match_all": {}}},
    {"query": {"constant_score": {"filter": {"term": {"category": "a"}}}}},
    {"query": {"ids": {"values": ["p5", "p1", "p9"]}}},
    {"query": {"match_none": {}}},
    {
        "query": {
            "nested": {
                "path": "places",
                "query": {"term": {"places.place": "place1"}},
                "inner_hits": {"size": 1, "_source": ["places.sales_91d"]},
            }
        }
    },
    {"retriever": {"standard": {"query": {"match": {"text": "cola"}}}}},
    {
        "query": {"match": {"text": "milk"}},
        "rescore": {
            "window_size": 300,
            "query": {"rescore_query": {"match": {"text": "tea"}}, "query_weight": 0.3},
        },
    },
)
SHAPES: tuple[Mapping[str, Any], ...] = (
    {},
    {"from": 3, "size": 7},
    {"size": 5, "_source": ["id", "category*"], "fields": ["price", "sales_*"]},
    {"size": 4, "_source": False, "docvalue_fields": ["category"], "explain": True},
    {"size": 6, "highlight": {"fields": {"text": {}}}, "track_scores": True},
    {"size": 6, "collapse": {"field": "category", "inner_hits": {"name": "best", "size": 2}}},
    {"size": 3, "sort": ["_score", {"sales_56d": "desc"}]},
    {"size": 3, "sort": [{"sales_56d": "desc"}, {"id": "asc"}]},
    {"size": 8, "track_total_hits": 5, "version": True, "seq_no_primary_term": True},
    {"size": 2, "track_total_hits": False, "aggs": {"c": {"terms": {"field": "category"}}}},
    {"size": 0, "aggs": {"p": {"percentiles": {"field": "sales_56d"}}}},
    {"size": 5, "min_score": 0.6, "post_filter": {"term": {"category": "a"}}},
    {"from": 98, "size": 12},
    {"from": 150, "size": 5, "stored_fields": ["_none_"], "_source": False},
)
URLS = (
    "",
    "?pretty&size=4",
    "?from=2&size=3&track_total_hits=true",
    "?filter_path=hits.hits._source.id,hits.total&size=6",
    "?filter_path=hits.hits._*,-hits.hits._source&typed_keys=true",
    "?rest_total_hits_as_int=true&search_type=dfs_query_then_fetch&request_cache=false",
    "?_source_includes=id&preference=_local&routing=x%2Cy&error_trace=true&human",
    "?sort=sales_56d:desc,id&size=3",
    "?docvalue_fields=category&stored_fields=_source&size=2",
)


def searches() -> list[Recorded]:
    """Every query with every shape, and some with parameters of the URL."""
    found = []
    for query, shape in itertools.product(QUERIES, SHAPES):
        if "rescore" in query and ("collapse" in shape or "sort" in shape):
            continue
        found.append(_search(f"/{PRODUCTS}/_search", {**query, **shape}))
    for number, (query, url) in enumerate(itertools.product(QUERIES[:6], URLS)):
        method = "GET" if number % 2 else "POST"
        found.append(_search(f"/{PRODUCTS}/_search{url}", query, method))
    return found


def _search(target: str, body: object, method: str = "POST", **headers: str) -> Recorded:
    sent = {"Content-Type": "application/json", **headers}
    return Recorded(method, target, json.dumps(body).encode(), sent)


def odd_requests() -> list[Recorded]:
    """Bare REST: what clients can send and few do."""
    body = json.dumps({"query": {"match": {"text": "milk"}}, "size": 3}).encode()
    search = f"/{PRODUCTS}/_search"
    kind = {"Content-Type": "application/json"}
    large = {"query": {"terms": {"id": [f"p{n}-{'x' * 50}" for n in range(18_000)]}}}
    strange = "/crossrank-gr%C3%B6%C3%9Fe-%C3%BC/_search"
    yes = {**kind, "Accept-Encoding": "gzip"}
    return [
        Recorded("HEAD", f"/{PRODUCTS}"),
        Recorded("HEAD", "/no-index"),
        Recorded("HEAD", "/"),
        Recorded("OPTIONS", search),
        Recorded("GET", search),
        Recorded("POST", search),
        Recorded("POST", f"{search}/"),
        Recorded("PUT", search, body, kind),
        Recorded("DELETE", search),
        Recorded("GET", "/"),
        Recorded("GET", "/_no_such_api?x=%25"),
        Recorded("GET", f"/{PRODUCTS}/_doc/p1?pretty"),
        Recorded("GET", f"/{PRODUCTS}/_doc/p%2F1"),
        Recorded("GET", f"//{PRODUCTS}//_search"),
        Recorded("GET", "/%3Ccrossrank-%7Bnow%2Fd%7D%3E/_search"),
        Recorded("GET", f"{search}?q=text:milk%20AND%20category:a&size=2"),
        Recorded("GET", f"{search}?q=text:(&size=2"),
        Recorded("GET", f"{search}?size=no"),
        Recorded("GET", f"{search}?nonsense=1"),
        Recorded(
            "GET", f"{search}?source=%7B%22size%22%3A1%7D&source_content_type=application/json"
        ),
        Recorded("GET", strange, body, kind),
        Recorded("POST", search, b"{", kind),
        Recorded("POST", search, b'{"size":1,"size":2}', kind),
        Recorded("POST", search, b'{"query":{"match":{"text":"a"},"match":{"text":"b"}}}', kind),
        Recorded("POST", search, b'{"no_such_key":1}', kind),
        Recorded("POST", search, b'{"ext":{"unknown":1}}', kind),
        Recorded("POST", search, b'{"query":{"match":{"text":"\\ud83e\\udd5b \xc3\xbc"}}}', kind),
        Recorded("POST", search, b"\xff\xfe", kind),
        Recorded("POST", search, b"[]", kind),
        Recorded("POST", search, b"", kind),
        Recorded("POST", search, body, {"Content-Type": "text/plain"}),
        Recorded("POST", search, body, {**kind, "Accept": "application/yaml"}),
        Recorded("POST", search, body, {**kind, "Accept": "application/cbor"}),
        Recorded("POST", f"{search}?format=yaml", body, kind),
        Recorded("POST", search, body, yes),
        Recorded("POST", search, gzip.compress(body, mtime=0), {**yes, "Content-Encoding": "gzip"}),
        Recorded("POST", search, b"no gzip", {**kind, "Content-Encoding": "gzip"}),
        Recorded("POST", search, body, kind, chunked=True),
        Recorded("POST", search, json.dumps(large).encode(), kind),
        Recorded("POST", search, json.dumps(large).encode(), kind, chunked=True),
        Recorded(
            "POST", search, body, {**kind, "X-Opaque-Id": "me", "Authorization": "Basic YTpi"}
        ),
        Recorded("POST", search, body, {**kind, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}),
        Recorded("POST", search, b'{"from":9999,"size":2}', kind),
        Recorded("POST", search, b'{"size":10001}', kind),
        Recorded("POST", search, b'{"size":"3","from":"1"}', kind),
        Recorded("POST", search, b'{"size":-1}', kind),
        Recorded("POST", search, b'{"query":{"script_score":{}}}', kind),
        Recorded("POST", "/_msearch", b"", kind),
        Recorded("POST", "/_msearch", b"{}\n", kind),
        Recorded("POST", "/_msearch", b"{}\n{}", kind),
        Recorded("POST", f"/{PRODUCTS}/_msearch", b'\n{"size":1}\n{}\n{"size":2}\n', kind),
        Recorded("POST", "/_msearch", b'{"index":"no"}\n{"query":{"match_all":{}}}\n', kind),
        Recorded("POST", "/_bulk", b'{"index":\n', kind),
        Recorded("POST", "/_bulk", b"", kind),
        Recorded("POST", f"/{PRODUCTS}/_count", body, kind),
        Recorded("POST", f"/{PRODUCTS}/_validate/query?explain", b'{"query":{"no":{}}}', kind),
        Recorded("GET", "/_search/scroll?scroll_id=no"),
        Recorded("POST", "/_search/template", b'{"source":{"size":1}}', kind),
        Recorded("GET", "/_cat/aliases?v&h=alias&s=alias"),
        Recorded("GET", f"/{PRODUCTS}/_mapping?pretty"),
    ]
