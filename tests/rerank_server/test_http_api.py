"""The HTTP door through real sockets: the native call, Cohere's, and everything refused."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import httpx
import pytest
from google.protobuf import json_format

from rerank_server.access_log import AccessLog
from rerank_server.contract.bundle import write_bundle
from rerank_server.doors import Doors
from rerank_server.http_docs import docs_page
from rerank_server.http_openapi import openapi_page
from rerank_server.metrics import Metrics
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.reranker import Reranker
from rerank_server.tokens import TokenGate
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.scorers import FailingScorer, SlowScorer, with_scorer
from tests.rerank_server.test_service import full_request
from tests.rerank_server.tiny_bundle import (
    tiny_content,
    tiny_graph_bytes,
    word_count_graph,
    write_tiny_store,
)
from tests.rerank_server.token_files import write_tokens

NATIVE, COHERE = "/v1/pages:rerank", "/v1/rerank"


@pytest.fixture
async def http():
    """Serve a reranker over HTTP on a free port; returns its client."""
    opened = []

    async def start(reranker, **doors) -> httpx.AsyncClient:
        server = tiny_rerank_server(reranker, doors=Doors(**doors))
        await server.start("localhost", 0)
        port = await server.start_http("127.0.0.1", 0)
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
        opened.append((client, server))
        return client

    yield start
    for client, server in opened:
        await client.aclose()
        await server.stop(timedelta(seconds=2))


@pytest.fixture(scope="module")
def wordy_reranker(tmp_path_factory):
    """A bundle whose product vectors are the number of words."""
    root = tmp_path_factory.mktemp("wordy")
    graphs = tiny_graph_bytes() | {"product.onnx": word_count_graph()}
    bundle = write_bundle(root / "bundle", tiny_content(graphs))
    write_tiny_store(root / "products", bundle, root / "snapshot")
    return Reranker.open(root / "bundle", root / "products", threads=1)


@pytest.fixture
async def client(http, tiny_reranker) -> httpx.AsyncClient:
    opened: httpx.AsyncClient = await http(tiny_reranker)
    return opened


async def test_the_native_call_answers_as_grpc_does(client, tiny_server):
    request = full_request()
    wanted = await tiny_server.stub.Rerank(request)
    answer = httpx.Response(0)
    for names_of_the_proto in (True, False):  # both spellings are read
        body = json_format.MessageToJson(request, preserving_proto_field_name=names_of_the_proto)
        answer = await client.post(NATIVE, content=body)
        assert answer.status_code == 200
        got = json_format.ParseDict(answer.json(), pb.RerankResponse())
        for message in (got, wanted):
            message.ClearField("timings")
        assert got == wanted
    assert answer.json()["degraded"] is False


async def test_a_page_by_curl_is_one_line(client):
    answer = await client.post(NATIVE, content='{"candidate_ids": ["milk-1", "dog-1"], "topK": 1}')
    assert answer.status_code == 200
    assert len(answer.json()["candidate_ids"]) == 1


async def test_documents_known_by_id_are_scored_as_their_products(client, tiny_server):
    ids = ["dog-1", "milk-2", "milk-1"]
    wanted = await tiny_server.stub.Rerank(pb.RerankRequest(candidate_ids=ids, query="milk"))
    body = {"query": "milk", "documents": [{"id": name, "text": "anything"} for name in ids]}
    answer = (await client.post(COHERE, json=body)).json()
    assert [ids[result["index"]] for result in answer["results"]] == list(wanted.candidate_ids)
    assert [result["relevance_score"] for result in answer["results"]] == list(wanted.scores)
    assert "document" not in answer["results"][0]
    assert "warnings" not in answer["meta"]
    again = (await client.post(COHERE, json=body)).json()
    assert again["results"] == answer["results"]
    assert again["id"] != answer["id"]


async def test_texts_are_scored_by_their_words(http, wordy_reranker):
    client = await http(wordy_reranker)
    documents = ["dog", "milk milk milk", {"text": "milk food"}, ""]
    body = {"query": "milk", "documents": documents, "return_documents": True, "top_n": 3}
    answer = (await client.post(COHERE, json=body)).json()
    # the wordy bundle's product vector is the number of words: more words, higher score
    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    assert answer["results"][0]["document"] == {"text": "milk milk milk"}
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3


async def test_version_2_of_the_form_is_the_same(client):
    body = {"model": "crossrank", "query": "milk", "documents": ["a", "b"], "max_tokens_per_doc": 9}
    first, second = await client.post(COHERE, json=body), await client.post("/v2/rerank", json=body)
    assert first.json()["results"] == second.json()["results"]


async def test_a_degraded_answer_keeps_the_documents_order_and_says_so(http, tiny_reranker):
    client = await http(with_scorer(tiny_reranker, FailingScorer(ValueError("secret"))))
    answer = await client.post(COHERE, json={"query": "q", "documents": ["a", "b", "c"]})
    assert answer.status_code == 200
    assert [result["index"] for result in answer.json()["results"]] == [0, 1, 2]
    assert {result["relevance_score"] for result in answer.json()["results"]} == {0}
    (warning,) = answer.json()["meta"]["warnings"]
    assert warning.startswith("degraded, the documents are in their own order: ")
    assert "secret" not in answer.text


async def test_the_callers_time_is_kept(http, tiny_reranker):
    client = await http(with_scorer(tiny_reranker, SlowScorer(0.5)))
    content = '{"candidate_ids": ["a", "b"]}'
    answer = await client.post(NATIVE, content=content, headers={"x-timeout-ms": "50"})
    assert answer.json()["degraded_reason"] == "DEGRADED_REASON_DEADLINE"
    assert answer.elapsed < timedelta(seconds=0.4)
    answer = await client.post(NATIVE, content=content, headers={"x-timeout-ms": "soon"})
    assert answer.status_code == 400
    assert answer.json()["message"] == "x-timeout-ms: got 'soon', want 1 to 600000"


DEEP = "[" * 100_000
BROKEN_NATIVE = {
    "nothing": ("", "body: got "),
    "no JSON": ("{", "body: got "),
    "bytes": (b"\xff\xfe\xff", "body: got "),
    "deep": (DEEP, "body: got "),
    "a long number": ('{"time": ' + "9" * 10_000 + "}", "body: got "),
    "an unknown field": ('{"canddidates": []}', "body: got "),
    "no candidates": ("{}", "candidates: got 0, want 1 to 1000"),
    "1,204 candidates": (
        json.dumps({"candidate_ids": [str(number) for number in range(1204)]}),
        "candidates: got 1204, want 1 to 1000",
    ),
    "an infinite score": (
        '{"candidate_ids": ["a"], "retrieval_scores": ["Infinity"]}',
        "retrieval_scores[0]: got inf, want a finite number or NaN",
    ),
}


@pytest.mark.parametrize("name", BROKEN_NATIVE)
async def test_a_broken_page_is_400_with_the_rule(client, name, caplog):
    content, message = BROKEN_NATIVE[name]
    answer = await client.post(NATIVE, content=content)
    assert answer.status_code == 400
    assert answer.json()["code"] == "INVALID_ARGUMENT"
    assert answer.json()["message"].startswith(message)
    assert "Traceback" not in answer.text + caplog.text


async def test_cohere_errors_have_a_message_and_nothing_else(client):
    answer = await client.post(COHERE, json={"query": "milk"})
    assert answer.status_code == 400
    assert answer.json() == {"message": "documents: got none, want 1 to 1000"}
    answer = await client.post(COHERE, json={"query": "q", "documents": ["a"], "model": "other"})
    assert answer.status_code == 404
    assert answer.json()["message"].startswith("model: got 'other', want 'crossrank' or ")


async def test_a_defect_is_500_and_its_text_stays_in_the_log(client, monkeypatch, caplog):
    def broken(*args, **options):
        raise ValueError("secret")

    monkeypatch.setattr("rerank_server.http_api.page_from_pb", broken)
    answer = await client.post(NATIVE, content='{"candidate_ids": ["a"]}')
    assert answer.status_code == 500
    assert answer.json() == {"message": "internal error, see the server's log"}
    assert "secret" in caplog.text


async def test_a_body_is_refused_when_it_is_too_large_or_compressed(client):
    large = b"x" * (4 * 1024 * 1024 + 1)
    answer = await client.post(NATIVE, content=large)
    assert answer.status_code == 413
    assert answer.json()["message"].endswith("want at most 4194304")

    async def chunks():
        for _ in range(65):
            yield b"x" * 65_536

    assert (await client.post(NATIVE, content=chunks())).status_code == 413
    answer = await client.post(NATIVE, content=b"x", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


async def test_a_wrong_path_or_method_is_named_by_http(client):
    assert (await client.get(NATIVE)).status_code == 405
    assert (await client.post("/v1/other")).status_code == 404


async def test_a_token_is_needed_here_too_and_its_rates_are_shared(http, tiny_reranker, tmp_path):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop", more="requests_per_s = 1\n")
    client = await http(tiny_reranker, gate=TokenGate(path))
    body = {"query": "milk", "documents": ["a", "b"]}
    answer = await client.post(COHERE, json=body)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert list(answer.json()) == ["message"]
    headers = {"authorization": f"Bearer {secret}"}
    assert (await client.post(COHERE, json=body, headers=headers)).status_code == 200
    answer = await client.post(NATIVE, content="{}", headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["code"] == "RESOURCE_EXHAUSTED"
    assert (await client.get("/openapi.json")).status_code == 200


async def test_calls_are_seen_as_those_of_grpc_are(http, tiny_reranker, caplog):
    caplog.set_level("INFO", "rerank_server")
    metrics = Metrics()
    client = await http(tiny_reranker, metrics=metrics, access_log=AccessLog(1.0))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    body = {"query": "secret", "documents": ["milk", "dog"]}
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    await client.post(COHERE, json=body, headers=headers)
    await client.post(NATIVE, content="{}")
    lines = []
    for _ in range(100):
        lines = [record.fields for record in caplog.records if record.message == "call"]
        if len(lines) == 2:
            break
        await asyncio.sleep(0.01)
    assert [line["code"] for line in lines] == ["OK", "INVALID_ARGUMENT"]
    assert (lines[0]["trace_id"], lines[0]["candidates"]) == (trace, 2)
    assert "secret" not in json.dumps(lines)
    value = metrics.registry().get_sample_value
    assert value("crossrank_calls_total", {"method": COHERE, "code": "OK"}) == 1
    assert value("crossrank_page_seconds_count") == 1


async def test_the_page_for_people_is_served_without_a_token(client):
    page = await client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.text == docs_page()


async def test_the_openapi_page_is_served_and_every_reference_in_it_leads_somewhere(client):
    page = (await client.get("/openapi.json")).json()
    assert page == json.loads(json.dumps(openapi_page()))
    text = json.dumps(page)
    schemas = page["components"]["schemas"]
    wanted = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert wanted <= schemas.keys()
    fields = schemas["RerankRequest"]["properties"]
    assert list(fields) == [field.name for field in pb.RerankRequest.DESCRIPTOR.fields]
    assert fields["candidate_ids"] == {"type": "array", "items": {"type": "string"}}
    assert fields["history"] == {"$ref": "#/components/schemas/History"}
    assert fields["objective_weights"]["additionalProperties"]["type"] == ["number", "string"]
