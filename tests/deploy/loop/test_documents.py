from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from deploy.loop.documents import SeenPage, SeenProduct, document_of, event_document

PAGE = SeenPage("q1", "ann", "milk", "canary", "b" * 64)
MILK = SeenProduct("p7", "milk", "farm", 2, 0)
AT = datetime(2018, 1, 2, 3, 4, 5, 678_000, UTC)


def test_an_event_names_search_product_and_both_places_from_1():
    event = event_document(PAGE, MILK, "click", AT)
    body = json.loads(event.body)
    assert body["@timestamp"] == body["timestamp"] == "2018-01-02T03:04:05.678Z"
    assert (body["action_name"], body["query_id"], body["client_id"]) == ("click", "q1", "ann")
    said = body["event_attributes"]
    assert said["object"] == {
        "object_id": "p7", "object_id_field": "_id", "category": "milk", "brand": "farm"
    }  # fmt: skip
    assert said["position"] == {"ordinal": 3, "retrieval_ordinal": 1}
    assert (said["variant"], said["bundle_id"]) == ("canary", "b" * 64)


def test_a_product_that_retrieval_did_not_find_has_no_place_there():
    event = event_document(PAGE, replace(MILK, retrieval_rank=None), "click", AT)
    assert json.loads(event.body)["event_attributes"]["position"] == {"ordinal": 3}


def test_a_document_is_named_by_its_fields_whatever_their_order():
    assert document_of({"a": 1, "b": 2}) == document_of({"b": 2, "a": 1})
    assert document_of({"a": 1}).document_id != document_of({"a": 2}).document_id
