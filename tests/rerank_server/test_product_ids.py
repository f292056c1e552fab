"""Ids to rows: equal to a dictionary, also where hashes collide, in under a millisecond."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server import product_ids
from rerank_server.contract.errors import ProductStoreError
from rerank_server.product_ids import ProductIds, ProductIdWriter, hash_ids, pack_ids


def write(folder, ids) -> ProductIds:
    ids = list(ids)
    writer = ProductIdWriter(folder, len(ids))
    for start in range(0, len(ids), 7):
        writer.add(ids[start : start + 7])
    writer.close()
    return ProductIds.open(folder)


@settings(max_examples=40, deadline=None)  # each writes files
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


def hash_of_length(ids) -> np.ndarray:
    hashes: np.ndarray = ids.sizes.astype(np.uint64)
    return hashes


@settings(max_examples=40, deadline=None)  # each writes files
@given(
    st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=30, unique=True),
    st.lists(st.text(min_size=1, max_size=3), max_size=10),
)
def test_ids_of_one_hash_are_told_apart(tmp_path_factory, ids, others):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_ids, "hash_ids", hash_of_length)
        lookup = write(tmp_path_factory.mktemp("ids"), ids)
        rows = {product_id: row for row, product_id in enumerate(ids)}
        asked = [*ids, *others]
        want = [rows.get(product_id, len(ids)) for product_id in asked]
        assert lookup.rows(asked).tolist() == want


def test_the_hash_is_that_of_the_docstring():
    # "ab": (97 + 1) base + (98 + 1) base^2, then SplitMix64's finaliser, in exact integers
    base, whole = 0x9E3779B97F4A7C15, 1 << 64
    mixed = (98 * base + 99 * base * base) % whole
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % whole
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % whole
    assert hash_ids(pack_ids(["x", "ab"])).tolist()[1] == mixed ^ mixed >> 31


def test_an_id_with_a_zero_at_its_end_is_another(tmp_path):
    assert write(tmp_path, ["a", "a\0"]).rows(["a\0", "a", "\0"]).tolist() == [1, 0, 2]


def test_an_empty_id_is_of_no_product(tmp_path):
    lookup = write(tmp_path, ["a", "", "b", ""])
    assert lookup.rows(["b", "", "a"]).tolist() == [2, 4, 0]
    assert (lookup.size, lookup.row_count) == (2, 4)


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
