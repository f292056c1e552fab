"""What a page looks like without some of its groups."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_server.contract.ablation import (
    Neutral,
    explained_groups,
    present_groups,
    without_groups,
)
from rerank_server.contract.golden import golden_scorer_pages
from rerank_server.onnx_graph import open_graphs
from tests.rerank_server.tiny_bundle import SCHEMA

NEUTRAL = Neutral(np.array([7.0, 8.0], np.float32), np.array([5.0, 6.0], np.float32))


@pytest.fixture(scope="module")
def page(tiny_bundle):
    graphs = open_graphs(tiny_bundle, threads=1)
    return golden_scorer_pages(tiny_bundle.golden, SCHEMA, tiny_bundle.text_encoder, graphs)[0]


@pytest.mark.parametrize("group", SCHEMA.groups)
def test_a_feature_group_that_is_left_out_stands_at_the_training_mean(page, group):
    left = without_groups(page, (group,), SCHEMA, NEUTRAL)
    for column, spec in enumerate(SCHEMA.features):
        want = 0 if spec.group == group else page.dense[:, column]
        np.testing.assert_array_equal(left.dense[:, column], want)
    assert left.dense.dtype == np.float32
    assert left.sequence_vectors is page.sequence_vectors
    assert left.candidate_vectors is page.candidate_vectors


def test_vectors_that_are_left_out_have_their_neutral_ones(page):
    left = without_groups(page, ("product",), SCHEMA, NEUTRAL)
    np.testing.assert_array_equal(left.candidate_vectors, [[7, 8]] * 4)
    np.testing.assert_array_equal(left.dense, page.dense)
    assert without_groups(page, ("sequence",), SCHEMA, NEUTRAL).sequence_vectors.shape == (0, 2)
    left = without_groups(page, ("query", "category"), SCHEMA, NEUTRAL)
    np.testing.assert_array_equal(left.query_vector, [5, 6])
    assert left.categories.tolist() == [0] * 4
    assert page.sequence_vectors.shape == (3, 2)


def test_a_page_without_all_its_groups_says_nothing_any_more(page):
    groups = explained_groups(SCHEMA)
    told = present_groups(page, SCHEMA, NEUTRAL)
    assert {"product", "sequence", "query", "category"} <= set(told) <= set(groups)
    nothing = without_groups(page, groups, SCHEMA, NEUTRAL)
    assert present_groups(nothing, SCHEMA, NEUTRAL) == ()
