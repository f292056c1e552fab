"""Product indices under aliases of these tests' own, on a real Elasticsearch."""

from __future__ import annotations

import json

import pytest

from es_plugin_config.bulk import BulkWriter, DocumentRefusedError
from es_plugin_config.catalogue import CatalogueError, FieldNames, open_catalogue
from es_plugin_config.cluster import ClusterReadOnlyError, ConfigurationClusterError
from es_plugin_config.product_index import AliasError, IndexOptions, build_index
from es_plugin_config.source_index import IndexCatalogue
from es_plugin_config.vectors import ProductVectors
from rerank_server.commands.root import main
from tests.rerank_server.tiny_bundle import PRODUCTS, write_tiny_bundle, write_tiny_snapshot

ALIAS = "crossrank-products"


def lines(path, count, **columns):
    rows = [
        {"id": str(row), "text": f"milk {row}", "category": "dairy", **columns}
        for row in range(count)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return open_catalogue(path)


def never(seconds: float) -> None:
    pytest.fail(f"waited {seconds} s")


class Stopped:
    """A catalogue whose reader is interrupted at a row."""

    def __init__(self, catalogue, row):
        self.identity, self.count = catalogue.identity, catalogue.count
        self._catalogue, self._row = catalogue, row

    def products(self, names, start):
        for product in self._catalogue.products(names, start):
            if product.row == self._row:
                raise KeyboardInterrupt
            yield product


@pytest.mark.elasticsearch
def test_a_snapshot_becomes_an_index_with_vectors_that_knn_searches(
    elasticsearch_client, elasticsearch_url, tmp_path, capsys
):
    write_tiny_bundle(tmp_path / "bundle")
    write_tiny_snapshot(tmp_path / "snapshot")
    flags = ["--bundle", str(tmp_path / "bundle"), "--url", elasticsearch_url]
    assert main(["es", "index", str(tmp_path / "snapshot"), *flags]) == 0
    assert f": {len(PRODUCTS)} products of {len(PRODUCTS)} rows\n" in capsys.readouterr().out
    (name,) = elasticsearch_client.indices.get_alias(name=ALIAS)
    mapping = elasticsearch_client.indices.get_mapping(index=name)[name]["mappings"]
    assert mapping["properties"]["vector"]["dims"] == 2
    assert mapping["properties"]["vector"]["index_options"]["type"] == "int8_hnsw"
    near = {"field": "vector", "query_vector": [0.2, -1.0], "k": 1, "num_candidates": 10}
    (found,) = elasticsearch_client.search(index=ALIAS, knn=near)["hits"]["hits"]
    assert found["_id"] == "cat-1"
    assert found["_source"]["source"]["category_path"] == ["pet", "pet food", "cat food"]
    missing = {"bool": {"must_not": {"exists": {"field": "vector"}}}}
    (gift,) = elasticsearch_client.search(index=ALIAS, query=missing)["hits"]["hits"]
    assert gift["_id"] == "gift-1"  # its vector has no length
    assert main(["es", "index", str(tmp_path / "snapshot"), *flags]) == 0
    assert "whole already" in capsys.readouterr().out


@pytest.mark.elasticsearch
@pytest.mark.parametrize("quantisation", ["none", "int4"])
def test_vectors_may_be_quantised_otherwise(elasticsearch_client, tmp_path, quantisation):
    write_tiny_snapshot(tmp_path / "snapshot")
    vectors = ProductVectors(write_tiny_bundle(tmp_path / "bundle"), threads=1)
    catalogue = open_catalogue(tmp_path / "snapshot")
    options = IndexOptions(quantisation=quantisation)
    assert build_index(elasticsearch_client, catalogue, options, vectors).products == len(PRODUCTS)
    near = {"field": "vector", "query_vector": [0.1, 1.0], "k": 1, "num_candidates": 10}
    (found,) = elasticsearch_client.search(index=ALIAS, knn=near)["hits"]["hits"]
    assert found["_id"] in ("milk-1", "milk-2")


@pytest.mark.elasticsearch
def test_a_quantisation_that_cannot_be_is_refused_before_anything_is_written(
    elasticsearch_client, tmp_path
):
    write_tiny_snapshot(tmp_path / "snapshot")
    vectors = ProductVectors(write_tiny_bundle(tmp_path / "bundle"), threads=1)
    catalogue = open_catalogue(tmp_path / "snapshot")
    for quantisation, message in (
        ("bbq", "got vectors of 2 numbers, want 64 or more"),
        ("int9", r"want one of none, int8, int4, bbq \(nearest: int8\)"),
    ):
        options = IndexOptions(quantisation=quantisation)
        with pytest.raises(CatalogueError, match=message):
            build_index(elasticsearch_client, catalogue, options, vectors)
    assert not elasticsearch_client.indices.exists(index=f"{ALIAS}-*", allow_no_indices=False)


@pytest.mark.elasticsearch
def test_a_stopped_build_goes_on_and_the_alias_waits_for_it(elasticsearch_client, tmp_path):
    old = build_index(elasticsearch_client, lines(tmp_path / "old.jsonl", 3), IndexOptions())
    catalogue = lines(tmp_path / "new.jsonl", 25)
    options = IndexOptions(batch=1)
    with pytest.raises(KeyboardInterrupt):
        build_index(elasticsearch_client, Stopped(catalogue, 17), options)
    assert list(elasticsearch_client.indices.get_alias(name=ALIAS)) == [old.name]
    assert elasticsearch_client.count(index=ALIAS)["count"] == 3
    built = build_index(elasticsearch_client, catalogue, options)
    assert (built.resumed_from, built.products, built.rows) == (10, 25, 25)
    assert list(elasticsearch_client.indices.get_alias(name=ALIAS)) == [built.name]
    assert elasticsearch_client.indices.exists(index=old.name)  # kept, for going back
    third = build_index(elasticsearch_client, lines(tmp_path / "third.jsonl", 4), options)
    assert third.removed == (old.name,)


@pytest.mark.elasticsearch
def test_older_indices_are_removed_but_not_those_of_a_longer_alias(elasticsearch_client, tmp_path):
    longer = IndexOptions(f"{ALIAS}-kept-shoes")
    shoes = build_index(elasticsearch_client, lines(tmp_path / "shoes.jsonl", 3), longer)
    options = IndexOptions(f"{ALIAS}-kept", keep=0)
    first = build_index(elasticsearch_client, lines(tmp_path / "1.jsonl", 4), options)
    assert first.removed == ()
    second = build_index(elasticsearch_client, lines(tmp_path / "2.jsonl", 5), options)
    assert second.removed == (first.name,)
    (name,) = elasticsearch_client.indices.get_alias(name=longer.alias)
    assert name == shoes.name


@pytest.mark.elasticsearch
def test_repeated_ids_are_counted_and_the_last_one_stays(
    elasticsearch_client, elasticsearch_url, tmp_path, capsys
):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "text": "old"}\n{"id": "1", "text": "new"}\n')
    assert main(["es", "index", str(path), "--url", elasticsearch_url]) == 0
    assert "1 products of 2 rows, 1 repeat an id" in capsys.readouterr().out
    assert elasticsearch_client.get(index=ALIAS, id="1")["_source"]["text"] == "new"


@pytest.mark.elasticsearch
def test_an_index_that_is_there_is_read_page_by_page(elasticsearch_client, monkeypatch):
    monkeypatch.setattr("es_plugin_config.source_index.PAGE", 2)
    for number in range(5):
        elasticsearch_client.index(
            index="crossrank-shop", id=f"p{number}", document={"title": f"milk {number}"}
        )
    elasticsearch_client.indices.refresh(index="crossrank-shop")
    catalogue = IndexCatalogue(elasticsearch_client, "crossrank-shop")
    options = IndexOptions(names=FieldNames(id="_id", text=("title",)))
    built = build_index(elasticsearch_client, catalogue, options)
    assert (catalogue.count, built.products) == (5, 5)
    found = elasticsearch_client.get(index=ALIAS, id="p3")["_source"]
    assert found["text"] == "milk 3"
    assert found["source"] == {"title": "milk 3"}
    with pytest.raises(CatalogueError, match="index 'crossrank-none': got none of that name"):
        IndexCatalogue(elasticsearch_client, "crossrank-none")
    before = set(elasticsearch_client.indices.get(index=f"{ALIAS}-*"))
    wrong = IndexOptions(names=FieldNames(id="sku"))
    with pytest.raises(CatalogueError, match="got no 'sku'"):
        build_index(elasticsearch_client, catalogue, wrong)
    assert set(elasticsearch_client.indices.get(index=f"{ALIAS}-*")) == before


@pytest.mark.elasticsearch
def test_an_alias_that_names_two_indices_or_is_an_index_is_refused(elasticsearch_client, tmp_path):
    catalogue = lines(tmp_path / "a.jsonl", 1)
    for name in ("crossrank-a", "crossrank-b"):
        elasticsearch_client.indices.create(index=name, aliases={"crossrank-both": {}})
    with pytest.raises(AliasError, match=r"got 2 indices \(crossrank-a, crossrank-b\)"):
        build_index(elasticsearch_client, catalogue, IndexOptions(alias="crossrank-both"))
    with pytest.raises(AliasError, match="got an index of that name"):
        build_index(elasticsearch_client, catalogue, IndexOptions(alias="crossrank-a"))
    with pytest.raises(AliasError, match="want crossrank-products or a name that starts with"):
        build_index(elasticsearch_client, catalogue, IndexOptions(alias="crossrank-new"))


@pytest.mark.elasticsearch
def test_a_document_that_the_mapping_refuses_is_named(elasticsearch_client):
    mappings = {"dynamic": "strict", "properties": {"price": {"type": "float"}}}
    elasticsearch_client.indices.create(index="crossrank-strict", mappings=mappings)
    writer = BulkWriter(elasticsearch_client, "crossrank-strict", 10)
    with pytest.raises(
        DocumentRefusedError, match=r"document 'b' .*failed to parse field \[price\]"
    ):
        writer.write([("a", {"price": 1}), ("b", {"price": "cheap"})])
    with pytest.raises(DocumentRefusedError, match="strict_dynamic_mapping_exception"):
        writer.write([("c", {"colour": "red"})])


@pytest.mark.elasticsearch
def test_an_index_that_the_full_disk_closed_is_said_at_once(elasticsearch_client):
    block = {"blocks": {"read_only_allow_delete": True}}
    elasticsearch_client.indices.create(index="crossrank-full", settings=block)
    writer = BulkWriter(elasticsearch_client, "crossrank-full", 10, sleep=never)
    with pytest.raises(ClusterReadOnlyError, match=r"flood-stage .*\(free disk space first\)"):
        writer.write([("a", {})])


@pytest.mark.elasticsearch
def test_a_node_short_of_memory_is_waited_for_with_smaller_requests(elasticsearch_client):
    limit = "network.breaker.inflight_requests.limit"
    pauses = []

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            elasticsearch_client.cluster.put_settings(persistent={limit: None})

    elasticsearch_client.cluster.put_settings(persistent={limit: "2kb"})
    try:
        writer = BulkWriter(elasticsearch_client, "crossrank-busy", 100, sleep=wait)
        written = writer.write([(str(n), {"text": "x" * 400}) for n in range(100)])
    finally:
        elasticsearch_client.cluster.put_settings(persistent={limit: None})
    assert (written.created, written.pauses) == (100, 3)
    assert pauses == [0.25, 0.5, 1.0]
    elasticsearch_client.indices.refresh(index="crossrank-busy")
    assert elasticsearch_client.count(index="crossrank-busy")["count"] == 100


@pytest.mark.elasticsearch
def test_waiting_ends_with_the_reason_and_a_way_on(elasticsearch_client):
    limit = "network.breaker.inflight_requests.limit"
    pauses: list[float] = []
    elasticsearch_client.cluster.put_settings(persistent={limit: "1kb"})
    writer = BulkWriter(
        elasticsearch_client, "crossrank-busy", 10, patience_s=1.0, sleep=pauses.append
    )
    try:
        with pytest.raises(ConfigurationClusterError, match=r"status 429 .*same command resumes"):
            writer.write([("1", {"text": "x" * 4000})])
    finally:
        elasticsearch_client.cluster.put_settings(persistent={limit: None})


def test_the_command_wants_one_catalogue(capsys):
    assert main(["es", "index"]) == 1
    assert "catalogue: got none or two, want a file or --from-index" in capsys.readouterr().err
