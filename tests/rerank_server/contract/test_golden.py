"""Golden pages: they survive JSON and a smaller product table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rerank_server.contract.errors import BundleError
from rerank_server.contract.features import FeatureEncoder
from rerank_server.contract.golden import (
    golden_from_json,
    golden_to_json,
    move_page,
    replay_golden,
    subset_products,
)
from rerank_server.contract.text import TextEncoder
from tests.rerank_server.tiny_bundle import (
    SCHEMA,
    tiny_golden,
    tiny_graph_bytes,
    tiny_graphs,
    tiny_pages,
    tiny_table,
    tiny_tokenizer,
)


def test_json_keeps_every_number_and_every_nan():
    golden = tiny_golden(tiny_graph_bytes())
    read = golden_from_json(json.loads(json.dumps(golden_to_json(golden))), SCHEMA)
    for got, want in zip(read.pages, golden.pages, strict=True):
        np.testing.assert_array_equal(got.retrieval_scores, want.retrieval_scores)
        np.testing.assert_array_equal(got.signals, want.signals)
        np.testing.assert_array_equal(got.history.times, want.history.times)
        assert got.history.same_place.dtype == np.bool_
        assert (got.query, got.surface, got.time) == (want.query, want.surface, want.time)
    np.testing.assert_array_equal(read.table.stats, golden.table.stats)
    assert read.table.factors.dtype == np.float32


def test_another_schema_is_refused():
    value = golden_to_json(tiny_golden(tiny_graph_bytes()))
    value["pages"][0]["signals"] = [[1.0, 2.0]] * 4
    with pytest.raises(BundleError, match=r"golden\.json: got .*2 columns where 1 are wanted"):
        golden_from_json(value, SCHEMA)


def test_a_page_encodes_equally_on_the_products_it_touches():
    table = tiny_table()
    page = tiny_pages()[1]  # the unknown product alone
    page = move_page(page, np.arange(4, dtype=np.int32))
    for page in tiny_pages():
        rows, small = subset_products(table, [page])
        moved = move_page(page, rows)
        whole = FeatureEncoder(SCHEMA, 4).encode(page, table)
        part = FeatureEncoder(SCHEMA, small.unknown_row + 1).encode(moved, small)
        np.testing.assert_array_equal(part.dense, whole.dense)
        np.testing.assert_array_equal(part.categories, whole.categories)
        np.testing.assert_array_equal(part.sequence_features, whole.sequence_features)


def test_the_subset_keeps_the_unknown_row_last():
    rows, small = subset_products(tiny_table(), [tiny_pages()[1]])
    assert rows.tolist() == [3]
    assert small.unknown_row == 0


def test_replay_finds_no_difference_and_a_planted_one():
    graphs = tiny_graph_bytes()
    golden = tiny_golden(graphs)
    encoder = TextEncoder(tiny_tokenizer())
    assert replay_golden(golden, SCHEMA, encoder, tiny_graphs(graphs)) == 0.0
    golden.probabilities[0][2, 1] += 0.25
    assert replay_golden(golden, SCHEMA, encoder, tiny_graphs(graphs)) == pytest.approx(0.25)
