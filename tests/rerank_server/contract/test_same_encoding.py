"""The encoding equals the one it was first written as, bit for bit: trained networks rely on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.contract.feature_list import feature_specs
from rerank_server.contract.features import FeatureEncoder
from rerank_server.contract.page import SECONDS_PER_DAY, History, Page
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import ProductColumn, Schema, SignalSpec, normalise
from tests.rerank_server.contract import reference_encoding as reference

PRODUCTS = 300
DAY = 20_000
COLUMNS = (ProductColumn("price"), ProductColumn("sales_28d", 28), ProductColumn("sales_91d", 91))
SIGNAL_COLUMNS = (SignalSpec("promoted"), SignalSpec("sold_here_28d", 28))


def make_schema() -> Schema:
    rng = np.random.default_rng(3)
    specs = tuple(
        replace(spec, mean=float(rng.normal()), scale=float(rng.uniform(0.2, 3)))
        for spec in feature_specs(COLUMNS, SIGNAL_COLUMNS)
    )
    return Schema(
        features=specs,
        product_columns=COLUMNS,
        signals=SIGNAL_COLUMNS,
        levels=("leaf", "middle"),
        attributes=("brand", "size"),
        surfaces=("search",),
        event_kinds=("purchase",),
        objectives=("purchase",),
        categories=("neutral", *(f"category {number}" for number in range(1, 8))),
        sequence_length=32,
        history_limit=500,
    )


def make_table() -> ProductTable:
    """Products whose last row is unknown, as in a store."""
    rng = np.random.default_rng(4)
    rows = PRODUCTS + 1
    leaf = rng.integers(0, 30, rows)
    stats = rng.gamma(1.0, 5.0, (rows, len(COLUMNS))).astype(np.float32)
    stats[rng.random(stats.shape) < 0.1] = np.nan
    neighbours = rng.integers(-1, PRODUCTS, (rows, 12)).astype(np.int32)
    factors = rng.normal(size=(rows, 8)).astype(np.float32)
    table = ProductTable(
        categories=(leaf % 8).astype(np.int32),
        levels=np.stack([leaf, leaf % 11], axis=1).astype(np.int32),
        attributes=rng.integers(0, 9, (rows, 2)).astype(np.int32),
        stats=stats,
        factors=factors,
        neighbours=neighbours,
        neighbour_weights=(rng.random((rows, 12)) * (neighbours >= 0)).astype(np.float32),
        gram=factors.astype(np.float64).T @ factors.astype(np.float64),
        as_of_day=DAY,
    )
    for column in (table.categories, table.levels, table.attributes, table.factors):
        column[-1] = 0
    table.stats[-1] = np.nan
    table.neighbours[-1], table.neighbour_weights[-1] = -1, 0
    return table


SCHEMA, TABLE = make_schema(), make_table()


def make_page(seed: int, candidates: int, events: int, *, baskets: int, unknown: float) -> Page:
    rng = np.random.default_rng(seed)
    now = DAY * SECONDS_PER_DAY + int(rng.integers(-3, 30 * SECONDS_PER_DAY))
    rows = rng.permutation(PRODUCTS)[:candidates].astype(np.int32)
    rows[rng.random(candidates) < unknown] = PRODUCTS
    times = np.sort(now - rng.integers(0, baskets, events) * (400 * SECONDS_PER_DAY // baskets))
    bought = np.where(rng.random(events) < 0.5, rng.choice(rows, events), -1)
    bought = np.where(bought >= 0, bought, rng.integers(0, PRODUCTS + 1, events))
    scores = rng.gamma(2.0, 4.0, candidates).astype(np.float32)
    scores[rng.random(candidates) < rng.choice([0, 0.3, 1])] = np.nan
    signals = rng.gamma(1.0, 2.0, (candidates, len(SIGNAL_COLUMNS))).astype(np.float32)
    signals[rng.random(signals.shape) < 0.3] = np.nan
    return Page(
        query="",
        surface=0,
        time=now,
        rows=rows,
        retrieval_scores=scores,
        signals=signals,
        history=History(
            rows=bought.astype(np.int32),
            times=times.astype(np.int64),
            kinds=np.zeros(events, np.int8),
            same_place=rng.random(events) < 0.3,
            discounted=rng.random(events) < 0.3,
        ),
    )


PAGES = st.builds(
    make_page,
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 3, 10, 100, 300]),
    st.sampled_from([0, 1, 2, 31, 32, 33, 150, 499, 500, 700]),
    baskets=st.sampled_from([1, 2, 40, 400 * SECONDS_PER_DAY]),
    unknown=st.sampled_from([0.0, 0.2, 1.0]),
)


def assert_same_bits(got, want) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(want).tobytes()


@given(st.lists(PAGES, min_size=1, max_size=3))
def test_every_array_of_every_page_is_the_same(pages):
    encoder = FeatureEncoder(SCHEMA, PRODUCTS + 1)  # keeps scratch memory from page to page
    first = reference.FeatureEncoder(SCHEMA, PRODUCTS + 1)
    for page in pages:
        got, want = encoder.encode(page, TABLE), first.encode(page, TABLE)
        for name in ("dense", "rows", "categories", "sequence_rows", "sequence_features"):
            assert_same_bits(getattr(got, name), getattr(want, name))
        assert_same_bits(normalise(SCHEMA, got.dense), reference.normalise(SCHEMA, want.dense))


def test_the_golden_pages_are_the_same(tiny_bundle):
    golden = tiny_bundle.golden
    rows = golden.table.unknown_row + 1
    encoder = FeatureEncoder(tiny_bundle.schema, rows)
    first = reference.FeatureEncoder(tiny_bundle.schema, rows)
    for page in golden.pages:
        got, want = encoder.encode(page, golden.table), first.encode(page, golden.table)
        assert_same_bits(got.dense, want.dense)
        assert_same_bits(got.sequence_features, want.sequence_features)


@pytest.mark.parametrize("shape", [(0,), (1,), (1000,), (3, 50)])
def test_normalised_features_are_the_same_at_the_edges(shape):
    rng = np.random.default_rng(9)
    dense = rng.normal(0, 100, (*shape, len(SCHEMA.features))).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = np.nan
    dense[rng.random(dense.shape) < 0.1] = 0
    dense[rng.random(dense.shape) < 0.05] = 1e30
    dense[rng.random(dense.shape) < 0.05] = -np.finfo(np.float32).tiny
    kept = dense.copy()
    assert_same_bits(normalise(SCHEMA, dense), reference.normalise(SCHEMA, dense))
    np.testing.assert_array_equal(dense, kept)  # the argument is not written to
