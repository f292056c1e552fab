"""Products that change while served: seen at once, kept over restarts, compacted beneath."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server.bundle_store import BundleStore
from rerank_server.contract.bundle import write_bundle
from rerank_server.contract.errors import ProductStoreError
from rerank_server.live_products import LiveProducts
from rerank_server.onnx_graph import open_graphs
from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.product_build import build_product_store
from rerank_server.product_overlay import StoreFullError
from rerank_server.product_records import ProductError
from rerank_server.product_store import ProductStore
from rerank_server.reranker import Reranker
from tests.rerank_server.changing import open_live, product, version_of
from tests.rerank_server.tiny_bundle import (
    NOW,
    PRODUCTS,
    SCHEMA,
    tiny_content,
    write_tiny_snapshot,
)


@pytest.fixture
def live(tiny_folders, tmp_path):
    opened: list[LiveProducts] = []

    def start(**options):
        reranker, products = open_live(tiny_folders, tmp_path / "changes", **options)
        opened.append(products)
        return reranker, products

    yield start
    for products in opened:
        products.close()


def test_a_change_is_seen_by_the_next_page(live):
    reranker, products = live()
    assert reranker.products.size == 5
    assert products.upsert([product("new"), product("milk-1", 7)], reranker.bundle) == 2
    assert version_of(reranker.products, "new") == 1
    assert version_of(reranker.products, "milk-1") == 7
    assert reranker.products.size == 6
    assert products.delete(["dog-1", "nothing"]) == 4
    assert version_of(reranker.products, "dog-1") == 0
    assert reranker.products.size == 5


def test_other_products_stay_as_they_were(live, tiny_reranker):
    reranker, products = live()
    products.upsert([product("new")], reranker.bundle)
    page = SearchPage(["gift-1", "milk-2", "cat-1", "dog-1"], query="milk", time=NOW)
    assert reranker.rerank(page).scores.tolist() == tiny_reranker.rerank(page).scores.tolist()


def test_a_changed_product_keeps_its_factors_and_who_its_neighbours_are(live, tiny_reranker):
    """milk-1 and milk-2 are neighbours; the same description again must change no feature"""
    reranker, products = live()
    lines = [
        product(
            item[0],
            category=item[1],
            category_path=item[2],
            brand=item[3],
            size=item[4],
            columns={"price": item[5], "sales_28d": item[6]},
        )
        for item in PRODUCTS[:2]
    ]
    history = ShopperHistory(product_ids=["milk-2"], times=np.array([NOW - 86_400]))
    page = SearchPage(["milk-1", "dog-1"], time=NOW, history=history)
    want = tiny_reranker.encode(page)
    products.upsert(lines, reranker.bundle)
    rows = reranker.products.rows(["milk-1", "milk-2"])
    assert rows.min() > 5
    np.testing.assert_array_equal(reranker.products.table.factors[rows], [[1.0], [0.5]])
    got = reranker.encode(page)
    np.testing.assert_array_equal(got.dense, want.dense)
    knn = reranker.products.table.named_as
    assert knn is not None
    assert knn(rows).tolist() == [0, 1]


def test_a_product_that_comes_back_has_no_factors_and_no_neighbours(live):
    reranker, products = live()
    products.delete(["milk-1"])
    products.upsert([product("milk-1")], reranker.bundle)
    row = reranker.products.rows(["milk-1"])
    assert reranker.products.table.factors[row].tolist() == [[0.0]]
    assert reranker.products.table.neighbours[row].tolist() == [[-1, -1]]


def test_changes_are_there_after_a_restart_and_after_compaction(live):
    reranker, products = live()
    products.upsert([product("new", 3), product("milk-1", 4)], reranker.bundle)
    products.delete(["dog-1"])
    products.close()
    for compacted in (False, True):
        again, following = live()
        store = again.products
        assert [version_of(store, name) for name in ("new", "milk-1", "dog-1")] == [3, 4, 0]
        assert store.size == 5
        if not compacted:
            assert following.compact() == 1
            assert again.products is not store
            assert again.products.overlay.used == 0
            assert again.products.manifest.changes_through == 3
        following.close()


def test_a_compacted_store_scores_as_the_changed_one(live, tiny_bundle):
    reranker, products = live()
    products.upsert([product("new", 3), product("milk-2", 4)], reranker.bundle)
    products.delete(["cat-1"])
    ids = ["new", "milk-2", "milk-1", "dog-1", "cat-1", "gift-1", "never"]
    history = ShopperHistory(product_ids=["milk-1", "new"], times=np.array([NOW - 99, NOW - 9]))
    page = SearchPage(ids, query="fresh milk", time=NOW, history=history)
    before = reranker.rerank(page)
    products.compact()
    after = reranker.rerank(page)
    assert after.candidate_ids == before.candidate_ids
    np.testing.assert_array_equal(after.scores, before.scores)
    (folder,) = products.folder.glob("store-*")
    opened = ProductStore.open(folder, tiny_bundle)  # an ordinary store
    assert opened.rows(ids).tolist() == [5, 1, 0, 2, 6, 4, 6]
    assert opened.size == 5


_CHANGES = st.lists(
    st.tuples(st.sampled_from(["milk-1", "dog-1", "a", "b", "c"]), st.integers(0, 9)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(_CHANGES, st.integers(0, 12), st.integers(0, 12))
def test_any_changes_equal_a_dictionary(tiny_folders, tmp_path_factory, changes, at, again):
    """Version 0 deletes; the store is compacted after `at` changes and opened anew after `again`"""
    folder = tmp_path_factory.mktemp("changes")
    reranker, products = open_live(tiny_folders, folder)
    want = dict.fromkeys(["milk-2", "cat-1", "gift-1"], True)
    versions: dict[str, int] = {}
    for index, (name, version) in enumerate(changes):
        if index == at:
            products.compact()
        if index == again:
            products.close()
            reranker, products = open_live(tiny_folders, folder)
        if version:
            products.upsert([product(name, version)], reranker.bundle)
        else:
            products.delete([name])
        versions[name] = version
    got = {name: version_of(reranker.products, name) for name in versions}
    assert got == versions
    held = {"milk-1", "dog-1"} - set(versions)
    alive = sum(version > 0 for version in versions.values())
    assert reranker.products.size == len(want) + len(held) + alive
    products.close()


def test_a_broken_product_changes_nothing_and_is_named(live):
    reranker, products = live()
    broken = product("b", columns={"price": "1", "sales_28d": 1})
    with pytest.raises(ProductError, match=r"products\[1\]: price: got '1', want a finite"):
        products.upsert([product("a"), broken], reranker.bundle)
    with pytest.raises(ProductError, match=r"changes\[1\]: got id 'a' twice"):
        products.upsert([product("a"), product("a", 2)], reranker.bundle)
    with pytest.raises(ProductError, match="got 0, want 1 to 1000"):
        products.delete([])
    assert version_of(reranker.products, "a") == 0
    assert products.log.last() == 0


def test_more_changes_than_fit_are_refused_until_compacted(live):
    reranker, products = live(spare_rows=4)
    products.upsert([product("a"), product("b")], reranker.bundle)
    with pytest.raises(StoreFullError, match="got 2 products with room for 1, want fewer until"):
        products.upsert([product("c"), product("d")], reranker.bundle)
    assert products.log.last() == 2
    products.compact()
    products.upsert([product("c"), product("d")], reranker.bundle)
    assert [version_of(reranker.products, name) for name in "abcd"] == [1, 1, 1, 1]


def test_changes_that_do_not_fit_are_compacted_before_serving(live):
    reranker, products = live()
    products.upsert([product(f"p{number}", number) for number in range(1, 30)], reranker.bundle)
    products.close()
    again, _ = live(spare_rows=8)
    assert version_of(again.products, "p29") == 29
    assert again.products.overlay.used == 0


def test_a_new_bundle_encodes_the_changes_anew(live, tiny_folders, other_folders, tmp_path):
    reranker, products = live()
    products.upsert([product("new", 3)], reranker.bundle)
    other = Reranker.open(other_folders.bundle, other_folders.products, threads=1)
    products.attach(other, other_folders.products)
    assert version_of(other.products, "new") == 3
    products.upsert([product("new", 4), product("milk-1", 5)], reranker.bundle)
    for store in (reranker.products, other.products):
        assert [version_of(store, name) for name in ("new", "milk-1")] == [4, 5]


def test_a_bundle_with_more_columns_takes_what_the_changes_hold(live, tmp_path):
    reranker, products = live()
    products.upsert([product("new", 3)], reranker.bundle)
    schema = replace(
        SCHEMA,
        product_columns=(
            *SCHEMA.product_columns,
            replace(SCHEMA.product_columns[0], name="rating"),
        ),
    )
    content = tiny_content()
    wide = np.concatenate([content.golden.table.stats, np.full((4, 1), np.nan)], axis=1)
    table = replace(content.golden.table, stats=wide.astype(np.float32))
    content = replace(content, schema=schema, golden=replace(content.golden, table=table))
    bundle = write_bundle(tmp_path / "wider", content)
    write_tiny_snapshot(tmp_path / "snapshot")
    lines = (tmp_path / "snapshot" / "products.jsonl").read_text()
    (tmp_path / "snapshot" / "products.jsonl").write_text(
        lines.replace('"price"', '"rating": 5, "price"')
    )
    graphs = open_graphs(bundle, threads=1)
    build_product_store(bundle, graphs, tmp_path / "snapshot", tmp_path / "products")
    other = Reranker.open(tmp_path / "wider", tmp_path / "products", threads=1)
    products.attach(other, tmp_path / "products")
    row = other.products.rows(["new"])
    assert other.products.table.stats[row, :2].tolist() == [[3.0, 6.0]]
    assert np.isnan(other.products.table.stats[row, 2])


def test_changes_that_a_snapshot_holds_are_not_put_over_it(live, tiny_bundle, tmp_path):
    reranker, products = live()
    last = products.upsert([product("new", 3)], reranker.bundle)
    write_tiny_snapshot(tmp_path / "snapshot")
    graphs = open_graphs(tiny_bundle, threads=1)
    build_product_store(
        tiny_bundle, graphs, tmp_path / "snapshot", tmp_path / "newer", changes_through=last
    )
    other = Reranker.open(reranker.bundle.folder, tmp_path / "newer", threads=1)
    products.attach(other, tmp_path / "newer")
    assert version_of(other.products, "new") == 0
    assert version_of(reranker.products, "new") == 3


def test_a_cut_store_is_refused_at_the_start(tiny_folders, tmp_path):
    shutil.copytree(tiny_folders.products, tmp_path / "products")
    path = tmp_path / "products" / "stats.npy"
    path.write_bytes(path.read_bytes()[:-8])
    reranker = Reranker.open(tiny_folders.bundle, tiny_folders.products, threads=1)
    live = LiveProducts(tmp_path / "changes")
    with pytest.raises(ProductStoreError, match=r"stats\.npy: got .* want a whole numpy file"):
        live.attach(reranker, tmp_path / "products")
    live.close()


def test_a_cut_compacted_store_is_made_again_from_the_log(live, caplog):
    reranker, products = live()
    products.upsert([product("new", 3)], reranker.bundle)
    products.compact()
    products.close()
    (folder,) = products.folder.glob("store-*")
    (folder / "vectors.npy").write_bytes(b"")
    again, _ = live()
    assert version_of(again.products, "new") == 3
    assert "compacted store unusable" in caplog.text


def test_a_broken_record_in_the_log_harms_no_other(live, caplog):
    reranker, products = live()
    products.upsert([product("a", 3), product("b", 4)], reranker.bundle)
    database = products.log._database
    database.execute("UPDATE changes SET record = '{' WHERE product_id = ?", (b"a",))
    products.close()
    again, _ = live()
    assert [version_of(again.products, name) for name in "ab"] == [0, 4]
    assert "change left out" in caplog.text


def test_compaction_under_readers_pauses_nobody_and_loses_nothing(tiny_folders, tmp_path):
    """Readers see whole products, never one that was there before and is there again after"""
    reranker, products = open_live(tiny_folders, tmp_path / "changes", spare_rows=128)
    bundles = BundleStore(reranker, Reranker.open)

    def exchange(held, store):
        other = held.with_products(store)
        return other if bundles.exchange(held, other) else None

    products.follow(exchange)
    seen: list[int] = []
    stopping = threading.Event()
    names = [f"p{number}" for number in range(8)]

    def read() -> None:
        last = dict.fromkeys(names, 0)
        while not stopping.is_set():
            current = bundles.bundles.current
            assert not current.rerank(SearchPage(names, time=NOW)).degraded
            for name in names:
                version = version_of(current.products, name)
                assert version >= last[name]
                last[name] = version
            seen.append(1)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    version, refused = 0, 0
    deadline = time.monotonic() + 60
    while version < 30 and time.monotonic() < deadline:
        try:
            products.upsert([product(name, version + 1) for name in names], reranker.bundle)
            version += 1
        except StoreFullError:
            refused += 1
            time.sleep(0.05)
    stopping.set()
    for reader in readers:
        reader.join()
    products.close()
    assert version == 30
    assert len(seen) > 2
    current = bundles.bundles.current
    assert [version_of(current.products, name) for name in names] == [30] * 8
    manifest = current.products.manifest
    assert manifest is not None
    assert manifest.changes_through > 0


def test_without_a_log_a_store_has_no_room_for_changes(tiny_reranker):
    assert tiny_reranker.products.overlay is None
    assert tiny_reranker.products.table.named_as is None
