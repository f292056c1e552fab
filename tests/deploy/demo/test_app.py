from __future__ import annotations

import math

import pytest
from starlette.testclient import TestClient

from deploy.demo.app import create_app
from tests.deploy.demo.small_shop import BUNDLE_ID, Down, OwnFirst


@pytest.fixture
def client(small_shop, small_index):
    return TestClient(create_app(small_shop, small_index, OwnFirst(), report_path=None))


def test_page_holds_both_orders_with_movement_and_reasons(client):
    page = client.get("/api/page", params={"shopper": "6", "q": "yogurt"}).json()
    before = [candidate["id"] for candidate in page["candidates"]]
    after = [before[index] for index in page["reranked"]]
    # By sales at store 1: 100 to 102 sold 60 times, 109 nine times, the others never.
    assert before[:4] == ["100", "101", "102", "109"]
    assert after[:4] == ["109", "100", "101", "102"]
    moved = page["candidates"][3]
    assert (moved["retrieval_rank"], moved["rank"], moved["movement"]) == (3, 0, 3)
    assert moved["score"] == pytest.approx(0.9)
    assert moved["probabilities"] == {"purchase": pytest.approx(0.9)}
    assert moved["explanation"] == [{"group": "bought before", "contribution": pytest.approx(0.9)}]
    assert (moved["bought_before"], moved["bought_days_ago"]) == (9, 8)
    assert (moved["title"], moved["size"]) == ("Yogurt not multi-packs", "9 oz")
    assert (moved["category"], moved["brand"]) == ("Dairy & eggs", "national")
    assert sorted(page["reranked"]) == list(range(len(before)))


def test_page_measures_both_orders_by_what_was_bought_next(client):
    page = client.get("/api/page", params={"shopper": "6", "q": "yogurt"}).json()
    assert [c["id"] for c in page["candidates"] if c["bought_next"]] == ["109"]
    # One bought product, fourth before and first after: 1 / log2(5) and 1.
    assert page["ndcg"]["before"] == pytest.approx(1 / math.log2(5))
    assert page["ndcg"] == {"k": 10, "before": page["ndcg"]["before"], "after": 1.0, "bought": 1}


def test_page_without_truth_has_no_ndcg(client):
    assert client.get("/api/page", params={"shopper": "5", "q": "yogurt"}).json()["ndcg"] is None


def test_page_names_bundle_and_time_by_stage(client):
    page = client.get("/api/page", params={"shopper": "6", "q": "yogurt"}).json()
    assert page["bundle_id"] == BUNDLE_ID
    assert page["degraded"] is None
    times = page["latency_ms"]
    assert (times["network"], times["scoring"]) == (0.5, 1.0)
    assert times["total"] == pytest.approx(times["retrieval"] + 1.5)


def test_a_page_that_could_not_be_scored_says_so(small_shop, small_index):
    client = TestClient(create_app(small_shop, small_index, Down(), report_path=None))
    page = client.get("/api/page", params={"shopper": "6", "q": "yogurt"}).json()
    assert page["degraded"] == {"reason": "unavailable", "detail": "connection refused"}
    assert page["reranked"] == list(range(len(page["candidates"])))
    assert page["candidates"][0]["score"] is None


def test_discovery_leaves_out_what_was_bought_before(client):
    page = client.get("/api/page", params={"shopper": "6", "surface": "discovery"}).json()
    ids = {candidate["id"] for candidate in page["candidates"]}
    assert "109" not in ids
    assert len(ids) == 25
    assert {candidate["bought_before"] for candidate in page["candidates"]} == {0}


def test_promotion_shows_what_the_shoppers_store_promotes(client):
    page = client.get("/api/page", params={"shopper": "6", "surface": "promotion"}).json()
    assert {candidate["id"] for candidate in page["candidates"]} == {"103", "204"}
    assert all(candidate["promoted"] for candidate in page["candidates"])
    assert {entry["category"] for entry in page["categories"]} == {"Dairy & eggs", "Frozen"}


def test_category_shows_one_category(client):
    wanted = {"shopper": "6", "surface": "category", "category": "produce"}
    page = client.get("/api/page", params=wanted).json()
    assert page["categories"] == [{"category": "Produce", "colour": 2, "count": 6}]


def test_the_ranker_gets_the_history_before_now_and_the_signals_it_is_trained_on(
    small_shop, small_index
):
    ranker = OwnFirst()
    client = TestClient(create_app(small_shop, small_index, ranker, report_path=None))
    client.get("/api/page", params={"shopper": "6", "surface": "promotion"})
    (page,) = ranker.pages
    assert page.time == small_shop.now
    assert max(page.history.times) < small_shop.now
    at = list(page.candidate_ids).index("103")
    assert page.signals["display_location"][at] == 3
    assert page.signals["promotion_display"][at] == 1
    assert page.signals["promotion_mailer"][at] == 0


def test_surprise_is_a_search_that_comes_next(client):
    found = {client.get("/api/surprise", params={"shopper": "6"}).json()["q"] for _ in range(40)}
    assert {"apples", "frozen pizza"} <= found
    other = client.get("/api/surprise", params={"shopper": "5"}).json()
    assert other["shopper"] != "5"


def test_suggestions_complete_the_last_word(client):
    found = client.get("/api/suggest", params={"q": "froz"}).json()["suggestions"]
    assert found == [{"query": "frozen pizza", "category": "Frozen"}]
    usual = client.get("/api/suggest", params={"q": "", "shopper": "6"}).json()["suggestions"]
    assert [one["query"] for one in usual] == ["yogurt not multi-packs"]
    assert client.get("/api/suggest", params={"q": "?!"}).json() == {"suggestions": []}


def test_shoppers_with_next_searches_come_first(client):
    answer = client.get("/api/shoppers").json()
    assert answer["shoppers"][0]["id"] == "6"
    assert answer["shoppers"][0]["top_categories"] == [{"title": "Dairy & eggs", "share": 1.0}]
    assert [entry["title"] for entry in answer["categories"]] == [
        "Dairy & eggs",
        "Frozen",
        "Produce",
    ]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"q": "caviar"}, "search: got no products for 'caviar', want other words"),
        ({"surface": "promotion", "place": "2"}, "promotion: got no products here this week"),
    ],
)
def test_a_page_without_candidates_says_so(client, parameters, words):
    answer = client.get("/api/page", params={"shopper": "6"} | parameters)
    assert answer.status_code == 200
    assert answer.json()["candidates"] == []
    assert answer.json()["nothing"].startswith(words)


@pytest.mark.parametrize(
    ("parameters", "status", "error"),
    [
        ({"shopper": "9", "q": "milk"}, 404, "shopper: got '9', want one of 6"),
        ({"q": "milk"}, 404, "shopper: got ''"),
        ({"shopper": "6", "q": " "}, 400, "query: got ' '"),
        ({"shopper": "6", "surface": "hom"}, 400, "surface: got 'hom', want one of search"),
        ({"shopper": "6", "surface": "category"}, 400, "category: got none"),
        ({"shopper": "6", "q": "yogurt", "place": "7"}, 400, "place: got '7'"),
        ({"shopper": "6", "query": "yogurt"}, 400, "parameter: got 'query'"),
    ],
)
def test_bad_requests_get_clear_json(client, parameters, status, error):
    answer = client.get("/api/page", params=parameters)
    assert answer.status_code == status
    assert error in answer.json()["error"]


def test_a_query_of_markup_stays_data(client):
    answer = client.get("/api/page", params={"shopper": "6", "q": "<script>alert(1)</script>"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_may_load_nothing_but_itself(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text


def test_report_is_served_where_there_is_one(small_shop, small_index, tmp_path, client):
    missing = client.get("/report")
    assert missing.status_code == 404
    assert "want the trainer's report" in missing.json()["error"]
    report = tmp_path / "report.html"
    report.write_text("<h1>figures</h1>")
    with_report = TestClient(create_app(small_shop, small_index, OwnFirst(), report_path=report))
    assert with_report.get("/report").text == "<h1>figures</h1>"


def test_health_and_unknown_routes_answer_in_json(client, small_shop):
    assert client.get("/healthz").json() == {
        "status": "ok",
        "products": 26,
        "now": small_shop.now,
    }
    unknown = client.get("/nothing")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Not Found"})
