from __future__ import annotations

import math

import pytest

from rerank_server.gateway.candidates import find_candidates, order_hits
from rerank_server.gateway.errors import RankingError
from rerank_server.gateway.options import RerankOptions
from rerank_server.gateway.ranking import Ranking
from rerank_server.gateway.search_answer import read_answer


def hits(*rows):
    written = ",".join(
        f'{{"_index":"{index}","_id":"{id_}","_score":{score},"fields":{fields}}}'
        for index, id_, score, fields in rows
    )
    names = ("sku", "stock", "category")
    return read_answer(f'{{"hits":{{"hits":[{written}]}}}}'.encode(), names).hits


def ranking(ids, scores, hidden=0, reason=""):
    return Ranking(tuple(ids), tuple(scores), hidden, "b", "", reason, reason, {})


TWO = hits(("p", "a", 2, "{}"), ("p", "b", 1, "{}"))
THREE = hits(("p", "a", 3, "{}"), ("p", "b", 2, "{}"), ("q", "a", 1, "{}"))


def test_hits_of_one_product_are_one_candidate_and_stay_together():
    found = find_candidates(THREE, RerankOptions())
    assert (found.ids, found.places) == (("a", "b"), ((0, 2), (1,)))
    assert found.retrieval_scores == (3.0, 2.0)
    shown = order_hits(found, ranking(["b", "a"], [0.9, 0.1]))
    assert [(place.hit, place.score) for place in shown] == [(1, 0.9), (0, 0.1), (2, 0.1)]


def test_ids_signals_and_categories_come_from_fields():
    options = RerankOptions(id_field="sku", category_field="category", signals={"s": "stock"})
    found = find_candidates(
        hits(
            ("p", "1", 2, '{"sku":["x","y"],"stock":[3],"category":["dairy"]}'),
            ("p", "2", 1, '{"sku":[17],"stock":["no"]}'),
        ),
        options,
    )
    assert found.ids == ("x", "17")
    assert found.categories == ("dairy", "")
    assert found.signals["s"][0] == 3.0
    assert math.isnan(found.signals["s"][1])


def test_a_document_without_an_id_is_a_product_that_nobody_knows():
    rows = [("p", "1", 2, '{"sku":["x"]}'), ("p", "2", 1, "{}"), ("p", "3", 1, '{"sku":[""]}')]
    found = find_candidates(hits(*rows), RerankOptions(id_field="sku"))
    assert found.ids[0] == "x"
    assert len(set(found.ids)) == 3
    assert found.ids == find_candidates(hits(*rows), RerankOptions(id_field="sku")).ids


def test_a_window_without_any_id_is_not_reranked():
    with pytest.raises(RankingError, match="sku: got no value in 2 hits") as error:
        find_candidates(TWO, RerankOptions(id_field="sku"))
    assert error.value.reason == "no_product_ids"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ranking(["a"], [0.5]), "wrong_answer"),
        (ranking(["a", "b", "c"], [0.5, 0.4, 0.3]), "wrong_answer"),
        (ranking(["a", "x"], [0.5, 0.4]), "wrong_answer"),
        (ranking(["a", "a"], [0.5, 0.4]), "wrong_answer"),
        (ranking(["a", "b"], [0.5]), "wrong_answer"),
        (ranking(["a", "b"], [0.5, math.nan]), "wrong_answer"),
        (ranking(["a", "b"], [], reason="deadline"), "deadline"),
    ],
)
def test_an_answer_that_does_not_fit_is_no_order(answer, reason):
    with pytest.raises(RankingError) as error:
        order_hits(find_candidates(TWO, RerankOptions()), answer)
    assert error.value.reason == reason


def test_what_a_policy_hid_may_be_missing():
    shown = order_hits(find_candidates(TWO, RerankOptions()), ranking(["b"], [0.5], hidden=1))
    assert [place.hit for place in shown] == [1]
