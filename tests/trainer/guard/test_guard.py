"""The guard's rule: what takes a category over, and what does not, on pages worked by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from trainer.guard.guard import (
    DEFAULT,
    NETWORK_ALONE,
    OWN_TREES,
    POOLED_TREES,
    GuardLimits,
    choose_ranking,
    guard_from_json,
    guard_to_json,
    level_of,
)

LIMITS = GuardLimits()


def pages(count: int, value: float = 0.5) -> np.ndarray:
    return np.full(count, value)


def choose(default, rivals, shoppers=None, limits=LIMITS):
    people = np.arange(default.size) if shoppers is None else shoppers
    return choose_ranking("search", "pet", default, rivals, people, limits)


@pytest.mark.parametrize(
    ("count", "people", "switched"),
    [(99, 99, False), (100, 29, False), (100, 30, True), (100, 100, True)],
)
def test_a_category_with_too_few_pages_or_shoppers_keeps_the_default(count, people, switched):
    got = choose(pages(count), {OWN_TREES: pages(count, 0.9)}, np.arange(count) % people)
    assert got.switched == switched
    assert (got.pages, got.shoppers) == (count, people)
    assert got.reason.startswith(f"{count} validation pages of {people} shoppers") != switched
    assert bool(got.rivals) == switched


def test_a_ranking_that_is_ahead_on_every_page_takes_over():
    got = choose(pages(200), {NETWORK_ALONE: pages(200, 0.4), OWN_TREES: pages(200, 0.6)})
    assert got.choice == OWN_TREES
    # each page differs by .1, so does each draw
    told = got.rivals[1].difference
    assert (told.mean, told.low, told.high) == pytest.approx((0.1, 0.1, 0.1))
    assert got.rivals[0].difference.high == pytest.approx(-0.1)
    assert got.ndcg_at_10 == pytest.approx(0.5)
    assert got.reason == (
        "own trees ahead of the default by +0.1000 [+0.1000, +0.1000] on 200 validation pages"
    )


def test_a_difference_whose_interval_straddles_zero_is_no_reason_to_switch():
    rival = pages(200)
    rival[::2] += 0.3
    rival[1::2] -= 0.28  # ahead by .01 on average, by far less than the spread
    got = choose(pages(200), {POOLED_TREES: rival})
    assert got.choice == DEFAULT
    assert got.rivals[0].difference.mean == pytest.approx(0.01)
    assert got.rivals[0].difference.low < 0 < got.rivals[0].difference.high
    assert got.reason == "no other ranking is ahead of the default with confidence"


def test_pages_of_one_shopper_count_as_one_observation():
    """Ahead on half of the shoppers: surely so by pages, not so by six shoppers."""
    rival = pages(300)
    people = np.repeat(np.arange(6), 50)
    rival[people < 4] += 0.1
    rival[people >= 4] -= 0.1
    limits = GuardLimits(pages=100, shoppers=6)
    assert choose(pages(300), {POOLED_TREES: rival}, limits=limits).switched
    assert not choose(pages(300), {POOLED_TREES: rival}, people, limits).switched


def test_more_rivals_ask_for_wider_intervals():
    assert level_of(1) == pytest.approx(0.95)
    assert level_of(5) == pytest.approx(0.99)
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.1, 400)
    noise += 0.0115 - noise.mean()  # 2.3 standard errors: beyond 95 %, not beyond 99.2 %
    rival = pages(400) + noise
    assert choose(pages(400), {OWN_TREES: rival}).switched
    others = {f"other {number}": pages(400, 0.4) for number in range(5)}
    assert not choose(pages(400), {OWN_TREES: rival, **others}).switched


def test_of_several_that_are_ahead_the_furthest_is_taken():
    rivals = {NETWORK_ALONE: pages(150, 0.7), POOLED_TREES: pages(150, 0.6)}
    assert choose(pages(150), rivals).choice == NETWORK_ALONE


def test_pages_without_a_positive_count_for_nothing():
    default, rival = pages(200), pages(200, 0.6)
    default[:120], rival[:120] = math.nan, math.nan
    got = choose(default, {OWN_TREES: rival})
    assert (got.pages, got.choice) == (80, DEFAULT)


def test_a_category_without_a_page_or_a_rival_keeps_the_default():
    none = choose(pages(0), {})
    assert none.choice == DEFAULT
    assert math.isnan(none.ndcg_at_10)
    assert choose(pages(200), {}).reason == "nothing to compare with the default"


def test_choices_survive_json():
    choices = [
        choose(pages(0), {}),
        choose(pages(200), {OWN_TREES: pages(200, 0.6), POOLED_TREES: pages(200, 0.5)}),
    ]
    text = json.dumps(guard_to_json(choices), allow_nan=False)
    again = guard_from_json(json.loads(text))
    assert again[1] == choices[1]
    assert again[0].reason == choices[0].reason
    assert math.isnan(again[0].ndcg_at_10)
