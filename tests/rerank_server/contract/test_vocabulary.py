"""Rows of names: position + 1, 0 for what is not known."""

from __future__ import annotations

import pytest

from rerank_server.contract.errors import BundleError
from rerank_server.contract.vocabulary import (
    Vocabulary,
    vocabulary_from_json,
    vocabulary_to_json,
)

VOCABULARY = Vocabulary(
    levels=(("milk", "bread"), ("dairy",)), attributes=(("Acme",), ()), identities=("p1", "p2")
)


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        (["food", "dairy", "milk"], [1, 1]),
        (["bakery", "bread"], [2, 0]),
        (["bread"], [2, 0]),
        ([], [0, 0]),
        (["dairy", "cheese"], [0, 1]),
    ],
)
def test_a_path_is_read_from_the_leaf(path, rows):
    assert VOCABULARY.level_rows(path) == rows


def test_attributes_and_identities_start_at_one():
    assert VOCABULARY.attribute_rows(["Acme", "1 l"]) == [1, 0]
    assert VOCABULARY.attribute_rows([None, None]) == [0, 0]
    assert [VOCABULARY.identity_row(name) for name in ("p1", "p2", "p3")] == [1, 2, 0]


def test_json_reads_back_equal():
    assert vocabulary_from_json(vocabulary_to_json(VOCABULARY)) == VOCABULARY


def test_an_unknown_key_is_refused():
    with pytest.raises(BundleError, match=r"vocabulary\.json: got keys"):
        vocabulary_from_json(vocabulary_to_json(VOCABULARY) | {"colours": []})


def test_a_name_twice_is_refused():
    with pytest.raises(BundleError, match="got 'p1' twice, want each name once"):
        Vocabulary(levels=(), attributes=(), identities=("p1", "p2", "p1"))
