from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.bundle import read_bundle
from rerank_server.contract.page import SECONDS_PER_DAY
from rerank_server.contract.schema import FeatureSpec
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from rerank_server.product_store import ProductStore
from rerank_server.reranker import Reranker
from rerank_server.scorer import OnnxScorer
from tests.trainer.pages_by_id import search_page
from trainer.encoding.catalogue import read_catalogue, with_factors
from trainer.encoding.encoded import cutoff_days
from trainer.encoding.features import (
    _create_column,
    fit_past,
    fit_scales,
    log_schema,
    page_of,
    past_of,
    quantile_edges,
    select_pages,
    tables_by_day,
)
from trainer.errors import ConfigError
from trainer.logs.snapshot import write_snapshot


def assert_served_as_trained(log, reranker: Reranker, index: int, ids: list[str]) -> None:
    served = reranker.encode(search_page(log, index, ids))
    rows = slice(int(log.offsets[index]), int(log.offsets[index + 1]))
    np.testing.assert_array_equal(served.dense, log.dense[rows])
    np.testing.assert_array_equal(served.rows, log.rows[rows])
    np.testing.assert_array_equal(served.categories, log.categories[rows])
    events = served.sequence_rows.shape[0]
    np.testing.assert_array_equal(served.sequence_rows, log.sequence_rows[index, :events])
    assert (log.sequence_rows[index, events:] == -1).all()
    np.testing.assert_array_equal(served.sequence_features, log.sequence_features[index, :events])


@pytest.fixture(scope="module")
def days(tiny_log):
    times = tiny_log.prepared.page_times[tiny_log.selection.pages]
    return times // SECONDS_PER_DAY


@pytest.fixture(scope="module")
def tables(tiny_log, tiny_config, days):
    past = fit_past(tiny_log.prepared, cutoff_days(tiny_log.prepared, tiny_config.refit_days))
    return lambda: tables_by_day(tiny_log.prepared, past, np.unique(days))


def test_every_page_is_encoded_row_by_row_as_the_server_encodes_it(
    tiny_log, tiny_export, tables, days
):
    bundle = read_bundle(tiny_export.bundle)
    store = ProductStore.open(tiny_export.products, bundle)
    graphs = open_graphs(bundle, threads=1)
    scorer = OnnxScorer(graphs.scorer, provider="CPUExecutionProvider", threads=1)
    ids = [record["id"] for record in tiny_log.prepared.products()]
    reranker = Reranker(bundle, store, graphs.query, scorer)
    done = 0
    for day, table in tables():
        reranker.products = ProductStore(store._ids, store.vectors, table)
        for index in np.flatnonzero(days == day):
            assert_served_as_trained(tiny_log, reranker, int(index), ids)
            done += 1
    assert done == tiny_log.selection.pages.size


def test_a_store_built_from_a_snapshot_of_the_day_encodes_its_pages_alike(
    tiny_log, tiny_export, tables, days, tmp_path
):
    bundle = read_bundle(tiny_export.bundle)
    graphs = open_graphs(bundle, threads=1)
    scorer = OnnxScorer(graphs.scorer, provider="CPUExecutionProvider", threads=1)
    catalogue = read_catalogue(tiny_log.prepared)
    ids = [record["id"] for record in catalogue.records]
    chosen = np.unique(days)[[0, 40, 100, -1]].tolist()
    for day, table in tables():
        if day not in chosen:
            continue
        write_snapshot(
            tmp_path / "snapshot", with_factors(catalogue, table.factors), table, bundle.schema
        )
        build_product_store(bundle, graphs, tmp_path / "snapshot", tmp_path / "products")
        store = ProductStore.open(tmp_path / "products", bundle)
        for name in (
            "categories", "levels", "attributes", "stats", "factors", "neighbours",
            "neighbour_weights", "gram", "as_of_day",
        ):  # fmt: skip
            np.testing.assert_array_equal(getattr(store.table, name), getattr(table, name), name)
        reranker = Reranker(bundle, store, graphs.query, scorer)
        for index in np.flatnonzero(days == day):
            assert_served_as_trained(tiny_log, reranker, int(index), ids)


def test_own_purchases_are_not_counted_as_popularity(tiny_log, tables):
    """The shopper's own lines within the window are taken out of the product's sales."""
    log, checked = tiny_log, 0
    prepared = log.prepared
    column = log.schema.feature_names.index("sales_91d")
    for page in range(0, log.selection.pages.size, 7):
        number = int(log.selection.pages[page])
        day = int(prepared.page_times[number]) // SECONDS_PER_DAY
        of_days = prepared.interaction_times // SECONDS_PER_DAY
        window = (of_days >= day - 91) & (of_days < day)
        shopper = int(prepared.page_shoppers[number])
        own = np.zeros(window.size, np.bool_)
        own[prepared.shopper_offsets[shopper] : prepared.shopper_offsets[shopper + 1]] = True
        counted = np.bincount(prepared.interaction_rows[window & ~own], minlength=prepared.size)
        rows = slice(int(log.offsets[page]), int(log.offsets[page + 1]))
        np.testing.assert_array_equal(log.dense[rows, column], counted[log.rows[rows]])
        checked += int((window & own).any())
    assert checked > 10  # pages where there was something to take out


def test_a_page_sees_only_what_came_before_it(tiny_log):
    prepared = tiny_log.prepared
    for page in range(0, prepared.page_count, 11):
        history = page_of(prepared, page, 0, np.arange(2)).history
        assert (history.times < prepared.page_times[page]).all()
        assert (np.diff(history.times) >= 0).all()
        shopper = int(prepared.page_shoppers[page])
        own = slice(*prepared.shopper_offsets[shopper : shopper + 2])
        before = prepared.interaction_times[own] < prepared.page_times[page]
        assert history.size == int(before.sum())


def test_an_unknown_place_is_the_same_as_no_other(tiny_log):
    prepared = tiny_log.prepared
    nowhere = replace(
        prepared,
        page_places=np.full_like(prepared.page_places, -1),
        interaction_places=np.full_like(prepared.interaction_places, -1),
    )
    history = page_of(nowhere, prepared.page_count - 1, 0, np.arange(2)).history
    assert not history.same_place.any()


def test_discovery_pages_hold_what_the_shopper_never_bought_and_a_positive(tiny_log):
    log = tiny_log
    prepared, selection = log.prepared, log.selection
    discovery = np.flatnonzero(selection.surfaces == log.schema.surfaces.index("discovery"))
    assert discovery.size
    for index in discovery:
        rows = slice(int(log.offsets[index]), int(log.offsets[index + 1]))
        bought = prepared.interaction_rows[past_of(prepared, int(selection.pages[index]))]
        assert not np.isin(log.rows[rows], bought).any()
        assert log.labels[rows, 0].any()
        assert log.rows[rows].size > 1
        assert (log.dense[rows, log.schema.feature_names.index("own_count")] == 0).all()


def test_a_surface_of_which_the_log_has_no_page_is_refused(tiny_log):
    with pytest.raises(ConfigError, match="surfaces: got 'home', of which the log has no page"):
        select_pages(tiny_log.prepared, ("search", "home"))
    with pytest.raises(ConfigError, match="want some of those it has: promotion, search"):
        select_pages(tiny_log.prepared, ("serch",))


def test_signals_that_count_sales_know_their_window(tiny_log):
    windows = {signal.name: signal.window_days for signal in log_schema(tiny_log.prepared).signals}
    assert windows["store_sales_28d"] == 28
    assert windows["store_sales_91d"] == 91
    assert windows["promotion_display"] == 0


def test_a_column_takes_its_room_on_disk_before_it_is_written(tmp_path):
    path = tmp_path / "dense.npy"
    _create_column(path, (50_000, 8), np.float32)
    assert path.stat().st_blocks * 512 >= path.stat().st_size > 50_000 * 8 * 4
    assert not np.load(path, mmap_mode="r").any()


def test_scales_are_mean_and_deviation_of_what_is_known(tiny_log):
    schema = replace(
        tiny_log.schema,
        features=(FeatureSpec("a", "x"), FeatureSpec("b", "x", "log1p"), FeatureSpec("c", "x")),
    )
    dense = np.array([[1, 0, 7], [3, np.e - 1, 7], [np.nan, 0, 7], [100, 9, 9]], np.float32)
    fitted = fit_scales(schema, dense, np.array([0, 1, 2])).features
    assert (fitted[0].mean, fitted[0].scale) == (2.0, 1.0)
    assert fitted[1].mean == pytest.approx(1 / 3, abs=1e-6)
    assert fitted[1].scale == pytest.approx(np.sqrt(2) / 3, abs=1e-6)
    assert fitted[2].scale == 1e-3  # a constant keeps a scale to divide by


def test_edges_are_quantiles_of_all_but_the_most_common_value():
    column = np.concatenate([np.zeros(50), np.linspace(1, 5, 41)])
    edges = quantile_edges(column[:, None], 4)
    np.testing.assert_allclose(edges[0], [0, 2, 3, 4, 5], atol=0.01)


def test_edges_of_a_constant_increase_all_the_same():
    edges = quantile_edges(np.ones((10, 2)), 3)
    assert edges.shape == (2, 4)
    assert (np.diff(edges, axis=1) > 0).all()
