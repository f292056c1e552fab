"""What a page looks like without one group."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.golden import golden_scorer_pages
from rerank_server.explanation import without_each_group
from rerank_server.onnx_graph import open_graphs
from tests.rerank_server.tiny_bundle import SCHEMA


def test_exactly_one_group_is_gone_from_each_copy(tiny_bundle):
    graphs = open_graphs(tiny_bundle, threads=1)
    page = golden_scorer_pages(tiny_bundle.golden, SCHEMA, tiny_bundle.text_encoder, graphs)[0]
    unknown = np.array([7.0, 8.0], np.float32)
    copies = without_each_group(page, SCHEMA, unknown)
    assert list(copies) == [*SCHEMA.groups, "product", "sequence"]
    for group in SCHEMA.groups:
        for column, spec in enumerate(SCHEMA.features):
            want = 0 if spec.group == group else page.dense[:, column]
            np.testing.assert_array_equal(copies[group].dense[:, column], want)
        assert copies[group].dense.dtype == np.float32
        assert copies[group].sequence_vectors is page.sequence_vectors
    np.testing.assert_array_equal(copies["product"].candidate_vectors, [[7, 8]] * 4)
    np.testing.assert_array_equal(copies["product"].dense, page.dense)
    assert copies["sequence"].sequence_vectors.shape == (0, 2)
    assert page.sequence_vectors.shape == (3, 2)
