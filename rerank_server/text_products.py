"""Vectors of products that are known by their words only."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.graph_inputs import Graph, ProductBatch, product_inputs
from rerank_server.contract.page import Floats
from rerank_server.onnx_graph import open_graph
from rerank_server.scorer import ScorerError

BATCH = 512


class TextProducts:
    """Encodes texts with `product.onnx`, all else unknown; may be shared by threads."""

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        """Prepare; the graph is opened at the first text, for most servers never see one."""
        self._bundle = bundle
        self._threads = threads
        self._graph: Graph | None = None
        self._lock = threading.Lock()

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Return the product vector of each text, shape (texts, width).

        Raises:
            ScorerError: When onnxruntime fails, or a vector is not finite.
        """
        graph = self.graph()
        parts = [
            self._encode(graph, texts[start : start + BATCH])
            for start in range(0, len(texts), BATCH)
        ]
        width = self._bundle.manifest.widths.product
        return np.concatenate([np.empty((0, width), np.float32), *parts])

    def graph(self) -> Graph:
        """Return `product.onnx`, opened when it is first asked for."""
        with self._lock:
            if self._graph is None:
                self._graph = open_graph(self._bundle, "product.onnx", threads=self._threads)
            return self._graph

    def _encode(self, graph: Graph, texts: Sequence[str]) -> Floats:
        size, schema = len(texts), self._bundle.schema
        batch = ProductBatch(
            texts=texts,
            categories=np.zeros(size, np.int32),
            levels=np.zeros((size, len(schema.levels)), np.int32),
            attributes=np.zeros((size, len(schema.attributes)), np.int32),
            identities=np.zeros(size, np.int32),
            factors=np.zeros((size, self._bundle.manifest.widths.factors), np.float32),
        )
        inputs = product_inputs(batch, self._bundle.text_encoder, schema.vectors)
        try:
            vectors: Floats = graph(inputs)["vectors"]
        except Exception as error:  # onnxruntime's errors share no base class
            raise ScorerError(f"product.onnx: got {error}, want vectors") from error
        if not np.isfinite(vectors).all():
            raise ScorerError("product.onnx: got a vector that is not finite, want finite ones")
        return vectors
