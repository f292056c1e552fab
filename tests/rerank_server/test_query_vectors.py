"""Query vectors: encoded once, shared read-only."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_server.query_vectors import QueryVectors
from rerank_server.scorer import ScorerError


class CountingGraph:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, arrays):
        self.calls += 1
        return {"vectors": arrays["token_mask"].sum(axis=1, keepdims=True)}


def test_a_query_is_encoded_once(tiny_bundle):
    graph = CountingGraph()
    queries = QueryVectors(graph, tiny_bundle.text_encoder)
    assert [queries.vector(text).tolist() for text in ("milk", "fresh milk", "milk")] == [
        [1.0],
        [2.0],
        [1.0],
    ]
    assert graph.calls == 2


def test_a_shared_vector_cannot_be_changed(tiny_bundle):
    vector = QueryVectors(CountingGraph(), tiny_bundle.text_encoder).vector("milk")
    with pytest.raises(ValueError, match="read-only"):
        vector += 1


def test_a_failing_graph_is_a_scorer_error(tiny_bundle):
    def failing(arrays):
        raise RuntimeError("no memory")

    with pytest.raises(ScorerError, match=r"query\.onnx: got no memory, want a vector"):
        QueryVectors(failing, tiny_bundle.text_encoder).vector("milk")


def test_an_empty_query_has_a_finite_vector(tiny_bundle):
    vector = QueryVectors(CountingGraph(), tiny_bundle.text_encoder).vector("")
    assert np.isfinite(vector).all()
