from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.errors import EmptyQueryError
from deploy.demo.retrieval.words import query_words, words


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("Fluid MILK 1 gal", ("fluid", "milk", "1", "gal")),
        ("VEGETABLES - ALL OTHERS", ("vegetables", "all", "others")),
        ("0.5 L h&b snacks/nuts it's", ("0", "5", "l", "h", "b", "snacks", "nuts", "it", "s")),
        (
            '+milk -"ham"~2 text:* (a OR b) [1 TO 2]^3 \\',
            ("milk", "ham", "2", "text", "a", "or", "b", "1", "to", "2", "3"),
        ),
        ("mi\x00lk\x1b[31m\u202eham", ("mi", "lk", "31m", "ham")),
        ("🍕 pizza ½", ("pizza", "1", "2")),
        ("CAFE\u0301 \uff21\uff11 ﬁsh Straße", ("café", "a1", "fish", "strasse")),
        ("a_b", ("a", "b")),
        ("x" * 200, ("x" * 64,)),
    ],
)
def test_only_letters_and_digits_make_words(text, cut):
    assert words(text) == cut


@given(st.text())
def test_cutting_words_again_changes_nothing(text):
    once = words(text)
    assert words(" ".join(once)) == once
    assert all(word.isalnum() for word in once)


def test_a_query_keeps_each_word_once_and_at_most_32():
    assert query_words("milk ham Milk") == ("milk", "ham")
    assert len(query_words(" ".join(f"w{number}" for number in range(100)))) == 32


@pytest.mark.parametrize("query", ["", "  \t\n", "\x00\x07", "\u200b\u2028"])
def test_a_query_with_nothing_visible_is_an_error(query):
    with pytest.raises(
        EmptyQueryError, match=r"query: got .*, want at least one visible character"
    ):
        query_words(query)


def test_a_query_of_symbols_has_no_words():
    assert query_words("🍕 *:*") == ()
