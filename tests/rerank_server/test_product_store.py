"""Opening a product store: only a whole one, only with its own bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.bundle import write_bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.product_store import ProductStore
from tests.rerank_server.tiny_bundle import tiny_content


@pytest.fixture
def copy(tiny_folders, tmp_path):
    return shutil.copytree(tiny_folders.products, tmp_path / "copy")


def test_unknown_ids_get_the_unknown_row(tiny_folders, tiny_bundle):
    store = ProductStore.open(tiny_folders.products, tiny_bundle)
    assert store.rows(["dog-1", "nothing", "milk-1"]).tolist() == [2, 5, 0]
    assert store.table.unknown_row == 5


def test_columns_are_mapped_not_loaded_and_cannot_be_written(tiny_folders, tiny_bundle):
    store = ProductStore.open(tiny_folders.products, tiny_bundle)
    assert isinstance(store.vectors, np.ndarray)
    assert not store.vectors.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        store.vectors[0, 0] = 1


def test_a_store_of_another_bundle_is_refused(tiny_folders, tmp_path):
    content = replace(tiny_content(), figures={"search_ndcg_at_10": 0.1})
    other = write_bundle(tmp_path / "bundle", content)
    with pytest.raises(ProductStoreError, match=r"got a store built with bundle .* build it again"):
        ProductStore.open(tiny_folders.products, other)


@pytest.mark.parametrize(
    "name",
    ["store.json", "vectors.npy", "stats.npy", "id_entries.npy", "id_buckets.npy", "ids.bin"],
)
def test_a_missing_file_is_named(copy, tiny_bundle, name):
    (copy / name).unlink()
    with pytest.raises(ProductStoreError, match=rf"{name}: got .*No such file"):
        ProductStore.open(copy, tiny_bundle)


def test_a_cut_column_is_refused(copy, tiny_bundle):
    path = copy / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ProductStoreError, match=r"vectors\.npy: got .* want a whole numpy file"):
        ProductStore.open(copy, tiny_bundle)


def test_a_column_of_another_shape_is_refused(copy, tiny_bundle):
    np.save(copy / "levels.npy", np.zeros((6, 3), np.int32))
    with pytest.raises(ProductStoreError, match=r"got int32 \(6, 3\), want int32 \(6, 2\)"):
        ProductStore.open(copy, tiny_bundle)


def test_another_format_version_is_refused(copy, tiny_bundle):
    value = json.loads((copy / "store.json").read_text()) | {"format_version": 7}
    (copy / "store.json").write_text(json.dumps(value))
    with pytest.raises(ProductStoreError, match="got format_version 7, want 2; build it again"):
        ProductStore.open(copy, tiny_bundle)
