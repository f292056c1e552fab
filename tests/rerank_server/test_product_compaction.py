"""Compaction: changes that come meanwhile mix nothing up, a full disk leaves what there was."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rerank_server import product_compaction
from rerank_server.contract.errors import ProductStoreError
from tests.rerank_server.changing import open_live, product, version_of


@pytest.mark.parametrize("batch", [1, 2, 512])
def test_a_change_between_two_readings_moves_no_other(tiny_folders, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(product_compaction, "BATCH", batch)
    reranker, live = open_live(tiny_folders, tmp_path / "changes")
    names = ["a", "b", "milk-1", "c", "d"]
    live.upsert([product(name, 3) for name in names], reranker.bundle)
    planned = product_compaction._Compaction._plan

    def plan_and_change(self, read, through):
        plan = planned(self, read, through)
        live.upsert([product("a", 4)], reranker.bundle)
        live.delete(["c"])
        return plan

    monkeypatch.setattr(product_compaction._Compaction, "_plan", plan_and_change)
    live.compact()
    versions = [version_of(reranker.products, name) for name in names]
    assert versions == [4, 3, 3, 0, 3]
    live.close()


def test_a_full_disk_leaves_what_is_served(tiny_folders, tmp_path, monkeypatch):
    reranker, live = open_live(tiny_folders, tmp_path / "changes")
    live.upsert([product("a", 3)], reranker.bundle)
    served = reranker.products

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ProductStoreError, match="No space left on device, want room"):
            live.compact()
    assert reranker.products is served
    assert version_of(served, "a") == 3
    assert list(Path(live.folder).glob("*store-*")) == []
    assert live.compact() == 1
    assert version_of(reranker.products, "a") == 3
    live.close()


def test_rows_stay_and_deleted_ones_lead_nowhere(tiny_folders, tmp_path):
    reranker, live = open_live(tiny_folders, tmp_path / "changes")
    live.upsert([product("new")], reranker.bundle)
    live.delete(["milk-2", "cat-1"])
    live.compact()
    store = reranker.products
    assert store.rows(["milk-1", "dog-1", "gift-1", "new"]).tolist() == [0, 2, 4, 5]
    assert store.size == 4
    assert store.table.neighbours[0].tolist() == [1, -1]  # the row of milk-2, which is gone
    live.upsert([product("cat-1", 2)], reranker.bundle)
    live.compact()
    assert reranker.products.rows(["cat-1", "milk-2"]).tolist()[0] == 6
    assert version_of(reranker.products, "milk-2") == 0
    assert store.manifest is not None
    assert store.manifest.rows == 6
    live.close()


def test_what_a_killed_compaction_left_is_removed(tiny_folders, tmp_path):
    reranker, live = open_live(tiny_folders, tmp_path / "changes")
    cut = live.folder / ".store-000000000000-000000000000-7.123-whole.new"
    cut.mkdir()
    (cut / "vectors.npy").write_bytes(b"half")
    live.upsert([product("a")], reranker.bundle)
    live.compact()
    assert not cut.exists()
    live.close()
