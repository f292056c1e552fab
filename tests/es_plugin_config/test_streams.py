"""Data streams under names of these tests' own: the test distribution cannot delete them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from elasticsearch import Elasticsearch

from es_plugin_config.apply import apply, compare
from es_plugin_config.cluster import ConfigurationClusterError, read_features
from es_plugin_config.remove import remove
from es_plugin_config.resources import Resource, read_resources, with_components
from es_plugin_config.streams import remove_stream

pytestmark = pytest.mark.elasticsearch


def stream(name, properties):
    mappings = {"dynamic": False, "properties": {"@timestamp": {"type": "date"}, **properties}}
    body = {
        "data_stream": {},
        "index_patterns": [name],
        "priority": 600,
        "template": {"lifecycle": {"data_retention": "30d"}, "mappings": mappings},
    }
    return Resource("_index_template", name, body)


def write(client, name, **fields):
    document = {"@timestamp": "2026-01-01T00:00:00Z", **fields}
    client.index(index=name, document=document, op_type="create", refresh=True)


@pytest.fixture
def client(elasticsearch_url):
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        yield client


def actions(client, resources):
    said = []
    apply(client, resources, report=lambda action, path: said.append((action, path)))
    return said


def test_a_stream_made_by_its_first_document_has_the_template_and_its_retention(client):
    name = f"streams-test-first-{uuid4().hex[:8]}"
    assert actions(client, [stream(name, {"a": {"type": "keyword"}})])[-1] == (
        "left to its first document",
        f"/_data_stream/{name}",
    )
    write(client, name, a="x", b="not mapped")
    assert client.count(index=name, query={"term": {"a": "x"}})["count"] == 1
    state = client.cluster.state(metric="metadata").body["metadata"]["data_stream"]["data_stream"]
    assert state[name]["lifecycle"]["data_retention"] == "30d"


def test_a_new_field_reaches_the_stream_that_is_there(client):
    name = f"streams-test-new-field-{uuid4().hex[:8]}"
    apply(client, [stream(name, {"a": {"type": "keyword"}})])
    write(client, name, a="x")
    wider = [stream(name, {"a": {"type": "keyword"}, "b": {"type": "long"}})]
    client.indices.put_index_template(name=name, **wider[0].body)
    drift = compare(client, wider)[-1]
    assert '+    "b": {\n' in drift.diff
    assert actions(client, wider)[-1] == ("put the mapping of", f"/_data_stream/{name}")
    assert [each.diff for each in compare(client, wider)] == ["", ""]
    assert actions(client, wider)[-1] == ("unchanged", f"/_data_stream/{name}")


def test_a_mapping_conflict_opens_a_new_index_and_keeps_the_old_documents(client):
    name = f"streams-test-conflict-{uuid4().hex[:8]}"
    apply(client, [stream(name, {"a": {"type": "keyword"}})])
    write(client, name, a="1")
    changed = [stream(name, {"a": {"type": "long"}})]
    assert actions(client, changed)[-1] == ("rolled over", f"/_data_stream/{name}")
    write(client, name, a=2)
    assert client.count(index=name)["count"] == 2
    assert len(client.indices.get_mapping(index=name)) == 2
    assert compare(client, changed)[-1].diff == ""


def test_removing_keeps_the_template_that_a_stream_lives_by(client):
    name = f"streams-test-kept-{uuid4().hex[:8]}"
    resource = stream(name, {"a": {"type": "keyword"}})
    apply(client, [resource])
    write(client, name, a="x")
    said = []
    remove(client, [resource], with_data=False, report=lambda *each: said.append(each))
    assert said == [("kept", f"/_index_template/{name} (its data stream is there)")]
    assert client.count(index=name)["count"] == 1


def test_a_node_that_cannot_delete_streams_says_so(client):
    name = f"streams-test-undeletable-{uuid4().hex[:8]}"
    apply(client, [stream(name, {"a": {"type": "keyword"}})])
    write(client, name, a="x")
    with pytest.raises(ConfigurationClusterError, match="without the module data-streams"):
        remove_stream(client, read_features(client), name)


def test_one_malformed_number_does_not_lose_a_search(client):
    (template,) = [each for each in read_resources() if each.name == "crossrank-searches"]
    name = f"streams-test-searches-{uuid4().hex[:8]}"
    components = [
        Resource(each.api, f"{name}-{each.name}", each.body)
        for each in with_components(read_resources(), "crossrank-searches")[:-1]
    ]
    names = [f"{name}-{each}" for each in template.body["composed_of"]]
    body = {**template.body, "composed_of": names, "index_patterns": [name]}
    apply(client, [*components, Resource("_index_template", name, body)])
    write(
        client,
        name,
        candidates="many",
        latency={"total_ms": 12.5},
        query_attributes={"surface": "search"},
        user_query="Fresh MILK",
    )
    for query in (
        {"match": {"user_query.text": "milk"}},
        {"range": {"latency.total_ms": {"gt": 12}}},
        {"term": {"query_attributes.surface": "search"}},
        {"term": {"_ignored": "candidates"}},
    ):
        assert client.count(index=name, query=query)["count"] == 1
