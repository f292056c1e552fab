from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.gateway.errors import BodyError
from rerank_server.gateway.json_members import read_members, write_members


def test_values_are_parsed_and_kept_as_written():
    members = read_members(' { "a" : 1.50e1 , "b":{"x": 1, "x" :2}, "ü":"\\u00fc" } ')
    assert [(item.key, item.value, item.text) for item in members.values()] == [
        ("a", 15.0, "1.50e1"),
        ("b", {"x": 2}, '{"x": 1, "x" :2}'),
        ("ü", "ü", '"\\u00fc"'),
    ]


def test_what_is_written_keeps_the_texts_of_values():
    text = '{"size":1e1,"query":{"match":{"t":"a\\u0062"}}}'
    assert write_members(read_members(text).values()) == text


def test_an_empty_object_has_no_members():
    assert read_members(" {\n} ") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "{",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1,',
        '{"a":1,}',
        "{a:1}",
        '{"a" 1}',
        '{"a":1 "b":2}',
        '{"a":1}{}',
        '{"a":1} x',
        '{"a":nope}',
        '// comment\n{"a":1}',
        "{" * 100_000,
        '{"a":' + "[" * 100_000,
    ],
)
def test_what_is_no_object_is_refused(text):
    with pytest.raises(BodyError, match="want"):
        read_members(text)


def test_a_key_twice_is_refused():
    with pytest.raises(BodyError, match="'size' twice"):
        read_members('{"size": 1, "size": 2}')


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_object_comes_back_equal(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    members = read_members(text)
    assert {key: item.value for key, item in members.items()} == value
    assert json.loads(write_members(members.values())) == value
