"""Texts as products: the graph of the bundle, in batches, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_server.contract.bundle import Bundle, write_bundle
from rerank_server.page import SearchPage
from rerank_server.reranker import Reranker
from rerank_server.scorer import ScorerError
from rerank_server.text_products import BATCH, TextProducts
from tests.rerank_server.tiny_bundle import (
    tiny_content,
    tiny_graph_bytes,
    word_count_graph,
    write_tiny_store,
)


@pytest.fixture(scope="module")
def wordy(tmp_path_factory) -> tuple[Bundle, Reranker]:
    """A bundle whose product vectors are the number of words, twice."""
    root = tmp_path_factory.mktemp("wordy")
    graphs = tiny_graph_bytes() | {"product.onnx": word_count_graph()}
    bundle = write_bundle(root / "bundle", tiny_content(graphs))
    write_tiny_store(root / "products", bundle, root / "snapshot")
    return bundle, Reranker.open(root / "bundle", root / "products", threads=1)


def test_a_text_is_encoded_by_the_product_graph(wordy):
    vectors = TextProducts(wordy[0], threads=1).vectors(["milk", "", "fresh dog food"])
    np.testing.assert_array_equal(vectors, np.array([[1, 1], [0, 0], [3, 3]], np.float32))


@pytest.mark.parametrize("count", [0, 1, BATCH, BATCH + 1])
def test_batches_hold_every_text_in_order(wordy, count):
    texts = ["milk " * (number % 4) for number in range(count)]
    vectors = TextProducts(wordy[0], threads=1).vectors(texts)
    assert vectors.shape == (count, 2)
    assert vectors[:, 0].tolist() == [number % 4 for number in range(count)]


def test_texts_move_unknown_candidates_only(wordy):
    reranker = wordy[1]
    ids = ["milk-1", "unknown-1", "unknown-2", "unknown-3"]
    plain = reranker.rerank(SearchPage(ids))
    told = reranker.rerank(SearchPage(ids, texts=["ignored", "milk milk", "", "dog"]))
    before = dict(zip(plain.candidate_ids, plain.scores, strict=True))
    after = dict(zip(told.candidate_ids, told.scores, strict=True))
    assert after["milk-1"] == before["milk-1"]
    assert after["unknown-2"] == before["unknown-2"]  # an empty text says nothing
    # logit of purchase per word: 1.0 + 0.5, from VECTOR_WEIGHTS
    logit = {name: np.log(score / (1 - score)) for name, score in after.items()}
    assert logit["unknown-1"] - logit["unknown-2"] == pytest.approx(3.0, abs=1e-4)
    assert logit["unknown-3"] - logit["unknown-2"] == pytest.approx(1.5, abs=1e-4)


def test_texts_leave_the_product_store_as_it_was(wordy):
    reranker = wordy[1]
    before = reranker.products.vectors.copy()
    reranker.rerank(SearchPage(["unknown-1"], texts=["milk"]))
    np.testing.assert_array_equal(reranker.products.vectors, before)


def test_texts_in_another_number_than_candidates_are_refused():
    with pytest.raises(Exception, match="texts: got 1 values, want 2 or none"):
        SearchPage(["a", "b"], texts=["one"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ValueError("secret"), r"product\.onnx: got secret, want vectors"),
        (np.inf, r"product\.onnx: got a vector that is not finite"),
    ],
)
def test_a_graph_that_fails_is_a_scorer_error(wordy, monkeypatch, answer, message):
    def graph(arrays):
        if isinstance(answer, Exception):
            raise answer
        return {"vectors": np.full((1, 2), answer, np.float32)}

    def open_graph(bundle, name, *, threads):
        return graph

    monkeypatch.setattr("rerank_server.text_products.open_graph", open_graph)
    with pytest.raises(ScorerError, match=message):
        TextProducts(wordy[0], threads=1).vectors(["milk"])
