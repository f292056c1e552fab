from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.bundle import read_bundle
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from rerank_server.product_store import ProductStore
from trainer.logs.snapshot import write_snapshot
from trainer.pipeline import table_at

TABLE_COLUMNS = (
    "categories", "levels", "attributes", "stats", "factors", "neighbours", "neighbour_weights",
    "gram", "as_of_day",
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tiny_run, tiny_export):
    return table_at(tiny_run.log.prepared, tiny_export.day)


def store_of(tmp_path, bundle, catalogue, table) -> ProductStore:
    write_snapshot(tmp_path / "snapshot", catalogue, table, bundle.schema)
    build_product_store(
        bundle, open_graphs(bundle, threads=1), tmp_path / "snapshot", tmp_path / "products"
    )
    return ProductStore.open(tmp_path / "products", bundle)


def test_a_store_built_from_a_snapshot_holds_the_trainers_table(tiny_run, tiny_export, table):
    bundle = read_bundle(tiny_export.bundle)
    store = ProductStore.open(tiny_export.products, bundle)
    for name in TABLE_COLUMNS:
        np.testing.assert_array_equal(getattr(store.table, name), getattr(table, name), name)
    ids = [record["id"] for record in tiny_run.catalogue.records]
    assert store.rows([*ids, "never seen"]).tolist() == list(range(len(ids) + 1))


def test_an_unknown_level_keeps_the_others_in_their_place(tiny_run, tiny_export, table, tmp_path):
    levels = tiny_run.catalogue.levels.copy()
    levels[0, 0] = 0  # no leaf
    levels[1, 1] = 0  # nothing between
    levels[2] = 0  # neither
    catalogue = replace(tiny_run.catalogue, levels=levels)
    store = store_of(tmp_path, read_bundle(tiny_export.bundle), catalogue, table)
    np.testing.assert_array_equal(store.table.levels, levels)
    lines = (tmp_path / "snapshot" / "products.jsonl").read_text().splitlines()
    first = json.loads(lines[0])["category_path"]
    assert len(first) == 3
    assert first[-1] == ""


def test_missing_numbers_are_null_and_come_back_missing(tiny_run, tiny_export, table, tmp_path):
    stats = table.stats.copy()
    stats[5] = np.nan
    moved = replace(table, stats=stats)
    store = store_of(tmp_path, read_bundle(tiny_export.bundle), tiny_run.catalogue, moved)
    np.testing.assert_array_equal(store.table.stats, stats)
    line = json.loads((tmp_path / "snapshot" / "products.jsonl").read_text().splitlines()[5])
    assert set(line["columns"].values()) == {None}


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(
    tiny_run, tiny_export, table, tmp_path
):
    folder, schema = tmp_path / "snapshot", read_bundle(tiny_export.bundle).schema
    write_snapshot(folder, tiny_run.catalogue, table, schema)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = replace(tiny_run.catalogue, records=[{"id": "only an id"}])
    with pytest.raises(KeyError):
        write_snapshot(folder, broken, table, schema)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]
