"""The same configuration and product index on Elasticsearch 9."""

from __future__ import annotations

import json

import pytest
from elasticsearch import Elasticsearch

from es_plugin_config.recipes import Wanted, retrieve
from rerank_server.commands.root import main
from tests.es_plugin_config.nodes import own_node
from tests.rerank_server.tiny_bundle import PRODUCTS, write_tiny_bundle, write_tiny_snapshot

# The newest that runs on the packaged Java.
VERSION = "9.2.0"

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]


@pytest.fixture(scope="module")
def url():
    with own_node(version=VERSION) as address:
        yield address


def test_applying_is_safe_to_repeat_and_leaves_no_drift(url, capsys):
    assert main(["es", "apply", "--url", url]) == 0
    assert "put /_index_template/ubi_events\n" in capsys.readouterr().out
    with Elasticsearch(url, request_timeout=60) as client:
        document = {"@timestamp": "2026-01-01T00:00:00Z", "action_name": "click"}
        client.index(index="ubi_events", document=document, op_type="create")
    assert main(["es", "apply", "--url", url, "--check"]) == 0
    assert capsys.readouterr().out.startswith("0 of ")
    assert main(["es", "apply", "--url", url]) == 0
    assert "put " not in capsys.readouterr().out


def test_the_product_index_is_built_and_searched(url, tmp_path, capsys):
    write_tiny_bundle(tmp_path / "bundle")
    write_tiny_snapshot(tmp_path / "snapshot")
    flags = ["--bundle", str(tmp_path / "bundle"), "--url", url]
    assert main(["es", "index", str(tmp_path / "snapshot"), *flags]) == 0
    assert f"{len(PRODUCTS)} products" in capsys.readouterr().out
    with Elasticsearch(url, request_timeout=60) as client:
        for recipe in ("text", "vector", "hybrid", "fused", "balanced"):
            found = retrieve(client, "crossrank-products", recipe, Wanted("milk", size=3))
            assert found[0].id in ("milk-1", "milk-2")
        like = Wanted(like=("cat-1",), size=1)
        assert retrieve(client, "crossrank-products", "vector", like)[0].id == "cat-1"
    assert main(["es", "search", "milk", "--recipe", "text", "--url", url, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
