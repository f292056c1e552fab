from __future__ import annotations

import pytest

from rerank_server.gateway.filter_path import FilterPath


@pytest.mark.parametrize(
    ("text", "path", "kept"),
    [
        ("", "hits.hits._id", True),
        ("hits", "hits.hits._id", True),
        ("hits.hits", "hits.hits._id", True),
        ("hits.hits._*", "hits.hits._id", True),
        ("hits.hits._i*", "hits.hits._score", False),
        ("hits.total,took", "hits.hits._id", False),
        ("**._id", "hits.hits._id", True),
        ("**.t*", "hits.hits.fields.title", True),
        ("hits.**.title", "hits.hits._source.title", True),
        ("*.hits._id", "hits.hits._id", True),
        ("*", "took", True),
        ("-hits.hits._source", "hits.hits._id", True),
        ("-hits.hits._source", "hits.hits._source.title", False),
        ("hits.hits._*,-hits.hits._score", "hits.hits._score", False),
        ("hits.hits._*,-hits.hits._score", "hits.hits._id", True),
        ("hits.hits._source.title", "hits.hits._source", False),
    ],
)
def test_paths_are_kept_as_elasticsearch_keeps_them(text, path, kept):
    assert FilterPath.read(text).keeps(path) is kept


def test_paths_are_added_to_includes_only():
    assert FilterPath.read("took,-hits.x").with_paths(["hits.hits._id"]) == (
        "took,hits.hits._id,-hits.x"
    )
    assert FilterPath.read("-hits.x").with_paths(["hits.hits._id"]) == "-hits.x"
