"""Cohere's form: what is read from a body, what is refused, and the answer's shape."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.cohere_form import (
    UnknownModelError,
    cohere_answer,
    read_cohere_call,
)
from rerank_server.contract.errors import PageError

BUNDLE = "0123456789abcdef" * 4


def read(**body):
    return read_cohere_call(json.dumps(body).encode(), BUNDLE)


def test_texts_and_objects_become_candidates_in_their_order():
    call = read(
        query="milk",
        documents=["whole milk", {"id": "7"}, {"id": "8", "text": "oat"}, {"text": "soy", "x": 1}],
        top_n=9,
    )
    assert call.page.query == "milk"
    assert call.page.texts == ["whole milk", "", "oat", "soy"]
    assert list(call.page.candidate_ids)[1:3] == ["7", "8"]
    assert len(set(call.page.candidate_ids)) == 4
    assert call.page.top_k == 4
    assert call.documents[0] == {"text": "whole milk"}
    assert not call.return_documents


def test_equal_texts_stay_two_documents():
    assert read(query="q", documents=["a", "a"]).page.size == 2


def test_the_fields_to_rank_are_joined():
    documents = [{"title": "milk", "body": "1 l", "text": "not read"}, {"title": "dog"}]
    call = read(query="q", documents=documents, rank_fields=["title", "body"])
    assert call.page.texts == ["milk 1 l", "dog"]


@pytest.mark.parametrize("model", [None, "", "crossrank", BUNDLE, BUNDLE[:12]])
def test_the_model_is_this_server_or_its_bundle(model):
    assert read(query="q", documents=["a"], model=model).page.size == 1


@pytest.mark.parametrize("model", ["rerank-v3.5", BUNDLE[:4], 7])
def test_another_model_is_not_found(model):
    with pytest.raises(UnknownModelError, match=r"want 'crossrank' or '0123456789ab', the bundle"):
        read(query="q", documents=["a"], model=model)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, r"query: got none, want a text"),
        ({"query": "", "documents": ["a"]}, r"query: got an empty text, want a text"),
        ({"query": 7, "documents": ["a"]}, r"query: got a int, want a text"),
        ({"query": "q"}, r"documents: got none, want 1 to 1000"),
        ({"query": "q", "documents": []}, r"documents: got 0, want 1 to 1000"),
        ({"query": "q", "documents": ["a"] * 1001}, r"documents: got 1001, want 1 to 1000"),
        ({"query": "q", "documents": "abc"}, r"documents: got an empty text|got a"),
        ({"query": "q", "documents": [7]}, r"documents\[0\]: got a int, want a text or an obj"),
        ({"query": "q", "documents": [{}]}, r"documents\[0\]: got no text and no id"),
        ({"query": "q", "documents": [{"text": 7}]}, r"documents\[0\]: got a int as its text"),
        ({"query": "q", "documents": [{"id": 7}]}, r"documents\[0\]\.id: got a int, want a text"),
        ({"query": "q", "documents": [{"id": "a"}] * 2}, r"got 'a' at 0 and at 1, want each"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, r"top_n: got 0, want a whole number"),
        ({"query": "q", "documents": ["a"], "top_n": True}, r"top_n: got True, want a whole"),
        ({"query": "q", "documents": ["a"], "topn": 1}, r"'topn': got .*nearest: top_n\)"),
        ({"query": "q", "documents": ["a"], "rank_fields": []}, r"rank_fields: got no names"),
        (
            {"query": "q", "documents": ["a"], "return_documents": 1},
            r"return_documents: got a int, want true or false",
        ),
        ({"query": "q" * 1025, "documents": ["a"]}, r"query: got 1025 bytes, want at most 1024"),
    ],
)
def test_a_broken_call_is_named(body, message):
    with pytest.raises(PageError, match=message):
        read(**body)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"7", b"[" * 100_000, b'{"a":' + b"9" * 9999]
)
def test_what_is_no_object_is_named(body):
    with pytest.raises(PageError, match="body: got "):
        read_cohere_call(body, BUNDLE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = ["query", "documents", "top_n", "model", "rank_fields", "return_documents"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_values_are_a_page_or_a_named_error(body):
    with suppress(PageError, UnknownModelError):
        call = read(**body)
        assert call.page.size == len(body["documents"])


@given(st.binary(max_size=64))
def test_any_bytes_are_a_named_error(body):
    with pytest.raises(PageError, match="want"):
        read_cohere_call(body, BUNDLE)


def test_the_answer_has_the_forms_shape():
    call = read(query="q", documents=["a", "b"], return_documents=True)
    answer = cohere_answer(call, [1, 0], [0.75, 0.5], answer_id="x", warning="")
    assert answer == {
        "id": "x",
        "results": [
            {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
            {"index": 0, "relevance_score": 0.5, "document": {"text": "a"}},
        ],
        "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 0}},
    }
    late = cohere_answer(call, [0, 1], [], answer_id="x", warning="too late")
    assert [result["relevance_score"] for result in late["results"]] == [0.0, 0.0]
    assert late["meta"]["warnings"] == ["degraded, the documents are in their own order: too late"]
