from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from es_plugin_config.catalogue import CatalogueError, FieldNames, open_catalogue, reach
from es_plugin_config.vectors import ProductVectors
from rerank_server.contract.bundle import write_bundle
from tests.rerank_server.tiny_bundle import (
    PRODUCTS,
    tiny_content,
    tiny_graph_bytes,
    write_tiny_snapshot,
)

ROWS = [
    {"sku": 7, "name": "Fresh milk", "group": {"name": "dairy"}, "price": "1.5", "tags": ["a", ""]},
    {"sku": "8", "name": None, "group": None, "price": None, "tags": None},
]
NAMES = FieldNames(id="sku", text=("name", "tags"), category="group.name")


def write_lines(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_columns_are_read_under_the_names_they_have(tmp_path):
    catalogue = open_catalogue(write_lines(tmp_path / "shop.jsonl", ROWS))
    milk, bare = catalogue.products(NAMES, 0)
    assert (milk.row, milk.id, milk.text) == (0, "7", "Fresh milk a")
    assert (milk.category, milk.category_path) == ("dairy", ("dairy",))
    assert milk.numbers == {"price": 1.5}
    assert (bare.id, bare.text, bare.category, bare.category_path) == ("8", "", "", ())
    assert bare.numbers == {}


def test_every_form_of_a_file_gives_the_same_products(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415 - only where it is installed

    rows = [{"id": str(row), "text": f"product {row}", "price": row / 2} for row in range(7)]
    plain = write_lines(tmp_path / "a.jsonl", rows)
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=3)
    read = [
        list(open_catalogue(path).products(FieldNames(), 4))
        for path in (plain, packed, tmp_path / "a.parquet")
    ]
    assert [product.row for product in read[0]] == [4, 5, 6]
    assert read[0] == read[1] == read[2]
    assert open_catalogue(tmp_path / "a.parquet").count == 7


def test_equal_content_has_equal_identity(tmp_path):
    first = open_catalogue(write_lines(tmp_path / "a.jsonl", ROWS))
    second = open_catalogue(write_lines(tmp_path / "b.jsonl", ROWS))
    other = open_catalogue(write_lines(tmp_path / "c.jsonl", ROWS[:1]))
    assert first.identity == second.identity != other.identity


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"sky": "1"}], r"c\.jsonl:1: got no 'sku' \(nearest: sky\)"),
        ([{"sku": ""}], "got id '', want a text of 1 to 512 bytes"),
        ([{"sku": {"a": 1}}], "want a text of 1 to 512 bytes"),
        ([{"sku": "1", "price": "cheap"}], "got price 'cheap', want a number"),
        ([["sku"]], "got list, want an object"),
    ],
)
def test_a_row_that_is_no_product_is_refused_with_its_place(tmp_path, rows, message):
    catalogue = open_catalogue(write_lines(tmp_path / "c.jsonl", rows))
    with pytest.raises(CatalogueError, match=message):
        list(catalogue.products(NAMES, 0))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "got no file .*, want one, or a folder with snapshot.json"),
        ("a.csv", b"", "got ending '.csv', want one of .jsonl, .ndjson, .parquet"),
        ("a.parquet", b"no", "want Parquet"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogueError, match=message):
        open_catalogue(tmp_path / name)


def test_names_with_dots_reach_into_objects_unless_a_column_has_the_name():
    assert reach({"a": {"b": 1}}, "a.b") == 1
    assert reach({"a.b": 2, "a": {"b": 1}}, "a.b") == 2
    assert reach({"a": 3}, "a.b") is None


def test_vectors_are_those_of_the_bundle_s_product_graph(tmp_path, tiny_bundle_for_search):
    write_tiny_snapshot(tmp_path / "snapshot")
    catalogue = open_catalogue(tmp_path / "snapshot")
    products = list(catalogue.products(FieldNames(), 0))
    assert catalogue.count == len(PRODUCTS)
    # (category row / 10, first factor); gift-1 has an unknown category and no factor
    want = [[0.1, 1.0], [0.1, 0.5], [0.2, 0.0], [0.2, -1.0], [0.0, 0.0]]
    vectors = ProductVectors(tiny_bundle_for_search, threads=1).encode(products)
    np.testing.assert_allclose(vectors, want, atol=1e-6)
    assert vectors.dtype == np.float32


def test_factors_of_another_width_are_refused(tmp_path, tiny_bundle_for_search):
    write_tiny_snapshot(tmp_path / "snapshot")
    np.save(tmp_path / "snapshot" / "factors.npy", np.ones((len(PRODUCTS), 3), np.float32))
    products = list(open_catalogue(tmp_path / "snapshot").products(FieldNames(), 0))
    with pytest.raises(CatalogueError, match=r"factors of product 'milk-1': got \(3,\), want \(1,"):
        ProductVectors(tiny_bundle_for_search, threads=1).encode(products)


def test_a_vector_that_is_not_finite_is_refused(tmp_path):
    write_tiny_snapshot(tmp_path / "snapshot")
    bundle = write_bundle(tmp_path / "bundle", tiny_content(tiny_graph_bytes()))
    np.save(tmp_path / "snapshot" / "factors.npy", np.full((len(PRODUCTS), 1), np.inf, np.float32))
    products = list(open_catalogue(tmp_path / "snapshot").products(FieldNames(), 0))
    with pytest.raises(CatalogueError, match="vector of product 'milk-1'"):
        ProductVectors(bundle, threads=1).encode(products)
