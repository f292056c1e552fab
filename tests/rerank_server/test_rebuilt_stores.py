"""Stores built anew beneath a log of changes: what holds then, and what is refused."""

from __future__ import annotations

import shutil

import pytest

from rerank_server import product_compaction, product_store
from rerank_server.contract.errors import ProductStoreError
from rerank_server.live_products import LiveProducts
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from rerank_server.product_changes import LOG_FILE, ChangeLogError
from rerank_server.product_store import ProductStore, read_manifest
from rerank_server.product_vectors import map_vectors
from rerank_server.reranker import Reranker
from tests.rerank_server.changing import open_live, product, version_of
from tests.rerank_server.conftest import TinyFolders
from tests.rerank_server.tiny_bundle import PRODUCTS, write_tiny_snapshot


@pytest.fixture
def folders(tiny_folders, tmp_path):
    """The tiny folders with a store of the test's own."""
    shutil.copytree(tiny_folders.products, tmp_path / "products")
    return TinyFolders(tiny_folders.bundle, tmp_path / "products", tmp_path / "next")


@pytest.fixture
def build(folders, tiny_bundle):
    """Build the store anew, of the first products, noting which changes of a log it holds."""

    def build_anew(count: int = len(PRODUCTS), live: LiveProducts | None = None) -> None:
        write_tiny_snapshot(folders.snapshot, PRODUCTS[:count])
        graphs = open_graphs(tiny_bundle, threads=1)
        through, name = (0, "") if live is None else (live.log.last(), live.log.name)
        build_product_store(
            tiny_bundle,
            graphs,
            folders.snapshot,
            folders.products,
            changes_through=through,
            changes_log=name,
        )

    return build_anew


@pytest.fixture
def start(folders, tmp_path):
    opened: list[LiveProducts] = []

    def open_one(**options):
        reranker, live = open_live(folders, tmp_path / "changes", **options)
        opened.append(live)
        return reranker, live

    yield open_one
    for live in opened:
        live.close()


def factor(reranker: Reranker, name: str) -> float:
    store = reranker.products
    return float(store.table.factors[store.rows([name])][0, 0])


def test_a_product_that_came_back_has_the_factors_of_a_store_built_since(start, build):
    reranker, live = start()
    assert factor(reranker, "milk-1") == 1.0
    live.delete(["milk-1"])
    live.upsert([product("milk-1", 1)], reranker.bundle)
    assert factor(reranker, "milk-1") == 0.0
    live.compact()
    live.upsert([product("milk-1", 2)], reranker.bundle)
    assert factor(reranker, "milk-1") == 0.0  # the compacted store has none for it
    build(live=live)
    assert live.take_rebuilt() == 1
    live.upsert([product("milk-1", 3)], reranker.bundle)
    assert (factor(reranker, "milk-1"), version_of(reranker.products, "milk-1")) == (1.0, 3)
    live.compact()
    assert (factor(reranker, "milk-1"), version_of(reranker.products, "milk-1")) == (1.0, 3)
    live.delete(["milk-1"])
    live.upsert([product("milk-1", 4)], reranker.bundle)
    assert factor(reranker, "milk-1") == 0.0


def test_a_store_built_anew_while_served_takes_its_place_with_all_changes(start, build):
    reranker, live = start()
    live.upsert([product("new", 3), product("milk-1", 7)], reranker.bundle)
    live.compact()
    live.upsert([product("later", 4)], reranker.bundle)
    before = reranker.products
    assert live.take_rebuilt() == 0
    build(count=3)
    assert live.take_rebuilt() == 1
    assert live.take_rebuilt() == 0
    store = reranker.products
    assert store is not before
    assert list(live.folder.glob("store-*")) == []  # that of the build before is gone
    names = ("new", "milk-1", "later", "cat-1")
    assert [version_of(store, name) for name in names] == [3, 7, 4, 0]
    assert store.size == 3 + 2
    live.upsert([product("new", 5)], reranker.bundle)
    assert live.compact() == 1
    assert [version_of(reranker.products, name) for name in names] == [5, 7, 4, 0]
    assert reranker.products.manifest is not None
    assert reranker.products.manifest.origin == read_manifest(live._held[0].base).origin


def test_what_the_new_snapshot_holds_is_not_put_over_it(start, build):
    reranker, live = start()
    live.upsert([product("new", 3)], reranker.bundle)
    build(live=live)
    live.upsert([product("later", 4)], reranker.bundle)
    live.take_rebuilt()
    assert [version_of(reranker.products, name) for name in ("new", "later")] == [0, 4]


def test_a_restart_finds_what_the_running_server_has_taken(start, build):
    reranker, live = start()
    live.upsert([product("new", 3)], reranker.bundle)
    live.compact()
    build(count=3)
    live.take_rebuilt()
    again, _ = start()
    assert again.products.size == reranker.products.size == 4
    assert version_of(again.products, "new") == 3


def test_a_store_of_another_bundle_is_not_taken_and_not_mixed_in(
    start, folders, other_folders, caplog
):
    reranker, live = start(spare_rows=4)
    live.upsert([product("new", 3)], reranker.bundle)
    shutil.rmtree(folders.products)
    shutil.copytree(other_folders.products, folders.products)
    for _ in range(3):
        assert live.take_rebuilt() == 0
    assert caplog.text.count("store built anew is not served") == 1
    with pytest.raises(ProductStoreError, match=r"got a store built anew .* want the one that"):
        live.compact()
    assert version_of(reranker.products, "new") == 3
    live.upsert([product("later", 4)], reranker.bundle)
    assert list(live.folder.glob("*store-*")) == []


def test_a_compaction_ends_where_its_base_is_built_anew_meanwhile(start, build, monkeypatch):
    reranker, live = start()
    live.upsert([product("new", 3)], reranker.bundle)
    planned = product_compaction._Compaction._plan

    def plan_and_build(self, read, through):
        plan = planned(self, read, through)
        build()  # of the same shape: no file would tell
        return plan

    with monkeypatch.context() as patch:
        patch.setattr(product_compaction._Compaction, "_plan", plan_and_build)
        with pytest.raises(ProductStoreError, match="got a store built anew"):
            live.compact()
    assert list(live.folder.glob("*store-*")) == []
    assert version_of(reranker.products, "new") == 3
    assert live.take_rebuilt() == 1
    assert version_of(reranker.products, "new") == 3


def test_a_store_replaced_while_it_is_opened_is_refused(folders, build, tiny_bundle, monkeypatch):
    def map_and_build(*arguments, **options):
        build()  # of the same shape: no file would tell
        return map_vectors(*arguments, **options)

    monkeypatch.setattr(product_store, "map_vectors", map_and_build)
    with pytest.raises(ProductStoreError, match="replaced while it was opened"):
        ProductStore.open(folders.products, tiny_bundle)


def test_a_store_that_holds_changes_of_another_log_is_refused(start, build, folders, tmp_path):
    reranker, live = start()
    live.upsert([product("new", 3)], reranker.bundle)
    build(live=live)
    other = LiveProducts(tmp_path / "others")
    with pytest.raises(ChangeLogError, match=r"got another log than the one whose .* build"):
        other.attach(reranker, folders.products)
    other.close()


def test_a_log_that_lost_changes_is_refused_where_a_store_holds_them(start):
    reranker, live = start()
    live.upsert([product("a", 3)], reranker.bundle)
    log = live.folder / LOG_FILE
    live.log._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(log, live.folder / "backup")
    live.upsert([product("b", 3)], reranker.bundle)
    live.compact()
    live.close()
    for left in live.folder.glob(f"{LOG_FILE}*"):
        left.unlink()
    shutil.copy(live.folder / "backup", log)
    with pytest.raises(ChangeLogError, match=r"got changes up to 1, want those up to 2 th.*store-"):
        start()
    (compacted,) = live.folder.glob("store-*")
    shutil.rmtree(compacted)  # as the message says
    again, _ = start()
    assert [version_of(again.products, name) for name in "ab"] == [3, 0]


def test_of_processes_that_start_together_one_compacts(start, monkeypatch):
    reranker, live = start()
    live.upsert([product(f"p{number}") for number in range(20)], reranker.bundle)
    written = []
    compact = product_compaction.compact
    second: list[Reranker] = []

    def compact_and_start(*arguments):
        compact(*arguments)
        written.append(arguments[-1])

    monkeypatch.setattr("rerank_server.live_products.compact", compact_and_start)
    original = LiveProducts._open_newest

    def open_and_meet(self, served, base, origin):
        held = original(self, served, base, origin)
        if not second:  # another process opens, finds too many changes too, and is faster
            second.append(reranker)
            second.append(start(spare_rows=8)[0])
        return held

    monkeypatch.setattr(LiveProducts, "_open_newest", open_and_meet)
    first, _ = start(spare_rows=8)
    assert written == [20]
    assert [one.products.size for one in (first, second[1])] == [25, 25]
