"""From encoded pages to one calibrated probability per candidate and objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rerank_server.contract.errors import RerankError
from rerank_server.contract.graph_inputs import Graph, ScorerPage, scorer_inputs
from rerank_server.contract.page import Floats


class ScorerError(RerankError):
    """The scorer could not score a page."""


class Scorer(Protocol):
    """Scores pages; what batches the pages of concurrent requests stands behind it as well."""

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        ...

    @property
    def threads(self) -> int:
        """Threads of one call."""
        ...

    def score(self, pages: Sequence[ScorerPage]) -> list[Floats]:
        """Return probabilities, shape (candidates, objectives), for each page.

        Raises:
            ScorerError: When the pages cannot be scored.
        """
        ...


class OnnxScorer:
    """Scores pages with `scorer.onnx`, all in one call."""

    def __init__(self, graph: Graph, *, provider: str, threads: int) -> None:
        self._graph = graph
        self._provider = provider
        self._threads = threads

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._provider

    @property
    def threads(self) -> int:
        """Threads of one call."""
        return self._threads

    def score(self, pages: Sequence[ScorerPage]) -> list[Floats]:
        """Return probabilities, shape (candidates, objectives), for each page.

        Raises:
            ScorerError: When onnxruntime fails.
        """
        inputs = scorer_inputs(pages)
        try:
            probabilities = self._graph(inputs)["probabilities"]
        except Exception as error:  # onnxruntime's errors share no base class
            raise ScorerError(f"scorer.onnx: got {error}, want probabilities") from error
        return [probabilities[index, : page.size] for index, page in enumerate(pages)]
