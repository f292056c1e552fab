from __future__ import annotations

import numpy as np
import pytest

from deploy.demo.errors import CatalogueError, ShopError, UnknownShopperError
from deploy.demo.promotions import read_promotions, week_of
from deploy.demo.shop import Shop
from rerank_server.contract.page import SECONDS_PER_DAY
from tests.deploy.demo.small_shop import NOW
from trainer.errors import PreparedError


def test_sales_count_the_whole_days_before_now(small_shop):
    sales = {product.id: product for product in small_shop.catalogue_products()}
    # Five households on Saturdays: 3 of them in 28 days, 7 in 56, 12 in 91.
    assert (sales["100"].sales_28d, sales["100"].sales_56d, sales["100"].sales_91d) == (15, 35, 60)
    assert (sales["109"].sales_28d, sales["109"].sales_91d) == (3, 9)
    assert sales["204"].sales_91d == 0


def test_place_rows_hold_sales_and_this_weeks_promotions(small_shop):
    table = small_shop.place_table()
    rows = table.of("1")
    listed = {small_shop.records[row]["id"]: index for index, row in enumerate(rows.rows.tolist())}
    assert rows.sales_91d[listed["100"]] == 60
    assert rows.promotion_display[listed["103"]] == 3
    assert rows.promotion_mailer[listed["204"]] == 1
    assert rows.promoted.sum() == 2
    assert not table.of("2").promoted.any()


def test_place_rows_agree_with_the_signals_of_the_logs_own_pages(small_shop):
    prepared = small_shop.prepared
    table = small_shop.place_table()
    today = np.asarray(prepared.page_times) // SECONDS_PER_DAY == NOW // SECONDS_PER_DAY + 2
    tomorrow = Shop(prepared, NOW + 2 * SECONDS_PER_DAY, small_shop.promotions)
    table = tomorrow.place_table()
    compared = 0
    for page in np.flatnonzero(today).tolist():
        part = prepared.page(page)
        listed = table.of(prepared.places[prepared.page_places[page]])
        for row, signals in zip(
            prepared.candidate_rows[part], prepared.candidate_signals[part], strict=True
        ):
            at = np.flatnonzero(listed.rows == row)
            columns = (listed.sales_28d, listed.sales_91d, listed.promotion_display)
            got = [float(column[at[0]]) if at.size else 0.0 for column in columns]
            names = ("store_sales_28d", "store_sales_91d", "display_location")
            want = [float(signals[prepared.signals.index(name)]) for name in names]
            assert got == want
            compared += 1
    assert compared > 0


def test_history_ends_before_now(small_shop):
    history = small_shop.history("6")
    assert list(history.product_ids) == ["109"] * 9
    assert history.times.max() < NOW
    assert set(history.places) == {"1"}
    assert all(history.discounted)


def test_history_before_a_time_is_shorter(small_shop):
    first = int(small_shop.history("6").times[0])
    assert small_shop.history("6", first).product_ids == []
    assert small_shop.own_products("6", first) == []
    assert list(small_shop.history("6", first + 1).product_ids) == ["109"]


def test_profile_names_place_baskets_and_categories(small_shop):
    shopper = small_shop.shopper("6")
    assert (shopper.place, shopper.baskets, shopper.events) == ("1", 9, 9)
    assert shopper.top_categories == (("dairy_eggs", 1.0),)
    assert shopper.next_requests == 3


def test_own_products_put_the_most_recently_frequent_first(small_shop):
    # Household 1 bought five products 28 times and all others once, in March.
    assert set(small_shop.own_products("1")[:5]) == {"100", "101", "102", "200", "300"}
    assert len(small_shop.own_products("1")) == 26


def test_past_products_count_purchases_and_days(small_shop):
    # Saturday 11 November 18:00 to Monday 20 November 05:00 is eight whole days.
    past = small_shop.past_products("6")
    assert (past["109"].times, past["109"].last_days) == (9, 8)


def test_what_was_bought_next_is_kept_apart(small_shop):
    assert small_shop.bought_next("6") == {"109", "204", "301"}
    assert small_shop.bought_next("5") == frozenset()


def test_requests_between_replay_the_logs_searches(small_shop):
    requests = list(small_shop.requests_between(NOW, NOW + 7 * SECONDS_PER_DAY))
    bought = {(one.category, tuple(one.bought)) for one in requests if one.shopper == "6"}
    assert bought == {("dairy_eggs", ("109",)), ("frozen", ("204",)), ("produce", ("301",))}
    assert all(NOW <= one.time < NOW + 7 * SECONDS_PER_DAY for one in requests)
    assert {one.place for one in requests} == {"1"}
    assert list(small_shop.requests_between(NOW, NOW)) == []


def test_usual_queries_are_types_bought_before(small_shop):
    assert small_shop.usual_queries("6", 5) == ["yogurt not multi-packs"]


def test_products_show_title_size_brand_and_maker(small_shop):
    yogurt, pizza = small_shop.product("109"), small_shop.product("204")
    assert (yogurt.title, yogurt.size) == ("Yogurt not multi-packs", "9 oz")
    assert (yogurt.brand, yogurt.maker) == ("national", "709")
    assert (pizza.brand, pizza.maker) == ("private", None)


def test_unknown_shopper_is_refused_with_the_nearest(small_shop):
    with pytest.raises(UnknownShopperError, match=r"shopper: got '66', want one of 6 known"):
        small_shop.history("66")


def test_unknown_product_is_refused(small_shop):
    with pytest.raises(ShopError, match="product: got 'x', want one of 26 known ids"):
        small_shop.product("x")


def test_now_before_the_log_is_refused(small_prepared):
    with pytest.raises(ShopError, match="now: got 1000000000, want a time after"):
        Shop.open(small_prepared, 1_000_000_000)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(PreparedError):
        Shop.open(tmp_path, NOW)


@pytest.mark.parametrize(
    ("time", "week"),
    [(NOW - 1, 47), (NOW, 48), (1_483_271_606, 1), (1_483_333_554, 2), (1_498_449_964, 26)],
)
def test_weeks_begin_on_monday_midnight_in_new_york(time, week):
    assert week_of(time) == week


def test_damaged_promotions_are_refused(tmp_path):
    path = tmp_path / "promotions.parquet"
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(CatalogueError, match="want a readable table"):
        read_promotions(path, 48, product_ids=["1"], places=["1"])
