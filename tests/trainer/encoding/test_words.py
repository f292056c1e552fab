from __future__ import annotations

import numpy as np
import paddle
import pytest

import trainer.encoding.words
from rerank_server.contract.text import TextEncoder
from trainer.encoding.words import read_tokenizer, read_word_vectors, text_vectors
from trainer.errors import ConfigError
from trainer.model.products import TextEncoder as TextLayer

TEXTS = ["fluid milk white only", "dog food", "", "\x00\n", "чай 🥛 " * 40]


@pytest.fixture(scope="module")
def words():
    return read_word_vectors()


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(read_tokenizer())


def test_the_vectors_have_the_stated_shape(words):
    assert words.shape == (32_000, 256)
    assert words.dtype == np.float32


def test_a_text_is_the_unit_mean_of_its_words(words, encoder):
    vectors = text_vectors(TEXTS, words, encoder)
    ids, mask = encoder.encode(["dog food"])
    total = words[ids[0][mask[0] > 0]].sum(axis=0)
    np.testing.assert_allclose(vectors[1], total / np.linalg.norm(total), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 1, 4]], axis=1), 1.0, atol=1e-5)
    assert (vectors[2:4] == 0).all()


def test_it_equals_the_layer_that_serves(words, encoder):
    layer = TextLayer(words)
    ids, mask = encoder.encode(TEXTS)
    served = layer(paddle.to_tensor(ids), paddle.to_tensor(mask)).numpy()
    np.testing.assert_allclose(text_vectors(TEXTS, words, encoder), served, atol=1e-6)


def test_words_of_one_field_are_nearer_than_words_of_another(words, encoder):
    milk, cream, engine = text_vectors(["milk", "cream", "engine"], words, encoder)
    assert milk @ cream > milk @ engine


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(trainer.encoding.words, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="wordllama: got no such package"):
        read_tokenizer()
