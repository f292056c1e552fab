"""What the demo asks Elasticsearch, as a shop would: match, filter, then order by sales.

Everything here runs without scripts: function scores over number fields, and nested documents
for what each place sold, however many places there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from deploy.demo.retrieval.order import PLACE_WEIGHT
from deploy.demo.retrieval.words import TYPO_LENGTH

Clause: TypeAlias = dict[str, Any]


def words_clause(words: Sequence[str]) -> Clause:
    """Products whose text holds every word."""
    return {"match": {"text": {"query": " ".join(words), "operator": "and"}}}


def typos_clause(words: Sequence[str]) -> Clause:
    """Products whose text holds, for every word, one that is at most one edit away."""
    return {"bool": {"filter": [_typo_clause(word) for word in words]}}


def _typo_clause(word: str) -> Clause:
    if len(word) < TYPO_LENGTH:
        return {"term": {"text": word}}
    return {"fuzzy": {"text": {"value": word, "fuzziness": 1, "max_expansions": 1000}}}


def promoted_clause(place: str) -> Clause:
    """Products that `place` promotes."""
    on_display = {"range": {"places.promotion_display": {"gt": 0}}}
    in_mailer = {"range": {"places.promotion_mailer": {"gt": 0}}}
    return {
        "nested": {
            "path": "places",
            "query": {
                "bool": {
                    "filter": [{"term": {"places.place": place}}],
                    "should": [on_display, in_mailer],
                    "minimum_should_match": 1,
                }
            },
        }
    }


def best_search(filters: Sequence[Clause], *, place: str | None, size: int) -> Clause:
    """The `size` best products by log1p(sales_56d) + 1.5 log1p(sales_91d of the place).

    Equal scores keep catalogue order, as everywhere.
    """
    everywhere = _log1p_of("sales_56d", {"match_all": {}}, weight=1.0)
    query: Clause = {"bool": {"filter": list(filters), "must": [everywhere]}}
    if place is not None:
        at_place = _log1p_of(
            "places.sales_91d", {"term": {"places.place": place}}, weight=PLACE_WEIGHT
        )
        query["bool"]["should"] = [
            {"nested": {"path": "places", "query": at_place, "score_mode": "sum"}}
        ]
        query["bool"]["minimum_should_match"] = 0
    return {
        "query": query,
        "size": size,
        "sort": [{"_score": "desc"}, {"row": "asc"}],
        "_source": False,
        "track_total_hits": False,
    }


def own_search(filters: Sequence[Clause], own: Sequence[str]) -> Clause:
    """Those of the shopper's past products that pass the filters."""
    return {
        "query": {"bool": {"filter": [*filters, {"terms": {"id": list(own)}}]}},
        "size": len(own),
        "_source": False,
        "track_total_hits": False,
    }


def _log1p_of(field: str, query: Clause, *, weight: float) -> Clause:
    return {
        "function_score": {
            "query": query,
            "functions": [
                {
                    "field_value_factor": {"field": field, "modifier": "ln1p", "missing": 0},
                    "weight": weight,
                }
            ],
            "boost_mode": "replace",
        }
    }
