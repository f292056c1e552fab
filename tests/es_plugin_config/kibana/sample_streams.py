"""Data streams of a real Elasticsearch with the sample traffic in them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from elasticsearch import Elasticsearch

from es_plugin_config.kibana.mapping import stream_template
from es_plugin_config.kibana.panel_query import Cell, Panel, TimeRange, search_body, table_rows
from es_plugin_config.kibana.sample_traffic import Traffic, sample_traffic
from rerank_server.telemetry.bulk import BulkSender
from rerank_server.telemetry.document import Document

# A time that retention does not reach and that lies behind any clock.
END = (datetime.now(UTC) - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
WHEN = TimeRange((END - timedelta(hours=1)).isoformat(), END.isoformat())


@dataclass(frozen=True)
class SampleStreams:
    """The traffic, and the streams that hold it under names of their own."""

    client: Elasticsearch
    traffic: Traffic
    prefix: str

    def rows(self, panel: Panel, stream: str) -> list[dict[str, Cell]]:
        body = search_body(panel, WHEN, "1m")
        answer = self.client.search(index=self.prefix + stream, body=body)
        return table_rows(panel, answer.body)


def make_stream(client: Elasticsearch, prefix: str, stream: str) -> str:
    """Apply the stream's shipped template to another name and return that name."""
    template = stream_template(stream) | {"index_patterns": [prefix + stream]}
    client.indices.put_index_template(name=prefix + stream, body=template)
    return prefix + stream


def store(client: Elasticsearch, url: str, stream: str, documents: Sequence[Document]) -> None:
    sender = BulkSender(url, stream)
    for first in range(0, len(documents), 2_000):
        result = sender.send(documents[first : first + 2_000])
        assert result.reason == "", result.reason
    sender.close()
    client.indices.refresh(index=stream)
    assert client.count(index=stream)["count"] == len(documents)


def sample_streams(client: Elasticsearch, url: str) -> SampleStreams:
    """Store an hour of traffic under new names."""
    prefix = f"sample-{uuid.uuid4().hex[:8]}-"
    traffic = sample_traffic(END)
    for stream, documents in traffic.streams.items():
        assert all(json.loads(each.body)["@timestamp"] for each in documents)
        store(client, url, make_stream(client, prefix, stream), documents)
    return SampleStreams(client, traffic, prefix)
