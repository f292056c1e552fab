"""The scorer: one call for all pages, an error of our own when it fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.golden import golden_scorer_pages
from rerank_server.onnx_graph import open_graphs
from rerank_server.scorer import OnnxScorer, ScorerError
from tests.rerank_server.tiny_bundle import SCHEMA


@pytest.fixture
def graphs(tiny_bundle):
    return open_graphs(tiny_bundle, threads=1)


@pytest.fixture
def pages(tiny_bundle, graphs):
    return golden_scorer_pages(tiny_bundle.golden, SCHEMA, tiny_bundle.text_encoder, graphs)


def test_each_page_gets_its_own_rows(tiny_bundle, graphs, pages):
    scorer = OnnxScorer(graphs.scorer, provider="CPUExecutionProvider", threads=1)
    for got, want in zip(scorer.score(pages), tiny_bundle.golden.probabilities, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_page_onnxruntime_refuses_is_a_scorer_error(graphs, pages):
    scorer = OnnxScorer(graphs.scorer, provider="CPUExecutionProvider", threads=1)
    broken = replace(pages[0], dense=pages[0].dense[:, :3])
    with pytest.raises(ScorerError, match=r"(?s)scorer\.onnx: got .* want probabilities"):
        scorer.score([broken])
