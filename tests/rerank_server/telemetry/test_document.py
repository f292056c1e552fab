from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.telemetry.document import DocumentRules, moved_places, search_document
from tests.rerank_server.telemetry.searches import search_record

TEMPLATES = Path(__file__).parents[3] / "es_plugin_config/elasticsearch/_component_template"
# Kept in the document and not in the index: what training reads, and nobody searches by.
UNINDEXED = {"products.retrieval_scores", "products.scores"}


def fields_of(rules: DocumentRules | None = None, **changes: Any) -> dict[str, Any]:
    document = search_document(search_record(**changes), rules or DocumentRules())
    read: dict[str, Any] = json.loads(document.body)
    return read


def flat(fields: dict[str, Any], prefix: str = "") -> set[str]:
    names = set()
    for name, value in fields.items():
        if isinstance(value, dict) and name != "query_attributes":
            names |= flat(value, f"{prefix}{name}.")
        else:
            names.add(prefix + name)
    return names


def mapped_fields() -> set[str]:
    def walk(properties: dict[str, Any], prefix: str) -> set[str]:
        names = set()
        for name, field in properties.items():
            if "properties" in field:
                names |= walk(field["properties"], f"{prefix}{name}.")
            else:
                names.add(prefix + name)
        return names

    names = set()
    for template in ("crossrank-ubi-queries", "crossrank-search"):
        body = json.loads((TEMPLATES / f"{template}.json").read_text())
        names |= walk(body["template"]["mappings"]["properties"], "")
    return names


def test_a_document_has_the_fields_of_ubi_as_they_are() -> None:
    fields = fields_of()
    assert fields["query_id"] == "q-1"
    assert fields["user_query"] == "milk"
    assert fields["application"] == "shop"
    assert fields["client_id"] == "0123456789abcdef"
    assert fields["object_id_field"] == "_id"
    assert fields["query_response_hit_ids"] == ["d", "a"]
    assert fields["timestamp"] == fields["@timestamp"] == "2026-03-02T10:00:00.000250Z"
    assert fields["query_attributes"] == {
        "surface": "search",
        "variant": "current",
        "bundle_id": "bundle-1",
    }


def test_moved_distances_are_counted_by_hand() -> None:
    # d: 3 -> 0, a: 0 -> 1, b: 1 -> 2, c: 2 -> 3.
    assert moved_places("abcd", "dabc") == [3, 1, 1, 1]
    assert fields_of()["moved"] == {"mean": 1.5, "max": 3, "top10": 0}


def test_top10_counts_who_came_into_the_first_ten() -> None:
    before = tuple("abcdefghijklm")
    after = ("m", "l", *before[:11])
    moved = fields_of(candidate_ids=before, reranked_ids=after, scores=(), categories=())["moved"]
    assert moved["top10"] == 2
    assert moved["max"] == 12


def test_categories_are_those_of_the_first_places_in_order_without_unknown_ones() -> None:
    assert fields_of()["categories"] == {
        "before": ["dairy", "dairy", "snacks"],
        "after": ["snacks", "dairy", "dairy"],
    }


def test_latency_is_split_so_that_the_gateways_own_part_is_what_is_left() -> None:
    latency = fields_of()["latency"]
    assert latency["total_ms"] == 20.0
    assert latency["retrieval_ms"] == 12.0
    assert latency["rerank_ms"] == 5.0
    assert latency["gateway_ms"] == 3.0


def test_a_missing_score_is_null_and_no_made_up_number() -> None:
    assert fields_of()["products"]["retrieval_scores"] == [4.0, 3.0, None, 1.0]


def test_an_unknown_total_is_absent_and_a_total_of_none_is_zero() -> None:
    assert "total_hits" not in fields_of(total_hits=None)
    assert fields_of(total_hits=0)["total_hits"] == 0


def test_the_query_can_be_cut_and_left_out_and_so_can_the_hashes() -> None:
    assert fields_of(DocumentRules(query_chars=2))["user_query"] == "mi"
    assert fields_of(DocumentRules(query_text=False))["user_query"] == ""
    fields = fields_of(DocumentRules(client_ids=False), session_id="fedcba9876543210")
    assert "client_id" not in fields
    assert "session_id" not in fields


def test_long_lists_are_cut_while_the_count_of_candidates_is_whole() -> None:
    fields = fields_of(DocumentRules(products=2))
    assert fields["products"]["before"] == ["a", "b"]
    assert fields["candidates"] == 4


def test_free_labels_other_than_id_and_arm_are_left_out() -> None:
    fields = fields_of(experiment={"id": "boost", "arm": "b", "mail": "someone@example.org"})
    assert fields["experiment"] == {"id": "boost", "arm": "b"}


def test_candidates_that_the_store_does_not_hold_are_counted() -> None:
    assert fields_of(unknown_candidates=3)["unknown_candidates"] == 3


def test_a_degraded_search_says_why() -> None:
    fields = fields_of(
        degraded_reason="deadline", degraded_detail="late", reranked_ids=("a", "b", "c", "d")
    )
    assert fields["degraded"] is True
    assert fields["degraded_reason"] == "deadline"
    assert fields["moved"] == {"mean": 0.0, "max": 0, "top10": 0}


def test_the_id_is_that_of_the_content() -> None:
    first = search_document(search_record(), DocumentRules())
    assert first == search_document(search_record(), DocumentRules())
    assert first.document_id != search_document(search_record("q-2"), DocumentRules()).document_id
    assert len(first.document_id) == 32


def test_every_field_that_is_written_is_in_the_mapping() -> None:
    fields = fields_of(
        degraded_reason="deadline",
        degraded_detail="late",
        session_id="fedcba9876543210",
        trace_id="0" * 31 + "1",
        opaque_id="x",
        experiment={"id": "a", "arm": "b"},
    )
    assert flat(fields) - UNINDEXED <= mapped_fields()


@given(
    query=st.text(st.characters(), max_size=400),
    before=st.lists(st.text(max_size=3), max_size=30, unique=True),
)
@pytest.mark.filterwarnings("error")
def test_any_query_and_any_ids_make_one_line_of_json(query: str, before: list[str]) -> None:
    record = search_record(query=query, candidate_ids=tuple(before), reranked_ids=tuple(before))
    document = search_document(record, DocumentRules())
    assert b"\n" not in document.body
    assert json.loads(document.body)["moved"]["mean"] == 0.0
