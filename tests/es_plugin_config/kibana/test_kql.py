from __future__ import annotations

import pytest

from es_plugin_config.kibana.kql import KqlError, kql_fields, kql_query


def only(inner: dict[str, object]) -> dict[str, object]:
    return {"bool": {"should": [inner], "minimum_should_match": 1}}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", {"match_all": {}}),
        ("degraded: true", only({"match": {"degraded": "true"}})),
        ('action_name: "click"', only({"match_phrase": {"action_name": "click"}})),
        ("value: *", only({"exists": {"field": "value"}})),
        ('value: "*"', only({"match_phrase": {"value": "*"}})),
        ("a.b<=10", only({"range": {"a.b": {"lte": "10"}}})),
        ("status >= 500", only({"range": {"status": {"gte": "500"}}})),
        ("not a: 1", {"bool": {"must_not": only({"match": {"a": "1"}})}}),
        (
            "a: 1 and b: 2 or c: 3",
            {
                "bool": {
                    "should": [
                        {
                            "bool": {
                                "filter": [
                                    only({"match": {"a": "1"}}),
                                    only({"match": {"b": "2"}}),
                                ]
                            }
                        },
                        only({"match": {"c": "3"}}),
                    ],
                    "minimum_should_match": 1,
                }
            },
        ),
        (
            "a: 1 and (b: 2 or c: 3)",
            {
                "bool": {
                    "filter": [
                        only({"match": {"a": "1"}}),
                        {
                            "bool": {
                                "should": [
                                    only({"match": {"b": "2"}}),
                                    only({"match": {"c": "3"}}),
                                ],
                                "minimum_should_match": 1,
                            }
                        },
                    ]
                }
            },
        ),
        (r'q: "say \"milk\""', only({"match_phrase": {"q": 'say "milk"'}})),
    ],
)
def test_a_query_becomes_what_kibana_makes_of_it(text: str, query: dict[str, object]) -> None:
    assert kql_query(text) == query


def test_the_fields_of_a_query_are_found_wherever_they_stand() -> None:
    assert kql_fields('not (a: 1 or b.c >= 2) and d: "x"') == {"a", "b.c", "d"}
    assert kql_fields("") == set()


@pytest.mark.parametrize("text", ["a", "a:", ": 1", "a: 1 b: 2", "(a: 1", "a: 1 and", "not"])
def test_what_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(KqlError, match="KQL"):
        kql_query(text)
