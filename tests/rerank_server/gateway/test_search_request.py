from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from rerank_server.gateway.options import RerankOptions
from rerank_server.gateway.rules import IndexRule, IndexRules
from rerank_server.gateway.search_request import SearchRequest, plan_search

RULES = IndexRules(window=100)
ALWAYS = IndexRules([IndexRule("p*", True, RerankOptions(window=50, id_field="sku"))])
QUERY = {"query": {"match": {"title": "shoes"}}}


def plan(body, query="", header=None, rules=RULES, index="products", **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return plan_search(SearchRequest(index, data, query, header, **more), rules)


def widened(*arguments, **options):
    found = plan(*arguments, **options).widened
    assert found is not None
    return found


def test_a_search_that_asks_for_nothing_goes_as_it_came():
    body = b'{"query": {"match_all": {}},  "size" :3}'
    found = plan(body)
    assert found.body is body
    assert not found.wanted
    assert not found.stripped


@pytest.mark.parametrize("option", ["query_id", "surface", "shopper_id", "query"])
def test_half_of_a_surrogate_pair_is_a_problem_of_the_search(option):
    found = plan(b'{"ext":{"rerank":{"%s":"\\ud800"}}}' % option.encode())
    assert found.widened is None
    assert found.problem == (
        f"ext.rerank.{option}: got half of a surrogate pair, want text that UTF-8 can carry"
    )


def test_ext_rerank_is_taken_out_and_the_rest_kept_as_written():
    found = plan(b'{"ext":{"rerank":false,"ubi":{"a":1.0}},"query":{"match_all":{ }}}')
    assert found.body == b'{"ext":{"ubi":{"a":1.0}},"query":{"match_all":{ }}}'
    assert found.stripped
    assert not found.wanted


def test_an_ext_of_nothing_else_is_taken_out_whole():
    assert plan(b'{"size":1,"ext":{"rerank":false}}').body == b'{"size":1}'


def test_the_window_is_asked_for_from_the_first_hit():
    found = widened({**QUERY, "from": 20, "size": 10, "ext": {"rerank": {}}})
    assert (found.offset, found.size, found.asked) == (20, 10, 100)
    body = json.loads(found.body)
    assert body == {**QUERY, "from": 0, "size": 100}
    assert found.query_text == "shoes"


def test_a_page_across_the_windows_end_asks_for_both():
    assert widened({"from": 95, "size": 10, "ext": {"rerank": True}}).asked == 105


def test_sizes_of_the_url_win_over_the_body():
    found = widened({"size": 3, "ext": {"rerank": {}}}, "pretty&size=7&from=2&routing=a%2Fb")
    assert (found.offset, found.size) == (2, 7)
    assert found.query == "pretty&routing=a%2Fb"
    assert json.loads(found.body) == {"from": 0, "size": 100}


def test_the_source_parameter_becomes_the_body():
    source = json.dumps({**QUERY, "ext": {"rerank": {"window": 30}}})
    query = f"source={quote(source)}&source_content_type=application%2Fjson&routing=x"
    found = plan(b"", query)
    rest = json.dumps(QUERY).replace(": ", ":", 1)
    assert found.query == (
        f"source={quote(rest, safe='')}&source_content_type=application%2Fjson&routing=x"
    )
    assert found.widened is not None
    assert found.widened.query == "routing=x"
    assert json.loads(found.widened.body) == {**QUERY, "from": 0, "size": 30}


@pytest.mark.parametrize(
    ("body", "query", "reason"),
    [
        ({"size": 0}, "", "size_0"),
        ({}, "size=0", "size_0"),
        ({}, "size=x", "size"),
        ({"from": -3}, "", "from"),
        ({"size": -1}, "", "size"),
        ({"from": 100}, "", "beyond_window"),
        ({"sort": "price"}, "", "sort"),
        ({"sort": ["_doc"]}, "", "sort"),
        ({"sort": [{"_score": "asc"}]}, "", "sort"),
        ({"sort": [{"_score": {"order": "asc"}}]}, "", "sort"),
        ({"sort": [{"price": "asc"}, "_score"]}, "", "sort"),
        ({}, "sort=price:asc", "sort"),
        ({}, "scroll=1m", "scroll"),
        ({"pit": {"id": "x"}}, "", "pit"),
        ({"search_after": [1]}, "", "search_after"),
        ({"slice": {"id": 0, "max": 2}}, "", "slice"),
        ({"rank": {"rrf": {}}}, "", "rank"),
        ({"stored_fields": "_none_"}, "", "stored_fields"),
        ({}, "format=yaml", "format"),
        ({}, "filter_path=hits.hits._source,-hits.hits._id", "filter_path"),
    ],
)
def test_what_is_no_page_by_score_is_left_alone(body, query, reason):
    found = plan({**body, "ext": {"rerank": {}}}, query)
    assert (found.wanted, found.skipped, found.widened) == (True, reason, None)
    assert json.loads(found.body) == body


@pytest.mark.parametrize(
    "sort",
    [
        None,
        [],
        "_score",
        ["_score"],
        [{"_score": "desc"}],
        [{"_score": {"order": "desc"}}, {"id": "asc"}],
        ["_score", "price"],
    ],
)
def test_a_sort_by_score_first_is_reranked(sort):
    assert plan({"sort": sort, "ext": {"rerank": {}}}).widened is not None


def test_a_rule_reranks_without_asking_and_ext_says_no():
    assert widened(QUERY, rules=ALWAYS).options.window == 50
    assert plan(QUERY, rules=ALWAYS, index="logs").widened is None
    assert plan({**QUERY, "ext": {"rerank": False}}, rules=ALWAYS).widened is None
    assert plan(QUERY, header="false", rules=ALWAYS).widened is None


def test_the_body_wins_over_the_header_and_the_header_over_the_rule():
    header = '{"window": 40, "shopper_id": "h"}'
    found = widened({**QUERY, "ext": {"rerank": {"window": 30}}}, header=header, rules=ALWAYS)
    assert (found.options.window, found.options.shopper_id) == (30, "h")
    assert found.options.id_field == "sku"


@pytest.mark.parametrize(
    ("said", "header", "problem"),
    [
        ({"windw": 3}, None, r"windw: got an unknown name.*nearest: window"),
        ({"window": 0}, None, "ext.rerank.window: got 0, want 1 to 1000"),
        ({"window": True}, None, "ext.rerank.window: got True, want 1 to 1000"),
        ("yes", None, "ext.rerank: got 'yes', want true, false or an object"),
        ({}, "{", "x-rerank: got .* want true, false or a JSON object"),
        ({"history": [{"product_id": "a"}]}, None, r"history\[0\]: got an object of 1"),
        ({"id_field": "*"}, None, "want the name of one field"),
        ({"objective_weights": {"a": "b"}}, None, "want a finite number"),
    ],
)
def test_wrong_options_are_named_and_the_search_goes_on(said, header, problem):
    found = plan({**QUERY, "ext": {"rerank": said}}, header=header)
    assert found.widened is None
    assert re.search(problem, found.problem), found.problem
    assert json.loads(found.body) == QUERY


@pytest.mark.parametrize(
    "body", [b'{"ext":{"rerank":{}},"size":1,"size":2}', b"{", b"\xff{", b"[]"]
)
def test_a_body_that_cannot_be_read_goes_as_it_came(body):
    assert plan(body, header="true").body is body
    assert plan(body, header="true").widened is None
    assert plan(body, rules=ALWAYS).skipped == "body"


def test_fields_are_added_where_the_caller_does_not_ask_for_them():
    ask = {"id_field": "sku", "category_field": "category", "signals": {"stock": "stock"}}
    found = widened({"fields": ["title", {"field": "st*"}], "ext": {"rerank": ask}})
    assert found.added == ("sku", "category")
    assert json.loads(found.body)["fields"] == ["title", {"field": "st*"}, "sku", "category"]


def test_no_field_is_added_that_docvalue_fields_bring():
    body = {"docvalue_fields": [{"field": "sku"}], "ext": {"rerank": {"id_field": "sku"}}}
    assert widened(body).added == ()


def test_a_stored_field_of_the_same_name_is_left_alone():
    body = {"stored_fields": ["sku"], "ext": {"rerank": {"id_field": "sku"}}}
    assert plan(body).skipped == "stored_fields"


def test_a_filter_path_gets_what_reranking_reads():
    found = widened(
        {"ext": {"rerank": {"id_field": "sku"}}}, "filter_path=hits.hits._source&size=3"
    )
    assert found.query == (
        "filter_path=hits.hits._source%2Chits.hits._id%2Chits.hits._score%2Chits.hits.fields.sku"
    )


def test_the_window_stays_within_a_retriever_and_the_index():
    body = {"retriever": {"rrf": {"rank_window_size": 40}}, "ext": {"rerank": {}}}
    assert widened(body).asked == 40
    data = json.dumps({"ext": {"rerank": {}}}).encode()
    found = plan_search(SearchRequest("p", data), RULES, limit=20).widened
    assert found is not None
    assert (found.asked, found.options.window) == (20, 20)


def test_the_query_of_a_uri_search_is_its_text():
    assert widened(b"", "q=red+shoes", header="true").query_text == "red shoes"


def test_a_search_inside_an_msearch_with_a_filter_is_left_alone():
    found = plan({"ext": {"rerank": {}}}, "filter_path=responses.hits.hits._id", inner=True)
    assert found.skipped == "filter_path"
