"""A node with the plugin, an index of groceries on it, and a rerank server that it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.elasticsearch_installation import Installation
from tests.es_plugin_config.plugin.plugin_nodes import PluginNode, installed, plugin_node
from tests.es_plugin_config.plugin.rerank_servers import RealServer, ToldServer, told_server
from tests.rerank_server.tiny_bundle import write_tiny_bundle, write_tiny_store

GROCERIES = 40
# Long enough for a machine that does other things; tests of the deadline set their own.
PATIENT = "10s"


@pytest.fixture(scope="package")
def plugin_installation() -> Installation:
    return installed()


@pytest.fixture(scope="package")
def first_node(plugin_installation: Installation) -> Iterator[PluginNode]:
    """The node that all of these tests ask; others may join it."""
    settings = {
        "discovery.type": "multi-node",
        "cluster.initial_master_nodes": '["node-1"]',
    }
    with plugin_node(plugin_installation, settings) as node:
        fill(node)
        yield node


def fill(node: PluginNode) -> None:
    """Groceries p0 to p39 on three shards; more `milk` in the text scores higher."""
    mapping: dict[str, dict[str, object]] = {
        "product_id": {"type": "keyword"},
        "title": {"type": "text"},
        "price": {"type": "double"},
        "promoted": {"type": "boolean"},
        "vector": {"type": "dense_vector", "dims": 2, "similarity": "dot_product"},
    }
    settings: dict[str, object] = {"number_of_shards": 3, "number_of_replicas": 0}
    # the shards stay when other nodes join and leave
    settings["index.routing.allocation.require._name"] = "node-1"
    index = {"settings": settings, "mappings": {"properties": mapping}}
    assert node.call("PUT", "/groceries", index).status == 200
    lines: list[dict[str, object]] = []
    for number in range(GROCERIES):
        lines.append({"index": {"_id": f"doc-{number}"}})
        lines.append(
            {
                "product_id": f"p{number}",
                "title": "milk " * (number % 7 + 1),
                "price": number / 4,
                "promoted": number % 2 == 0,
                "vector": [1.0, 0.0] if number % 2 else [0.6, 0.8],
            }
        )
    body = "".join(json.dumps(line) + "\n" for line in lines)
    assert not node.call("POST", "/groceries/_bulk?refresh=true", body).body["errors"]


@pytest.fixture
def told(first_node: PluginNode) -> Iterator[ToldServer]:
    """A server that answers as the test says, which the node calls."""
    with told_server() as server:
        call(first_node, server.address)
        yield server


def call(node: PluginNode, address: str, **settings: object) -> None:
    """Have the node call `address`, with the settings of these tests but for those given."""
    plain: dict[str, object] = {
        "deadline": PATIENT,
        "breaker__failures": 1_000,
        "tls__enabled": False,
    }
    plain |= {"tls__certificate_authorities": None, "max_in_flight": None, "breaker__pause": None}
    answer = node.set(address=address, **(plain | settings))
    assert answer.status == 200, answer.body


@pytest.fixture(scope="package")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bundle and the product store of a server of the tests' size."""
    root = tmp_path_factory.mktemp("tiny")
    bundle = write_tiny_bundle(root / "bundle")
    write_tiny_store(root / "products", bundle, root / "snapshot")
    return root / "bundle", root / "products"


@pytest.fixture
def real(first_node: PluginNode, tiny_folders: tuple[Path, Path]) -> Iterator[RealServer]:
    """The real server as a process of its own, which the node calls."""
    server = RealServer(*tiny_folders)
    call(first_node, server.address)
    yield server
    server.go_on()
    server.kill()
