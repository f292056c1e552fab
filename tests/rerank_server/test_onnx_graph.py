"""Graphs in onnxruntime: wrong ones are named, unused inputs need not be there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.errors import BundleError
from rerank_server.contract.graph_inputs import Arrays
from rerank_server.onnx_graph import OnnxGraph, check_golden, open_graphs
from tests.rerank_server.tiny_bundle import query_graph


def test_bytes_that_are_no_graph_are_refused():
    with pytest.raises(BundleError, match=r"query\.onnx: got .* want a graph onnxruntime can load"):
        OnnxGraph(b"no graph", "query.onnx", ("a",), ("b",), threads=1)


def test_unknown_inputs_are_refused():
    with pytest.raises(BundleError, match=r"got inputs \['token_ids'\], want some of"):
        OnnxGraph(query_graph(), "query.onnx", ("token_mask",), ("vectors",), threads=1)


def test_missing_outputs_are_refused():
    names = ("token_ids", "token_mask")
    with pytest.raises(BundleError, match=r"got outputs \['vectors'\], want \['logits'\] too"):
        OnnxGraph(query_graph(), "query.onnx", names, ("vectors", "logits"), threads=1)


def test_a_graph_takes_what_it_reads_and_leaves_the_rest():
    names = ("token_ids", "token_mask", "language")
    graph = OnnxGraph(query_graph(), "query.onnx", names, ("vectors",), threads=1)
    arrays: Arrays = {
        "token_ids": np.zeros((1, 3), np.int64),
        "token_mask": np.ones((1, 3), np.float32),
        "language": np.zeros(1, np.int64),
    }
    assert graph(arrays)["vectors"].tolist() == [[3.0, 3.0]]
    assert graph.provider == "CPUExecutionProvider"


def test_the_golden_pages_of_a_whole_bundle_agree(tiny_bundle):
    assert check_golden(tiny_bundle, open_graphs(tiny_bundle, threads=1)) == 0.0


def test_graphs_that_do_not_fit_the_golden_pages_are_a_bundle_error(tiny_bundle):
    graphs = open_graphs(tiny_bundle, threads=1)
    swapped = replace(graphs, query=lambda _: {"vectors": np.zeros((2, 9), np.float32)})
    with pytest.raises(BundleError, match=r"(?s)golden pages: got .* want scores from the graphs"):
        check_golden(tiny_bundle, swapped)
