"""Telemetry into the data stream of a real Elasticsearch, with and without faults."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from rerank_server.gateway.serving import running_gateway
from rerank_server.gateway.settings import GatewaySettings
from rerank_server.telemetry import recorder as recorder_module
from rerank_server.telemetry.bulk import BulkSender
from rerank_server.telemetry.document import Document, DocumentRules, search_document
from rerank_server.telemetry.settings import Telemetry, TelemetrySettings
from tests.es_plugin_config.kibana.sample_streams import make_stream
from tests.rerank_server.gateway.running import Caller, in_thread
from tests.rerank_server.gateway.shop import PRODUCTS
from tests.rerank_server.telemetry.bulk_endpoint import wait_until
from tests.rerank_server.telemetry.relay import relay
from tests.rerank_server.telemetry.searches import search_record

pytestmark = pytest.mark.elasticsearch
SEARCHES = "crossrank-searches"


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    with Elasticsearch(elasticsearch_url, request_timeout=60) as opened:
        yield opened


@pytest.fixture
def prefix() -> str:
    return f"telemetry-{uuid.uuid4().hex[:8]}-"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(recorder_module, "_LONGEST_PAUSE_S", 0.1)


def settings(url: str, stream: str, folder: Path) -> TelemetrySettings:
    return TelemetrySettings(
        telemetry_url=url, telemetry_stream=stream, telemetry_spool=folder / "spool"
    )


def documents(client: Elasticsearch, stream: str) -> list[dict[str, Any]]:
    client.indices.refresh(index=stream)
    hits = client.search(index=stream, size=2_000)["hits"]["hits"]
    return [hit["_source"] for hit in hits]


def test_the_same_search_is_stored_once_in_the_data_stream(
    client: Elasticsearch, elasticsearch_url: str, prefix: str
) -> None:
    stream = make_stream(client, prefix, SEARCHES)
    document = search_document(search_record(), DocumentRules())
    sender = BulkSender(elasticsearch_url, stream)
    assert sender.send([document]).created == 1
    assert sender.send([document]).known == 1
    sender.close()
    assert documents(client, stream) == [json.loads(document.body)]


def test_a_document_that_does_not_fit_is_refused_alone(
    client: Elasticsearch, elasticsearch_url: str, prefix: str
) -> None:
    stream = make_stream(client, prefix, SEARCHES)
    good = search_document(search_record(), DocumentRules())
    bad = Document("0" * 32, b'{"@timestamp":"yesterday"}')
    sender = BulkSender(elasticsearch_url, stream)
    result = sender.send([bad, good])
    assert (result.created, result.rejected) == (1, 1)
    assert result.reason.startswith("400 ")
    sender.close()


def test_without_the_template_searches_wait_and_no_mapping_is_guessed(
    client: Elasticsearch, elasticsearch_url: str, prefix: str, tmp_path: Path
) -> None:
    telemetry = Telemetry(settings(elasticsearch_url, prefix + SEARCHES, tmp_path))
    telemetry.record(search_record())
    wait_until(lambda: telemetry.counts.failed.get("refused", 0) > 0)
    assert not client.indices.exists(index=prefix + SEARCHES)
    stream = make_stream(client, prefix, SEARCHES)
    wait_until(lambda: telemetry.counts.sent.get("created") == 1)
    telemetry.close()
    assert len(documents(client, stream)) == 1
    assert telemetry.counts.lost == {}


def test_an_outage_of_elasticsearch_loses_nothing(
    client: Elasticsearch, elasticsearch_url: str, prefix: str, tmp_path: Path
) -> None:
    stream = make_stream(client, prefix, SEARCHES)
    with relay(elasticsearch_url) as between:
        telemetry = Telemetry(settings(between.url, stream, tmp_path))
        for number in range(600):
            if number == 200:
                between.cut()
            telemetry.record(search_record(f"q-{number}"))
            if number == 300:
                wait_until(lambda: telemetry.counts.failed.get("connection", 0) > 2)
        between.mend()
        wait_until(lambda: sum(telemetry.counts.sent.values()) >= 600, 60.0)
        telemetry.close()
    stored = sorted(document["query_id"] for document in documents(client, stream))
    assert stored == sorted(f"q-{number}" for number in range(600))
    assert telemetry.counts.lost == {}


def test_a_stream_that_takes_no_writes_gets_its_searches_later(
    client: Elasticsearch, elasticsearch_url: str, prefix: str, tmp_path: Path
) -> None:
    stream = make_stream(client, prefix, SEARCHES)
    telemetry = Telemetry(settings(elasticsearch_url, stream, tmp_path))
    telemetry.record(search_record("q-0"))
    wait_until(lambda: telemetry.counts.sent.get("created") == 1)
    block = "index.blocks.read_only_allow_delete"  # what a disk past its flood stage sets
    client.indices.put_settings(index=stream, settings={block: True})
    telemetry.record(search_record("q-1"))
    wait_until(lambda: telemetry.counts.failed.get("refused", 0) > 0)
    client.indices.put_settings(index=stream, settings={block: None})
    wait_until(lambda: telemetry.counts.sent.get("created") == 2)
    telemetry.close()
    assert telemetry.counts.lost == {}


def test_a_search_through_the_gateway_becomes_a_document(
    client: Elasticsearch,
    shop_url: str,
    reranker_address: str,
    prefix: str,
    tmp_path: Path,
) -> None:
    stream = make_stream(client, prefix, SEARCHES)
    key = tmp_path / "key"
    key.write_text("0123456789abcdef0123456789abcdef")
    telemetry = Telemetry(settings(shop_url, stream, tmp_path))
    running = GatewaySettings(
        elasticsearch=shop_url,
        reranker=reranker_address,
        port=0,
        shopper_key=key,
        rerank_timeout_ms=2_000,
    )
    with in_thread(lambda: running_gateway(running, telemetry, [telemetry])) as gateway:
        caller = Caller(f"http://127.0.0.1:{gateway.port}")
        said = {
            "window": 30,
            "query": "milk",
            "query_id": "q-gateway",
            "shopper_id": "jane@example.org",
            "application": "shop",
        }
        body = {"query": {"match": {"text": "milk"}}, "size": 5, "ext": {"rerank": said}}
        answer = caller.search(PRODUCTS, body)
        caller.close()
        wait_until(lambda: telemetry.counts.sent.get("created") == 1)
    telemetry.close()
    (document,) = documents(client, stream)
    assert document["query_id"] == "q-gateway"
    assert document["user_query"] == "milk"
    assert document["query_response_hit_ids"] == answer.ids
    assert document["products"]["after"][:5] == answer.ids
    assert sorted(document["products"]["after"]) == sorted(document["products"]["before"])
    assert document["candidates"] == 30
    assert document["moved"]["max"] > 0
    assert len(document["client_id"]) == 16
    assert "jane" not in json.dumps(document)
    assert document["latency"]["total_ms"] >= document["latency"]["rerank_ms"] > 0
