from __future__ import annotations

import copy
import json

import pytest

from es_plugin_config import apply
from es_plugin_config.apply import (
    ConfigurationClusterError,
    ConfigurationFileError,
    Resource,
    find_drift,
    format_json,
    read_resources,
)


def write(root, path, body):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body if isinstance(body, str) else format_json(body))


def test_a_path_spells_an_api_and_every_committed_file_is_readable():
    paths = [resource.path for resource in read_resources()]
    assert "/_index_template/crossrank-products" in paths
    assert "/_component_template/crossrank-text" in paths


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


def test_a_cluster_that_is_down_exits_with_2(capsys):
    assert apply.main(["--url", "http://127.0.0.1:1", "--check"]) == 2
    assert "want an answer from Elasticsearch" in capsys.readouterr().err


def test_an_address_that_is_none_exits_with_2(capsys):
    assert apply.main(["--url", "localhost"]) == 2
    assert "URL must include" in capsys.readouterr().err


@pytest.mark.elasticsearch
def test_applying_is_safe_to_repeat(elasticsearch_client, elasticsearch_url, capsys):
    count = len(read_resources())
    assert apply.main(["--url", elasticsearch_url]) == 0
    assert capsys.readouterr().out.count("put /") == count
    assert apply.main(["--url", elasticsearch_url]) == 0
    assert capsys.readouterr().out.count("unchanged /") == count
    assert apply.main(["--url", elasticsearch_url, "--check"]) == 0
    assert capsys.readouterr().out == f"0 of {count} differ\n"


@pytest.mark.elasticsearch
def test_a_dry_run_puts_nothing(elasticsearch_client, elasticsearch_url, capsys):
    assert apply.main(["--url", elasticsearch_url, "--dry-run"]) == 0
    assert "would put /_index_template/crossrank-products\n" in capsys.readouterr().out
    templates = elasticsearch_client.options(ignore_status=404).indices
    assert not templates.exists_index_template(name="crossrank-products")


@pytest.mark.elasticsearch
def test_check_shows_drift_as_a_diff_and_applying_repairs_it(
    elasticsearch_client, elasticsearch_url, capsys
):
    apply.main(["--url", elasticsearch_url])
    (resource,) = [each for each in read_resources() if each.name == "crossrank-products"]
    changed = copy.deepcopy(resource.body)
    changed["template"]["settings"]["index"]["number_of_shards"] = 3
    elasticsearch_client.indices.put_index_template(name=resource.name, **changed)
    capsys.readouterr()
    assert apply.main(["--url", elasticsearch_url, "--check"]) == 1
    shown = capsys.readouterr().out
    assert "--- cluster/_index_template/crossrank-products\n" in shown
    assert '-        "number_of_shards": "3"\n' in shown
    assert '+        "number_of_shards": "1"\n' in shown
    assert apply.main(["--url", elasticsearch_url]) == 0
    assert apply.main(["--url", elasticsearch_url, "--check"]) == 0


@pytest.mark.elasticsearch
def test_settings_may_be_written_in_any_form_that_elasticsearch_takes(elasticsearch_client):
    settings = {
        "number_of_shards": 2,
        "index.hidden": True,
        "index": {"mapping.ignore_malformed": False},
    }
    body = {"template": {"settings": settings}}
    resource = Resource("_component_template", "crossrank-forms", body)
    assert apply.apply(elasticsearch_client, [resource]) == [resource]
    assert [drift.diff for drift in find_drift(elasticsearch_client, [resource])] == [""]


@pytest.mark.elasticsearch
def test_an_empty_pipeline_is_applied_and_compared(elasticsearch_client):
    resource = Resource("_ingest/pipeline", "crossrank-empty", {"processors": []})
    assert apply.apply(elasticsearch_client, [resource]) == [resource]
    assert apply.apply(elasticsearch_client, [resource]) == []
    elasticsearch_client.ingest.delete_pipeline(id="crossrank-empty")


@pytest.mark.elasticsearch
def test_what_the_cluster_refuses_is_said_in_its_words(elasticsearch_client):
    body = json.loads('{"index_patterns": ["x-*"], "composed_of": ["crossrank-none"]}')
    with pytest.raises(ConfigurationClusterError, match=r"got status 400 .*crossrank-none"):
        apply.apply(elasticsearch_client, [Resource("_index_template", "crossrank-bad", body)])
