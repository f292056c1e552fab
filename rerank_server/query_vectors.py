"""Vectors of query texts, the frequent ones kept."""

from __future__ import annotations

from functools import lru_cache, partial

from rerank_server.contract.graph_inputs import Graph, query_inputs
from rerank_server.contract.page import Floats
from rerank_server.contract.text import TextEncoder
from rerank_server.scorer import ScorerError

CACHED_QUERIES = 10_000


class QueryVectors:
    """Encodes queries with `query.onnx`; may be shared by threads."""

    def __init__(self, graph: Graph, text_encoder: TextEncoder) -> None:
        # no method of ours, whose cycle would keep the graph alive after its bundle is replaced
        self._cached = lru_cache(CACHED_QUERIES)(partial(_encode, graph, text_encoder))

    def vector(self, query: str) -> Floats:
        """Return the vector of one query, shape (query width,); read-only, for it is shared.

        Raises:
            ScorerError: When onnxruntime fails.
        """
        return self._cached(query)


def _encode(graph: Graph, text_encoder: TextEncoder, query: str) -> Floats:
    inputs = query_inputs([query], text_encoder)
    try:
        vector: Floats = graph(inputs)["vectors"][0].copy()
    except Exception as error:  # onnxruntime's errors share no base class
        raise ScorerError(f"query.onnx: got {error}, want a vector") from error
    vector.setflags(write=False)
    return vector
