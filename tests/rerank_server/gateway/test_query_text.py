from __future__ import annotations

import pytest

from rerank_server.gateway.query_text import find_query_text, fitting_query


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"match": {"title": "red shoes"}}, "red shoes"),
        ({"match": {"title": {"query": "red shoes", "operator": "and"}}}, "red shoes"),
        ({"multi_match": {"query": "red shoes", "fields": ["a"]}}, "red shoes"),
        ({"simple_query_string": {"query": "red"}}, "red"),
        ({"term": {"brand": "acme"}}, ""),
        ({"match_all": {}}, ""),
        (
            {
                "bool": {
                    "must_not": [{"match": {"t": "no"}}],
                    "filter": [{"match": {"t": "no"}}],
                    "should": [{"match": {"t": "yes"}}, {"match": {"t": "later"}}],
                }
            },
            "yes",
        ),
        ({"function_score": {"query": {"match": {"t": "deep"}}}}, "deep"),
        ({"standard": {"query": {"match": {"t": "retrieved"}}}}, "retrieved"),
        (
            {"rrf": {"retrievers": [{"standard": {"query": {"match": {"t": "a"}}}}, {"knn": {}}]}},
            "a",
        ),
        ({"query_vector_builder": {"text_embedding": {"model_text": "vector"}}}, "vector"),
        ({"match": {"t": 7}}, ""),
        ({"match": "odd"}, ""),
        (None, ""),
        ("odd", ""),
    ],
)
def test_the_first_text_that_was_typed_is_found(query, text):
    assert find_query_text(query) == text


def test_very_deep_queries_have_no_text():
    query: dict[str, object] = {"match": {"t": "deep"}}
    for _ in range(100):
        query = {"bool": {"must": query}}
    assert find_query_text(query) == ""


def test_a_long_text_is_cut_between_characters():
    assert fitting_query("ü" * 600) == "ü" * 512
    assert fitting_query("x" * 1_024) == "x" * 1_024
