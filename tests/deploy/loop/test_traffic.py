from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from deploy.loop.click_model import ClickModel
from deploy.loop.documents import document_of
from deploy.loop.errors import ShopTablesError, StreamError
from deploy.loop.rankers import InterleavedOrder, RetrievalOrder
from deploy.loop.search_log import CLICK, read_search_log
from deploy.loop.shop_tables import PRODUCTS_FILE, read_shop_tables, write_lines
from deploy.loop.shoppers import Shoppers
from deploy.loop.streams import JsonLineStreams
from deploy.loop.traffic import chosen_name
from tests.deploy.loop.small_traffic import (
    FIRST_DAY,
    TrueOrder,
    day_of,
    simulator_of,
    write_small_shop,
)

DAY = timedelta(days=1)


@pytest.fixture
def shop(tmp_path):
    return write_small_shop(tmp_path / "shop")


def written(day, folder):
    streams = JsonLineStreams(folder)
    for stream, documents in day.streams.items():
        streams.append(stream, documents)
    return streams


def test_the_same_seed_gives_the_same_documents(shop):
    first, second = day_of(simulator_of(shop)), day_of(simulator_of(shop))
    assert first.streams == second.streams
    assert day_of(simulator_of(shop, seed=2)).streams != first.streams


def test_clicks_come_as_often_as_examination_times_attraction():
    model, random = ClickModel(steepness=1.0), np.random.default_rng(1)
    attraction = np.array([0.9, 0.6, 0.3])
    clicks = np.mean([model.clicks(attraction, random) for _ in range(20_000)], axis=0)
    assert clicks == pytest.approx([0.9, 0.3, 0.1], abs=0.01)


def test_the_true_order_has_a_higher_true_ndcg_than_retrieval(shop):
    tables = read_shop_tables(shop)
    truth = TrueOrder(tables, Shoppers(tables, 1))
    retrieved, ordered = day_of(simulator_of(shop)), day_of(simulator_of(shop), ranker=truth)
    assert ordered.true_ndcg > retrieved.true_ndcg + 0.1


def test_the_truth_is_in_no_stream(shop):
    day = day_of(simulator_of(shop))
    for documents in day.streams.values():
        for document in documents:
            assert b"attraction" not in document.body
            assert b"examined" not in document.body


def test_events_join_their_searches_and_writing_twice_stores_once(shop, tmp_path):
    day = day_of(simulator_of(shop))
    streams = written(day, tmp_path / "streams")
    written(day, tmp_path / "streams")
    log = read_search_log(streams, FIRST_DAY, FIRST_DAY + DAY)
    assert len(log.searches) == 120
    assert (log.orphans, log.unnamed) == (0, 0)
    events = [json.loads(each.body) for each in day.streams["ubi_events"]]
    clicks = sum(each["action_name"] == CLICK for each in events)
    assert sum(len(each.products_of(CLICK)) for each in log.searches) == clicks > 50
    for search in log.searches:
        for event in search.events:
            assert search.shown_ids[event.position - 1] == event.product_id


def test_interleaved_pages_carry_their_teams_through_the_streams(shop, tmp_path):
    tables = read_shop_tables(shop)
    mixed = InterleavedOrder(RetrievalOrder(), TrueOrder(tables, Shoppers(tables, 1)), 1)
    streams = written(day_of(simulator_of(shop), ranker=mixed), tmp_path / "streams")
    log = read_search_log(streams, FIRST_DAY, FIRST_DAY + DAY)
    pages = [each for each in log.searches if each.shown_ids]
    assert all(len(each.teams) == len(each.shown_ids) for each in pages)
    assert all(abs(each.teams.count(0) - each.teams.count(1)) <= 1 for each in pages)


def test_a_line_that_is_no_document_is_named(tmp_path):
    path = tmp_path / "ubi_queries" / "2018-01-02.jsonl"
    path.parent.mkdir()
    path.write_text('{"@timestamp": "2018-01-02T00:00:00Z"}\n{"query_id": 1}\n')
    with pytest.raises(StreamError, match=r"2018-01-02.jsonl:2: got no @timestamp, want one"):
        list(JsonLineStreams(tmp_path).read("ubi_queries", FIRST_DAY, FIRST_DAY + DAY))


def test_a_product_without_a_category_is_refused(shop):
    rows = [{"id": "a", "title": "A", "category_path": []}]
    write_lines(shop / PRODUCTS_FILE, rows)
    with pytest.raises(ShopTablesError, match="got no category of 'a', want one"):
        read_shop_tables(shop)


def test_a_search_in_the_shops_own_words_is_told_from_one_of_the_gateway(tmp_path):
    streams = JsonLineStreams(tmp_path)
    page = {"query_response_hit_ids": ["a", "b"], "@timestamp": "2018-01-02T08:00:00Z"}
    said = {"variant": "retrieval", "category": "dairy"}
    streams.append(
        "ubi_queries", [document_of({**page, "query_id": "1", "query_attributes": said})]
    )
    streams.append("crossrank-searches", [document_of({**page, "query_id": "2"})])
    first, second = read_search_log(streams, FIRST_DAY, FIRST_DAY + DAY).searches
    assert (first.by_gateway, second.by_gateway) == (False, True)
    assert (first.variant, first.category, first.found_ids) == ("retrieval", "dairy", ("a", "b"))


def test_names_are_chosen_by_a_hash_with_their_share():
    shares = {"retrieval": 0.75, "reranked": 0.25}
    chosen = [chosen_name(f"shopper {number}", shares, 1) for number in range(2_000)]
    assert chosen == [chosen_name(f"shopper {number}", shares, 1) for number in range(2_000)]
    assert chosen.count("reranked") == pytest.approx(500, abs=60)  # 3 standard deviations
