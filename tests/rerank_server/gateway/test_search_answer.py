from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from rerank_server.gateway.errors import AnswerError
from rerank_server.gateway.filter_path import FilterPath
from rerank_server.gateway.options import RerankOptions
from rerank_server.gateway.search_answer import Shown, add_status, pretty, read_answer, write_page
from rerank_server.gateway.search_request import Widened

HIT_A = b'{"_index":"p","_id":"a","_score":1.20E1,"_source":{"n": 1.50},"fields":{"sku":["s"]}}'
HIT_B = b'{"_index":"p","_id":"b","_score":3.5,"fields":{"sku":["t"],"x":[1]},"sort":[3.5]}'
ANSWER = (
    b'{"took":7,"timed_out":false,"hits":{"total":{"value":9,"relation":"gte"},"max_score":12.0,'
    b'"hits":[' + HIT_A + b"," + HIT_B + b']},"aggregations":{"n":{"value":1.0E-7}}}'
)
WIDENED = Widened(RerankOptions(id_field="sku"), "", 0, 10, 100, b"", "", added=("sku",))
SAID = {"status": "reranked"}


def page(shown, widened=WIDENED, answer=ANSWER, max_score=0.5):
    read = read_answer(answer, ("sku",))
    return write_page(read, shown, widened, max_score=max_score, said=SAID)


def test_hits_are_read_with_their_scores_and_fields():
    answer = read_answer(ANSWER, ("sku", "missing"))
    assert [(hit.id, hit.index, hit.score, hit.fields) for hit in answer.hits] == [
        ("a", "p", 12.0, {"sku": "s"}),
        ("b", "p", 3.5, {"sku": "t"}),
    ]
    assert (answer.took_ms, answer.total) == (7.0, (9, False))


def test_a_reranked_page_keeps_what_it_does_not_change_byte_for_byte():
    assert page([Shown(1, 0.5), Shown(0, 0.25)]) == (
        b'{"took":7,"timed_out":false,"hits":{"total":{"value":9,"relation":"gte"},"max_score":0.5,'
        b'"hits":[{"_index":"p","_id":"b","_score":0.5,"sort":[3.5],"fields":{"x":[1],'
        b'"_first_pass_score":[3.5]}},{"_index":"p","_id":"a","_score":0.25,"_source":{"n": 1.50},'
        b'"fields":{"_first_pass_score":[1.20E1]}}]},"aggregations":{"n":{"value":1.0E-7}},'
        b'"ext":{"rerank":{"status":"reranked"}}}'
    )


def test_hits_that_nobody_changed_are_copied():
    widened = replace(WIDENED, added=())
    assert HIT_A in page([Shown(0)], widened, max_score=None)


def test_fields_that_the_caller_asked_for_stay():
    (hit,) = json.loads(page([Shown(0, 0.5)], replace(WIDENED, added=())))["hits"]["hits"]
    assert hit["fields"] == {"sku": ["s"], "_first_pass_score": [12.0]}


def test_a_hit_without_a_score_has_no_first_pass_score():
    answer = b'{"hits":{"max_score":null,"hits":[{"_id":"a","_score":null}]}}'
    assert math.isnan(read_answer(answer, ()).hits[0].score)
    hits = json.loads(page([Shown(0, 0.5)], answer=answer))["hits"]
    assert hits == {"max_score": None, "hits": [{"_id": "a", "_score": 0.5}]}


def test_scores_are_written_as_the_shortest_32_bit_floats():
    (hit,) = json.loads(page([Shown(0, 0.10000000149011612)]))["hits"]["hits"]
    assert hit["_score"] == 0.100000001


def test_a_filtered_answer_gets_nothing_that_the_filter_leaves_out():
    widened = replace(WIDENED, filtered=FilterPath.read("hits.hits._source"))
    body = page([Shown(1, 0.5), Shown(0, 0.25)], widened)
    hits = json.loads(body)["hits"]["hits"]
    assert hits == [
        {"_index": "p", "sort": [3.5], "fields": {"x": [1]}},
        {"_index": "p", "_source": {"n": 1.5}},
    ]
    assert "ext" not in json.loads(body)


def test_a_filter_without_hits_leaves_none():
    answer = b'{"took":1,"hits":{"hits":[{"_id":"a","_score":1.0}]}}'
    widened = replace(WIDENED, filtered=FilterPath.read("took"))
    assert page([Shown(0, 0.5)], widened, answer) == b'{"took":1}'


def test_other_parts_of_ext_stay():
    body = ANSWER[:-1] + b',"ext":{"ubi":{"query_id":"q"}}}'
    assert json.loads(page([], answer=body))["ext"] == {"ubi": {"query_id": "q"}, "rerank": SAID}


def test_totals_stay_within_the_callers_limit():
    answer = b'{"hits":{"total":{"value":50,"relation":"eq"},"hits":[]}}'
    body = page([], replace(WIDENED, total_limit=5), answer)
    assert json.loads(body)["hits"]["total"] == {"value": 5, "relation": "gte"}


@pytest.mark.parametrize("total", [b"12", b'{"value":12,"relation":"eq"}'])
def test_totals_are_read_in_both_forms(total):
    assert read_answer(b'{"hits":{"total":' + total + b',"hits":[]}}', ()).total == (12, True)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"hits":1}', b'{"hits":{"hits":[1]}}', b"\xff"])
def test_what_has_no_hits_is_refused(body):
    with pytest.raises(AnswerError, match="want hits"):
        read_answer(body, ())


def test_an_answer_without_hits_is_an_empty_page():
    assert read_answer(b"{}", ()).hits == []


def test_a_status_is_added_to_objects_only():
    assert add_status(b'{"took":1}', SAID) == b'{"took":1,"ext":{"rerank":{"status":"reranked"}}}'
    assert add_status(b"took: 1", SAID) == b"took: 1"


def test_pretty_answers_are_written_as_elasticsearch_writes_them():
    assert pretty(b'{"a":{"b":[1,"\xc3\xbc"]}}').decode() == (
        '{\n  "a" : {\n    "b" : [\n      1,\n      "ü"\n    ]\n  }\n}\n'
    )


def test_a_status_may_quote_half_of_a_surrogate_pair():
    said = {"status": "degraded", "detail": "ext.rerank.\ud800: got an unknown name"}
    assert json.loads(add_status(b'{"took":1}', said))["ext"]["rerank"] == said
