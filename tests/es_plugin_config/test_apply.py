from __future__ import annotations

import copy
import io

import pytest

from es_plugin_config.apply import apply, compare, unsupported
from es_plugin_config.cluster import ConfigurationClusterError, Features
from es_plugin_config.resources import Resource, read_resources
from rerank_server.commands.root import main

EVERYTHING = Features("8.19.4", None, None, security=True)
NOTHING = Features("8.19.4", frozenset(), frozenset(), security=False)


def run(command, url, *flags):
    return main(["es", command, "--url", url, *flags])


def test_a_cluster_that_is_down_exits_with_1(capsys):
    assert run("apply", "http://127.0.0.1:1", "--check") == 1
    error = capsys.readouterr().err
    assert error.startswith("crossrank: Elasticsearch: got Connection error")
    assert error.count("\n") == 1


def test_an_address_that_is_none_exits_with_1_and_hides_the_password(capsys):
    assert run("apply", "localhost") == 1
    assert "want one like http://localhost:9200" in capsys.readouterr().err
    assert run("apply", "ftp://user:secret@host") == 1
    assert "secret" not in capsys.readouterr().err


def test_check_and_dry_run_exclude_each_other(capsys):
    assert run("apply", "http://127.0.0.1:1", "--check", "--dry-run") == 1
    assert "got --check and --dry-run, want one of them" in capsys.readouterr().err


def test_a_key_file_must_hold_a_key(tmp_path, capsys):
    key = tmp_path / "key"
    assert run("apply", "http://127.0.0.1:1", "--api-key-file", str(key)) == 1
    assert "API key: got No such file or directory" in capsys.readouterr().err
    key.write_text("\n")
    assert run("apply", "http://127.0.0.1:1", "--api-key-file", str(key)) == 1
    assert "API key: got an empty file" in capsys.readouterr().err


def test_what_the_nodes_lack_is_skipped_and_what_they_have_is_not():
    for resource in read_resources():
        assert unsupported(resource, EVERYTHING) == ""
    reasons = {resource.path: unsupported(resource, NOTHING) for resource in read_resources()}
    assert "lang-mustache" in reasons["/_scripts/crossrank-hybrid"]
    assert "processor set" in reasons["/_ingest/pipeline/crossrank-ubi"]
    assert "checks no users" in reasons["/_security/role/crossrank-shop"]
    assert reasons["/_index_template/ubi_events"] == ""


@pytest.mark.elasticsearch
def test_applying_is_safe_to_repeat(elasticsearch_client, elasticsearch_url, capsys):
    templates = sum("template" in resource.api for resource in read_resources())
    assert run("apply", elasticsearch_url) == 0
    said = capsys.readouterr().out
    assert said.count("put /") == templates
    assert "skipped /_security/role/crossrank-shop (the cluster checks no users)\n" in said
    assert run("apply", elasticsearch_url) == 0
    assert capsys.readouterr().out.count("unchanged /_") >= templates
    assert run("apply", elasticsearch_url, "--check") == 0
    assert capsys.readouterr().out.startswith("0 of ")


@pytest.mark.elasticsearch
def test_a_dry_run_puts_nothing(elasticsearch_client, elasticsearch_url, capsys):
    assert run("apply", elasticsearch_url, "--dry-run") == 0
    assert "would put /_index_template/crossrank-products\n" in capsys.readouterr().out
    templates = elasticsearch_client.options(ignore_status=404).indices
    assert not templates.exists_index_template(name="crossrank-products")


@pytest.mark.elasticsearch
def test_check_shows_drift_as_a_diff_and_applying_repairs_it(
    elasticsearch_client, elasticsearch_url, capsys
):
    run("apply", elasticsearch_url)
    (resource,) = [each for each in read_resources() if each.name == "crossrank-products"]
    changed = copy.deepcopy(resource.body)
    changed["template"]["settings"]["index"]["number_of_shards"] = 3
    elasticsearch_client.indices.put_index_template(name=resource.name, **changed)
    capsys.readouterr()
    assert run("apply", elasticsearch_url, "--check") == 1
    shown = capsys.readouterr().out
    assert "--- cluster/_index_template/crossrank-products\n" in shown
    assert '-        "number_of_shards": "3"\n' in shown
    assert '+        "number_of_shards": "1"\n' in shown
    assert run("apply", elasticsearch_url) == 0
    assert run("apply", elasticsearch_url, "--check") == 0


@pytest.mark.elasticsearch
def test_settings_may_be_written_in_any_form_that_elasticsearch_takes(elasticsearch_client):
    settings = {
        "number_of_shards": 2,
        "index.hidden": True,
        "index": {"mapping.ignore_malformed": False},
    }
    body = {"template": {"settings": settings}}
    resource = Resource("_component_template", "crossrank-forms", body)
    apply(elasticsearch_client, [resource])
    assert [each.diff for each in compare(elasticsearch_client, [resource])] == [""]


@pytest.mark.elasticsearch
def test_an_empty_pipeline_is_applied_and_compared(elasticsearch_client):
    said = []
    resource = Resource("_ingest/pipeline", "crossrank-empty", {"processors": []})
    for _ in range(2):
        apply(
            elasticsearch_client,
            [resource],
            report=lambda action, path: said.append((action, path)),
        )
    path = "/_ingest/pipeline/crossrank-empty"
    assert said == [("put", path), ("unchanged", path)]
    elasticsearch_client.ingest.delete_pipeline(id="crossrank-empty")


@pytest.mark.elasticsearch
def test_what_the_cluster_refuses_is_said_in_its_words(elasticsearch_client):
    body = {"index_patterns": ["x-*"], "composed_of": ["crossrank-none"]}
    with pytest.raises(ConfigurationClusterError, match=r"got status 400 .*crossrank-none"):
        apply(elasticsearch_client, [Resource("_index_template", "crossrank-bad", body)])


@pytest.mark.elasticsearch
def test_remove_takes_out_what_apply_put_and_asks_first(
    elasticsearch_client, elasticsearch_url, capsys, monkeypatch
):
    run("apply", elasticsearch_url)
    elasticsearch_client.index(index="crossrank-products-kept", id="1", document={"id": "1"})
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody answers
    assert run("remove", elasticsearch_url) == 130
    assert elasticsearch_client.indices.exists_index_template(name="crossrank-products")
    assert run("remove", elasticsearch_url, "--yes") == 0
    assert not elasticsearch_client.indices.exists_index_template(name="crossrank-products")
    assert elasticsearch_client.indices.exists(index="crossrank-products-kept")
    assert run("remove", elasticsearch_url, "--yes", "--with-data") == 0
    assert not elasticsearch_client.indices.exists(index="crossrank-products-kept")
    assert "removed /crossrank-products-kept\n" in capsys.readouterr().out
