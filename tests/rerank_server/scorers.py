"""Scorers that misbehave in one way each, to stand in for the bundle's."""

from __future__ import annotations

import threading
import time

import numpy as np

from rerank_server.onnx_graph import open_graphs
from rerank_server.reranker import Reranker
from rerank_server.scorer import OnnxScorer


class ConstantScorer:
    """Gives every candidate and objective one number."""

    provider = "CPUExecutionProvider"
    threads = 1

    def __init__(self, value: float) -> None:
        self.value = value

    def score(self, pages):
        return [np.full((page.size, 2), self.value, np.float32) for page in pages]


class FailingScorer(ConstantScorer):
    """Raises what it was made with."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0.0)
        self.error = error

    def score(self, pages):
        raise self.error


class SlowScorer(ConstantScorer):
    """Takes `seconds`, and counts the pages it began."""

    def __init__(self, seconds: float) -> None:
        super().__init__(0.5)
        self.seconds = seconds
        self.begun = 0
        self.began = threading.Event()

    def score(self, pages):
        self.begun += 1
        self.began.set()
        time.sleep(self.seconds)
        return super().score(pages)


class CountingScorer(OnnxScorer):
    """The bundle's scorer, with the number of pages of each call."""

    def __init__(self, graph) -> None:
        super().__init__(graph, provider="CPUExecutionProvider", threads=1)
        self.calls: list[int] = []

    def score(self, pages):
        self.calls.append(len(pages))
        return super().score(pages)


def with_scorer(reranker: Reranker, scorer) -> Reranker:
    """The same bundle and products with another scorer."""
    graphs = open_graphs(reranker.bundle, threads=1)
    return Reranker(reranker.bundle, reranker.products, graphs.query, scorer)
