from __future__ import annotations

import pytest

from es_plugin_config.resources import (
    ConfigurationFileError,
    data_streams,
    format_json,
    read_resources,
    with_components,
)


def write(root, path, body):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body if isinstance(body, str) else format_json(body))


def test_a_path_spells_an_api_and_every_committed_file_is_readable():
    paths = [resource.path for resource in read_resources()]
    assert "/_index_template/crossrank-products" in paths
    assert "/_component_template/crossrank-text" in paths
    assert "/_security/role/crossrank-shop" in paths


def test_what_others_name_is_applied_first(tmp_path):
    write(tmp_path, "_index_template/a.json", {})
    write(tmp_path, "_ingest/pipeline/b.json", {})
    write(tmp_path, "_scripts/c.json", {})
    write(tmp_path, "_component_template/d@mappings.json", {})
    assert [resource.path for resource in read_resources(tmp_path)] == [
        "/_component_template/d@mappings",
        "/_scripts/c",
        "/_ingest/pipeline/b",
        "/_index_template/a",
    ]


def test_a_folder_that_is_no_api_is_refused_with_the_nearest(tmp_path):
    write(tmp_path, "_index_templates/a.json", {})
    with pytest.raises(ConfigurationFileError, match=r"nearest: _index_template\)"):
        read_resources(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"b": 1, "a": 2}', "[]\n", '{\n  "a": 1\n}'])
def test_a_file_in_another_form_is_refused(tmp_path, text):
    write(tmp_path, "_index_template/a.json", text)
    with pytest.raises(ConfigurationFileError, match=r"a\.json: got"):
        read_resources(tmp_path)


def test_the_streams_are_those_that_the_templates_name():
    assert sorted(data_streams(read_resources())) == [
        "crossrank-experiments",
        "crossrank-learning",
        "crossrank-searches",
        "ubi_events",
        "ubi_queries",
    ]


def test_a_template_comes_with_its_components_and_no_more():
    names = [resource.name for resource in with_components(read_resources(), "ubi_events")]
    assert names == ["crossrank-stream", "crossrank-ubi-events", "ubi_events"]
    with pytest.raises(ConfigurationFileError, match=r"nearest: ubi_events"):
        with_components(read_resources(), "ubi_event")


def test_every_field_of_ubi_is_mapped_as_the_schema_says():
    bodies = {resource.name: resource.body for resource in read_resources()}
    queries = bodies["crossrank-ubi-queries"]["template"]["mappings"]["properties"]
    assert set(queries) >= {
        "application", "query_id", "client_id", "user_query", "query_attributes",
        "object_id_field", "timestamp", "query_response_id", "query_response_hit_ids",
    }  # fmt: skip
    assert queries["query_attributes"]["type"] == "flattened"
    events = bodies["crossrank-ubi-events"]["template"]["mappings"]["properties"]
    assert set(events) >= {
        "action_name", "application", "client_id", "event_attributes", "message", "message_type",
        "query_id", "session_id", "timestamp", "user_id", "user_query",
    }  # fmt: skip
    assert events["action_name"]["fields"]["keyword"]["type"] == "keyword"
    attributes = events["event_attributes"]["properties"]
    assert attributes["position"]["properties"]["ordinal"]["type"] == "integer"
    assert attributes["object"]["properties"]["object_id"]["type"] == "keyword"


def test_no_role_may_do_more_than_its_part():
    roles = {r.name: r.body for r in read_resources() if r.api == "_security/role"}
    for name in ("crossrank-shop", "crossrank-telemetry"):
        (allowed,) = roles[name]["indices"]
        assert allowed["privileges"] == ["auto_configure", "create_doc"]
        assert roles[name]["cluster"] == []
    assert roles["crossrank-gateway"] == {
        "cluster": [],
        "indices": [{"names": ["ubi_events"], "privileges": ["read"]}],
        "metadata": roles["crossrank-gateway"]["metadata"],
    }
