from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.loop.drift import chi_square_tail, name_drift, number_drift
from deploy.loop.experiments import GO_ON, STOP, judge, likelihood_ratio, sample_ratio
from deploy.loop.gate import RankedSearch, compare_categories
from deploy.loop.interleaving import Interleaved, credit, preference, team_draft
from deploy.loop.log_tables import weighted_pages
from deploy.loop.propensity import Examination, estimate_examination
from deploy.loop.quality import rate_of, rate_of_sums
from deploy.loop.search_log import LoggedSearch, ShopperEvent

NOON = datetime(2018, 1, 2, 12, tzinfo=UTC)


def search(number, shown, clicked, *, query="milk", shopper=None, category="dairy"):
    return LoggedSearch(
        query_id=f"q{number}",
        time=NOON,
        shopper=shopper or f"s{number}",
        query=query,
        retrieved_ids=tuple(shown),
        shown_ids=tuple(shown),
        category=category,
        events=[ShopperEvent("click", each, 0, category, NOON) for each in clicked],
    )


def coin_rate(hits, shoppers):
    above = np.r_[np.ones(hits), np.zeros(shoppers - hits)]
    return rate_of_sums(above, np.ones(shoppers), shoppers)


def test_rates_by_hand():
    searches = [search(1, "abcd", "b"), search(2, "abcd", ""), search(3, "", "")]
    assert rate_of(searches, "ctr").value == 0.5
    assert rate_of(searches, "mrr").value == 0.25  # (1 / 2 + 0) / 2
    assert rate_of(searches, "null_searches").value == pytest.approx(1 / 3)
    assert rate_of(searches, "abandoned_searches").value == 0.5


def test_the_variance_of_a_rate_by_hand():
    # the rate is 2 / 4, both shoppers are off it by 0.5, and 4 stands below
    rate = rate_of_sums(np.array([1.0, 1.0]), np.array([1.0, 3.0]), 4)
    assert rate.variance == pytest.approx(2 * 0.5 / 16)


def test_nothing_below_the_line_is_not_a_number():
    assert math.isnan(rate_of([search(1, "", "")], "ctr").value)


def test_chi_square_tails_as_in_the_tables():
    assert chi_square_tail(3.841, 1) == pytest.approx(0.05, abs=1e-4)
    assert chi_square_tail(5.991, 2) == pytest.approx(0.05, abs=1e-4)
    assert chi_square_tail(18.307, 10) == pytest.approx(0.05, abs=1e-4)


def test_a_stability_index_by_hand():
    drift = name_drift("category", "share", ["a", "b"] * 50, ["a"] * 75 + ["b"] * 25)
    # shares go from a half to three quarters and one quarter
    assert drift.psi == pytest.approx(0.25 * math.log(3))


def test_the_same_numbers_do_not_drift_and_shifted_ones_do():
    random = np.random.default_rng(1)
    before, after = random.normal(size=500), random.normal(size=500)
    assert not number_drift("feature", "x", before, after).shifted
    assert number_drift("feature", "x", before, after + 1).shifted


def test_a_broken_split_stops_the_experiment():
    assert sample_ratio(500, 500, 0.5).p_value == 1.0
    rates = [coin_rate(400, 800), coin_rate(600, 1_200)]
    assert judge([(rates[0], rates[1])], 0.5).decision == STOP
    assert judge([(rates[0], rates[1])], 0.6).decision == GO_ON


def test_the_interval_ends_where_the_likelihood_ratio_refutes():
    rates = [coin_rate(300, 1_000), coin_rate(340, 1_000)]
    verdict = judge([(rates[0], rates[1])], 0.5)
    variance = rates[0].variance + rates[1].variance
    assert likelihood_ratio(verdict.high - verdict.lift, variance) == pytest.approx(20.0)


@pytest.mark.parametrize("seed", [1, 2])
def test_equal_arms_are_seldom_called_different(seed):
    random, alarms = np.random.default_rng(seed), 0
    for _ in range(200):
        sums = [np.zeros(200), np.zeros(200)]
        looks = []
        for day in range(1, 8):
            sums = [each + (random.random(200) < 0.3) for each in sums]
            base, arm = (rate_of_sums(each, np.full(200, float(day)), 200) for each in sums)
            looks.append((base, arm))
        alarms += judge(looks, 0.5).decision != GO_ON
    assert alarms <= 16  # 5% of 200 would be 10; P(more than 16) < 0.02 even then


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_a_team_draft_shows_each_product_once_and_teams_stay_even(seed, places):
    first, second = list("abcdefgh"), list("hgfedcba")
    page = team_draft(first, second, places, np.random.default_rng(seed))
    assert len(set(page.ids)) == len(page.ids) == min(places, 8)
    assert abs(page.teams.count(0) - page.teams.count(1)) <= 1


def test_credit_and_the_sign_test_by_hand():
    page = Interleaved(("a", "b", "c"), (0, 1, 0))
    assert credit(page, ["a", "c", "b"]) == 1
    won = preference([1, 1, 1, 1, 1, -1, 0])
    assert (won.first, won.second, won.ties) == (5, 1, 1)
    assert won.p_value == pytest.approx(2 * (1 + 6) / 64)


def test_the_examination_curve_is_recovered():
    random = np.random.default_rng(3)
    attraction = random.uniform(0.2, 0.9, 8)
    searches = []
    for number in range(6_000):
        order = random.permutation(8)
        chance = attraction[order] / np.arange(1, 9)
        clicked = [str(each) for each in order[random.random(8) < chance]]
        searches.append(search(number, [str(each) for each in order], clicked))
    found = estimate_examination(searches, 8)
    assert found.propensity == pytest.approx(1 / np.arange(1, 9), abs=0.06)


def test_weighted_pages_stand_for_clicks_by_inverse_propensity():
    examination = Examination(np.array([1.0, 0.5, 0.25]), np.array([9, 9, 9]))
    pages, events = [], []
    for number in range(300):
        product = "abc"[number % 3]
        pages.append(
            {
                "query_id": f"q{number}",
                "candidates": ["c", "a", "b"],
                "scores": [],
                "places": {"a": 1, "b": 2, "c": 3},
                "clicked": 1,
            }
        )
        events.append({"query_id": f"q{number}", "product": product, "kind": "click"})
    _, kept = weighted_pages(pages, events, examination, 1)
    counts = [sum(each["product"] == product for each in kept) for product in "abc"]
    assert sum(counts) == pytest.approx(300, abs=30)
    assert counts[1] / counts[0] == pytest.approx(2.0, rel=0.25)
    assert counts[2] / counts[0] == pytest.approx(4.0, rel=0.25)


def test_a_bundle_that_turns_a_category_over_loses_there_and_only_there():
    flat = Examination(np.ones(4), np.full(4, 9))
    ranked = [
        RankedSearch(search(n, "abcd", "a", category=category), "abcd", order)
        for n, (category, order) in enumerate([("dairy", "dcba"), ("bakery", "abcd")] * 60)
    ]
    found = {
        each.category: each for each in compare_categories(ranked, flat, np.random.default_rng(1))
    }
    assert found["dairy"].serving == 1.0
    assert found["dairy"].candidate == pytest.approx(1 / math.log2(5))
    assert found["dairy"].loses
    assert not found["bakery"].loses
