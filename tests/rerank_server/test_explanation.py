"""What moved each candidate, by leaving out one group at a time."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.ablation import Neutral
from rerank_server.contract.golden import golden_scorer_pages
from rerank_server.explanation import group_contributions
from rerank_server.onnx_graph import open_graphs
from tests.rerank_server.tiny_bundle import SCHEMA


def test_groups_of_which_the_page_says_nothing_are_zero_and_are_not_scored(tiny_bundle):
    graphs = open_graphs(tiny_bundle, threads=1)
    page = golden_scorer_pages(tiny_bundle.golden, SCHEMA, tiny_bundle.text_encoder, graphs)[0]
    neutral = Neutral(np.array([7.0, 8.0], np.float32), page.query_vector)  # no query
    scored = []

    def score(pages):
        scored.extend(pages)
        return [each.dense.sum(axis=1) for each in pages]

    whole = page.dense.sum(axis=1)
    moved = group_contributions(page, whole, SCHEMA, neutral, score)
    assert list(moved) == [*SCHEMA.groups, "product", "sequence", "query", "category"]
    np.testing.assert_array_equal(moved["query"], 0)
    told = [group for group in SCHEMA.groups if page.dense[:, _columns(group)].any()]
    assert len(scored) == len(told) + 3  # product, sequence, category
    for group in SCHEMA.groups:
        want = page.dense[:, _columns(group)].sum(axis=1)
        np.testing.assert_allclose(moved[group], want, atol=1e-6)


def _columns(group: str) -> list[int]:
    return [at for at, spec in enumerate(SCHEMA.features) if spec.group == group]
