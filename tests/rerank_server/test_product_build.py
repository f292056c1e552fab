"""Building a product store: right rows and vectors, and clear words on a broken snapshot."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from rerank_server import product_build
from rerank_server.contract.errors import ProductStoreError
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from rerank_server.product_store import ProductStore
from rerank_server.product_vectors import KINDS
from tests.rerank_server.tiny_bundle import PRODUCTS, write_tiny_snapshot

FILES = (
    "vectors.npy",
    "stats.npy",
    "neighbours.npy",
    "ids.bin",
    "id_offsets.npy",
    "id_entries.npy",
)


@pytest.fixture
def snapshot(tmp_path):
    write_tiny_snapshot(tmp_path / "snapshot")
    return tmp_path / "snapshot"


def build(bundle, snapshot, **options) -> ProductStore:
    out = snapshot.parent / "store"
    build_product_store(bundle, open_graphs(bundle, threads=1), snapshot, out, **options)
    return ProductStore.open(out, bundle)


def test_each_product_gets_its_rows_and_vector(tiny_bundle, snapshot):
    store = build(tiny_bundle, snapshot)
    table = store.table
    assert store.size == 5
    assert table.categories.tolist() == [1, 1, 2, 2, 0, 0]
    assert table.levels.tolist() == [[1, 1], [1, 1], [2, 2], [0, 2], [0, 0], [0, 0]]
    assert table.attributes.tolist() == [[1, 1], [0, 1], [1, 2], [0, 0], [0, 0], [0, 0]]
    np.testing.assert_allclose(table.stats[0], [1.0, 10])
    assert np.isnan(table.stats[3, 0])
    assert np.isnan(table.stats[-1]).all()
    assert table.neighbours[-1].tolist() == [-1, -1]
    want = np.array([[0.1, 1], [0.1, 0.5], [0.2, 0], [0.2, -1], [0, 0], [0, 0]])
    np.testing.assert_allclose(store.vectors[:], want, atol=1e-7)


def test_batches_change_nothing(tiny_bundle, snapshot, monkeypatch):
    whole = np.array(build(tiny_bundle, snapshot).vectors)
    monkeypatch.setattr(product_build, "BATCH", 2)
    progress = []
    store = build(
        tiny_bundle, snapshot, progress=lambda done, total: progress.append((done, total))
    )
    np.testing.assert_array_equal(store.vectors, whole)
    assert progress == [(2, 5), (4, 5), (5, 5)]


def change_line(snapshot, number, **fields) -> None:
    path = snapshot / "products.jsonl"
    lines = path.read_text().splitlines()
    value = json.loads(lines[number]) | fields
    lines[number] = json.dumps({key: item for key, item in value.items() if item != "REMOVE"})
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "milk-1"}, r"got id 'milk-1' in lines 1 and 3, want each product once"),
        ({"id": ""}, r"products\.jsonl:3: got id '', want a text of 1 to 256 bytes"),
        ({"id": "x" * 10_000}, r":3: got id 'x+', want a text of 1 to 256 bytes"),
        ({"id": 7}, r":3: got id '7', want a text"),
        ({"text": "REMOVE"}, r":3: got no \['text'\]"),
        ({"brand": "REMOVE"}, r":3: got no \['brand'\]"),
        ({"columns": {"prize": 1, "sales_28d": 1}}, r"got no column 'price' \(nearest: prize\)"),
        ({"columns": {"price": "1", "sales_28d": 1}}, r":3: price: got '1', want a finite"),
        ({"columns": {"price": float("nan"), "sales_28d": 1}}, r":3: price: got nan, want a fin"),
        ({"category_path": "pet"}, r":3: got category_path pet, want a list of texts, leaf"),
    ],
)
def test_a_broken_line_is_named(tiny_bundle, snapshot, fields, message):
    change_line(snapshot, 2, **fields)
    with pytest.raises(ProductStoreError, match=message):
        build(tiny_bundle, snapshot)
    assert [path.name for path in snapshot.parent.iterdir()] == ["snapshot"]


@pytest.mark.parametrize(("lines", "message"), [(4, "got 4 lines, want 5"), (6, "got more than 5")])
def test_lines_and_arrays_must_be_as_many(tiny_bundle, snapshot, lines, message):
    path = snapshot / "products.jsonl"
    text = path.read_text().splitlines()
    text.append(text[0].replace("milk-1", "new"))
    path.write_text("\n".join(text[:lines]) + "\n")
    with pytest.raises(ProductStoreError, match=message):
        build(tiny_bundle, snapshot)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("neighbours", np.full((5, 2), 9, np.int32), "got rows -1 to 9, want -1 to 4"),
        ("neighbours", np.full((4, 2), -1, np.int32), r"neighbours\.npy: got \(4, 2\)"),
        ("factors", np.full((5, 1), np.inf, np.float32), "factors.npy: got a number that is not"),
        ("factors", np.zeros((5, 3), np.float32), r"gram\.npy: got \(1, 1\), want \(3, 3\)"),
        ("factors", np.zeros((5, 1)), r"got float64 \(5, 1\), want float32 of 2 dimensions"),
        ("factors", np.zeros((0, 1), np.float32), "got 0 products, want at least 1"),
    ],
)
def test_broken_arrays_are_refused(tiny_bundle, snapshot, name, array, message):
    np.save(snapshot / f"{name}.npy", array)
    with pytest.raises(ProductStoreError, match=message):
        build(tiny_bundle, snapshot)


def test_a_cut_array_is_refused(tiny_bundle, snapshot):
    path = snapshot / "gram.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ProductStoreError, match=r"gram\.npy: got .* want a whole numpy file"):
        build(tiny_bundle, snapshot)


def test_a_pickle_is_never_loaded(tiny_bundle, snapshot):
    np.save(snapshot / "gram.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ProductStoreError, match=r"gram\.npy: got .*Python objects"):
        build(tiny_bundle, snapshot)


def test_another_snapshot_format_is_refused(tiny_bundle, snapshot):
    (snapshot / "snapshot.json").write_text('{"format_version": 2, "as_of_day": 1}')
    with pytest.raises(ProductStoreError, match="got format_version 2, want 1"):
        build(tiny_bundle, snapshot)


def test_a_full_disk_leaves_the_old_store(tiny_bundle, snapshot, monkeypatch):
    build(tiny_bundle, snapshot)
    write_tiny_snapshot(snapshot, PRODUCTS[:3])
    save = np.save

    def full(path, array, **options):
        if path.name == "gram.npy":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(path, array, **options)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ProductStoreError, match="No space left on device, want room"):
        build(tiny_bundle, snapshot)
    assert ProductStore.open(snapshot.parent / "store", tiny_bundle).size == 5
    assert sorted(path.name for path in snapshot.parent.iterdir()) == ["snapshot", "store"]


def test_a_killed_build_goes_on_where_it_was(tiny_bundle, snapshot, monkeypatch):
    whole = build(tiny_bundle, snapshot)
    want = {name: (snapshot.parent / "store" / name).read_bytes() for name in FILES}
    monkeypatch.setattr(product_build, "BATCH", 2)
    monkeypatch.setattr(product_build, "CHECKPOINT_PRODUCTS", 2)

    def interrupt(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt  # leaves what is there, as a kill does

    with pytest.raises(KeyboardInterrupt):
        build(tiny_bundle, snapshot, progress=interrupt)
    done = []
    again = build(tiny_bundle, snapshot, progress=lambda count, _: done.append(count))
    assert done == [5]
    assert again.size == whole.size == 5
    for name, data in want.items():
        assert (snapshot.parent / "store" / name).read_bytes() == data
    assert sorted(path.name for path in snapshot.parent.iterdir()) == ["snapshot", "store"]


def test_a_changed_snapshot_is_built_from_the_start(tiny_bundle, snapshot, monkeypatch):
    monkeypatch.setattr(product_build, "BATCH", 2)
    monkeypatch.setattr(product_build, "CHECKPOINT_PRODUCTS", 2)

    def interrupt(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tiny_bundle, snapshot, progress=interrupt)
    change_line(snapshot, 0, id="milk-9")
    done = []
    store = build(tiny_bundle, snapshot, progress=lambda count, _: done.append(count))
    assert done == [2, 4, 5]
    assert store.rows(["milk-9", "milk-1"]).tolist() == [0, 5]


def test_two_builds_of_one_store_are_refused(tiny_bundle, snapshot):
    def build_too(done: int, _: int) -> None:
        with pytest.raises(ProductStoreError, match="got another process that builds it"):
            build(tiny_bundle, snapshot)

    assert build(tiny_bundle, snapshot, progress=build_too).size == 5


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_stored_as_asked(tiny_bundle, snapshot, kind):
    store = build(tiny_bundle, snapshot, vectors=kind)
    want = np.array([[0.1, 1], [0.1, 0.5], [0.2, 0], [0.2, -1], [0, 0], [0, 0]])
    got = store.vectors[np.arange(6)]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol={"float32": 1e-7, "float16": 3e-4}.get(kind, 4e-3))
    assert store.manifest is not None
    assert (store.manifest.vectors, bool(store.manifest.loss)) == (kind, kind != "float32")
