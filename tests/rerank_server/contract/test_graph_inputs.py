"""Arrays for the graphs: padding is masked and changes no score."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.graph_inputs import (
    PRODUCT_INPUTS,
    SCORER_INPUTS,
    ProductBatch,
    ScorerPage,
    product_inputs,
    query_inputs,
    scorer_inputs,
    vector_inputs,
)
from rerank_server.contract.schema import VectorSpec
from rerank_server.contract.text import TextEncoder
from tests.rerank_server.tiny_bundle import tiny_graph_bytes, tiny_graphs, tiny_tokenizer

ENCODER = TextEncoder(tiny_tokenizer())


def scorer_page(size: int, events: int, seed: int) -> ScorerPage:
    generator = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    return ScorerPage(
        query_vector=floats(2),
        surface=seed % 2,
        candidate_vectors=floats(size, 2),
        categories=generator.integers(0, 3, size).astype(np.int32),
        dense=floats(size, 4),
        sequence_vectors=floats(events, 2),
        sequence_features=floats(events, 5),
    )


def test_pages_of_one_call_are_padded_and_masked():
    inputs = scorer_inputs([scorer_page(2, 0, 0), scorer_page(3, 2, 1)])
    assert set(inputs) == set(SCORER_INPUTS)
    np.testing.assert_array_equal(inputs["candidate_mask"], [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(inputs["sequence_mask"], [[0, 0], [1, 1]])
    assert inputs["dense"].shape == (2, 3, 4)
    assert inputs["surface"].tolist() == [0, 1]
    assert inputs["categories"].dtype == np.int64


def test_a_page_without_events_gets_one_masked_event():
    inputs = scorer_inputs([scorer_page(1, 0, 0)])
    assert inputs["sequence_vectors"].shape == (1, 1, 2)
    assert inputs["sequence_mask"].tolist() == [[0.0]]


def test_sharing_a_call_changes_no_score():
    scorer = tiny_graphs(tiny_graph_bytes()).scorer
    pages = [scorer_page(5, 0, 0), scorer_page(1, 4, 1), scorer_page(7, 2, 2)]
    together = scorer(scorer_inputs(pages))["probabilities"]
    for index, page in enumerate(pages):
        alone = scorer(scorer_inputs([page]))["probabilities"][0]
        np.testing.assert_allclose(together[index, : page.size], alone, atol=1e-6)


def test_products_without_factors_are_marked():
    batch = ProductBatch(
        texts=["milk", ""],
        categories=np.array([1, 0], np.int32),
        levels=np.zeros((2, 2), np.int32),
        attributes=np.zeros((2, 2), np.int32),
        identities=np.array([1, 0], np.int32),
        factors=np.array([[0.5], [0.0]], np.float32),
    )
    inputs = product_inputs(batch, ENCODER)
    assert set(inputs) == set(PRODUCT_INPUTS)
    assert inputs["factors_present"].tolist() == [1.0, 0.0]
    assert inputs["identity"].dtype == np.int64


def test_each_named_vector_comes_with_where_it_is_present():
    specs = (VectorSpec("image", 2), VectorSpec("sound", 3))
    batch = ProductBatch(
        texts=["milk", ""],
        categories=np.zeros(2, np.int32),
        levels=np.zeros((2, 2), np.int32),
        attributes=np.zeros((2, 2), np.int32),
        identities=np.zeros(2, np.int32),
        factors=np.zeros((2, 1), np.float32),
        vectors={"image": np.array([[0.0, 0.0], [0.0, -1.0]])},
    )
    inputs = product_inputs(batch, ENCODER, specs)
    assert set(inputs) == {*PRODUCT_INPUTS, *vector_inputs(specs)}
    assert inputs["vector_image"].dtype == np.float32
    assert inputs["vector_image_present"].tolist() == [0.0, 1.0]
    assert inputs["vector_sound"].tolist() == [[0.0] * 3] * 2
    assert inputs["vector_sound_present"].tolist() == [0.0, 0.0]


def test_query_inputs_are_tokens_and_mask():
    inputs = query_inputs(["fresh milk"], ENCODER)
    assert inputs["token_ids"].tolist() == [[4, 1]]
