"""Vectors stored smaller: how far they may be off, and what that costs is measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rerank_server.contract.errors import ProductStoreError
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_vectors import held_as, measure_loss, to_bytes

VECTORS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e4, 1e4, width=32),
)


def test_bytes_by_hand():
    stored, scales = to_bytes(np.array([[1.27, -0.64, 0.004], [0, 0, 0]], np.float32))
    assert stored.tolist() == [[127, -64, 0], [0, 0, 0]]
    np.testing.assert_allclose(scales[0], 0.01, rtol=1e-6)


@settings(deadline=None)
@given(VECTORS)
def test_an_error_is_at_most_half_a_step(vectors):
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    got = held_as(vectors, "int8")[:]
    assert (np.abs(got - vectors) <= step / 2 * 1.001 + 1e-30).all()


@settings(deadline=None)
@given(VECTORS)
def test_half_precision_keeps_three_digits(vectors):
    got = held_as(vectors, "float16")[:]
    np.testing.assert_allclose(got, vectors, rtol=1e-3, atol=1e-7)


def test_numbers_beyond_half_precision_are_refused():
    with pytest.raises(ProductStoreError, match="got a number of 1e\\+05, want at most 65504"):
        held_as(np.array([[1e5]], np.float32), "float16")


def test_one_row_and_many_read_alike():
    for kind in ("float16", "int8"):
        vectors = held_as(np.array([[1.0, 2.0], [3.0, -4.0]], np.float32), kind)
        np.testing.assert_array_equal(vectors[-1], vectors[np.array([1])][0])


def test_the_loss_is_that_of_the_golden_pages(tiny_bundle):
    graphs = open_graphs(tiny_bundle, threads=1)
    assert measure_loss(tiny_bundle, graphs, "float32") is None
    half, byte = (measure_loss(tiny_bundle, graphs, kind) for kind in ("float16", "int8"))
    assert half is not None
    assert byte is not None
    assert half.largest_score_difference < byte.largest_score_difference < 4e-3
    assert byte.ndcg_at_10 == pytest.approx(1.0, abs=1e-3)
