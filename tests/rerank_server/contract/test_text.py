"""Tokenising: the same arrays everywhere, whatever the text holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.contract.errors import BundleError
from rerank_server.contract.text import MAX_TOKENS, TextEncoder, clean_text
from tests.rerank_server.tiny_bundle import tiny_tokenizer

ENCODER = TextEncoder(tiny_tokenizer())


def test_texts_are_padded_to_the_longest():
    token_ids, mask = ENCODER.encode(["fresh milk", "dog", ""])
    np.testing.assert_array_equal(token_ids, [[4, 1], [2, 0], [0, 0]])
    np.testing.assert_array_equal(mask, [[1, 1], [1, 0], [0, 0]])
    assert token_ids.dtype == np.int64
    assert mask.dtype == np.float32


def test_an_empty_text_is_one_masked_token():
    token_ids, mask = ENCODER.encode([""])
    assert token_ids.tolist() == [[0]]
    assert mask.tolist() == [[0.0]]


def test_a_long_text_is_cut_to_64_tokens():
    token_ids, mask = ENCODER.encode(["milk " * 500])
    assert token_ids.shape == (1, MAX_TOKENS)
    assert mask.sum() == MAX_TOKENS


def test_control_characters_count_as_spaces():
    token_ids, _ = ENCODER.encode(["fresh\x00\x1b\r\nmilk\u202e"])
    assert token_ids.tolist() == [[4, 1]]


def test_emoji_are_unknown_words_and_lone_surrogates_do_no_harm():
    token_ids, _ = ENCODER.encode(["milk \U0001f95b \ud800 dog"])
    assert token_ids.tolist() == [[1, 0, 2]]


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_padding_never_changes_the_tokens_of_a_text(texts):
    together, mask = ENCODER.encode(texts)
    for row, text in enumerate(texts):
        alone, alone_mask = ENCODER.encode([text])
        count = int(alone_mask.sum())
        assert mask[row].sum() == count
        np.testing.assert_array_equal(together[row, :count], alone[0, :count])


@given(st.text())
def test_clean_text_is_printable_and_stable(text):
    cleaned = clean_text(text)
    assert cleaned.isprintable()
    assert clean_text(cleaned) == cleaned


def test_a_broken_tokenizer_file_is_refused():
    with pytest.raises(BundleError, match=r"tokenizer\.json: got .* want a file of the tokenizers"):
        TextEncoder(b"{}")
