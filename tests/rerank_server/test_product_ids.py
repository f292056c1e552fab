"""Ids to rows: equal to a dictionary, also where hashes collide, in under a millisecond."""

from __future__ import annotations

import zlib
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.contract.errors import ProductStoreError
from rerank_server.product_ids import ProductIds, ProductIdWriter


def write(folder, ids) -> ProductIds:
    writer = ProductIdWriter(folder)
    for product_id in ids:
        writer.add(product_id)
    writer.close()
    return ProductIds.open(folder)


@given(
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=30, unique=True),
    st.lists(st.text(min_size=1, max_size=6), max_size=10),
)
def test_lookup_equals_a_dictionary(tmp_path_factory, ids, others):
    lookup = write(tmp_path_factory.mktemp("ids"), ids)
    rows = {product_id: row for row, product_id in enumerate(ids)}
    asked = [*ids, *others]
    want = [rows.get(product_id, len(ids)) for product_id in asked]
    assert lookup.rows(asked).tolist() == want


def test_ids_of_one_hash_are_told_apart(tmp_path):
    # two well-known words of one CRC-32
    first, second = "plumless", "buckeroo"
    assert zlib.crc32(first.encode()) == zlib.crc32(second.encode())
    lookup = write(tmp_path, [first, "a", second])
    assert lookup.rows([second, first, "a", "b"]).tolist() == [2, 0, 1, 3]
    alone = tmp_path / "alone"
    alone.mkdir()
    assert write(alone, [first]).rows([second]).tolist() == [1]


def test_an_id_twice_is_refused_with_its_lines(tmp_path):
    with pytest.raises(ProductStoreError, match=r"got id 'b' in lines 2 and 4, want each"):
        write(tmp_path, ["a", "b", "c", "b"])


def test_no_ids_give_no_rows(tmp_path):
    assert write(tmp_path, ["a"]).rows([]).tolist() == []


def test_a_cut_file_is_refused(tmp_path):
    write(tmp_path, ["abc", "def"])
    (tmp_path / "ids.bin").write_bytes(b"abc")
    with pytest.raises(ProductStoreError, match=r"ids\.bin: got 3 bytes, want 6"):
        ProductIds.open(tmp_path)


@pytest.mark.slow
def test_a_thousand_ids_of_a_million_are_found_in_under_a_millisecond(tmp_path):
    lookup = write(tmp_path, (f"product-{number}" for number in range(1_000_000)))
    generator = np.random.default_rng(0)
    asked = generator.integers(0, 1_000_000, 1_000)
    ids = [f"product-{number}" for number in asked]
    rows, times = lookup.rows(ids), []
    for _ in range(20):
        start = perf_counter()
        rows = lookup.rows(ids)
        times.append(perf_counter() - start)
    assert rows.tolist() == asked.tolist()
    assert min(times) < 1e-3
