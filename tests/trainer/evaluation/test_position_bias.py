from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.position_bias import (
    Impressions,
    PositionBiasError,
    copies_of_clicks,
    effective_sample_size,
    fit_examination,
    harvest_examination,
    inverse_propensity_weights,
    not_increasing,
    swap_examination,
)

PLACES = 6
TRUE = 1.0 / np.arange(1, PLACES + 1)


def shown_pages(order_of, attraction, searches, seed=1):
    """Return pair, place and click of pages; `order_of` draws the products of a page."""
    random = np.random.default_rng(seed)
    order = np.array([order_of(random) for _ in range(searches)])[:, :PLACES]
    place = np.tile(np.arange(PLACES), (searches, 1))
    clicked = random.random(order.shape) < TRUE * attraction[order]
    return Impressions(order.ravel(), place.ravel(), clicked.ravel())


def tolerance(rate: float, shown: int) -> float:
    """Return 4 standard errors of a ratio of two rates of clicks of at most `rate`."""
    return float(4 * np.sqrt(2 * (1 - rate) / (rate * shown)))


def test_em_recovers_the_curve_of_shuffled_pages():
    attraction = np.random.default_rng(3).uniform(0.2, 0.9, 8)
    searches = 6_000
    shown = shown_pages(lambda random: random.permutation(8), attraction, searches)
    found = fit_examination(shown, PLACES)
    assert found.examination[0] == 1.0
    np.testing.assert_allclose(found.examination, TRUE, atol=tolerance(attraction.mean(), searches))
    assert found.rounds < 400


def test_em_learns_how_attractive_products_are():
    # a product that is always liked: the curve is then the rate of clicks itself
    attraction = np.full(8, 0.95)
    shown = shown_pages(lambda random: random.permutation(8), attraction, 3_000)
    found = fit_examination(shown, PLACES)
    np.testing.assert_allclose(found.examination, TRUE, atol=tolerance(0.95, 3_000))
    assert found.attraction.mean() == pytest.approx(0.95, abs=0.05)


def test_features_tell_examination_from_what_the_ranking_knows_of_the_shopper():
    random = np.random.default_rng(5)
    taste = random.normal(size=(20_000, PLACES))  # of the shopper: no pair has it
    order = np.argsort(-(taste + random.normal(size=taste.shape)), axis=1)
    taste = np.take_along_axis(taste, order, axis=1)
    alpha = 1 / (1 + np.exp(-(1.5 * taste - 1)))
    clicked = random.random(alpha.shape) < TRUE * alpha
    place = np.tile(np.arange(PLACES), (len(order), 1))
    pairs = Impressions(order.ravel(), place.ravel(), clicked.ravel())
    told = Impressions(order.ravel(), place.ravel(), clicked.ravel(), taste.reshape(-1, 1))
    error_alone = np.abs(fit_examination(pairs, PLACES).examination - TRUE).max()
    error_told = np.abs(fit_examination(told, PLACES).examination - TRUE).max()
    assert error_told < 0.04
    assert error_alone > 0.1


def test_harvesting_compares_products_that_two_rankings_put_at_different_places():
    attraction = np.random.default_rng(4).uniform(0.2, 0.9, 60)
    random = np.random.default_rng(8)
    parts, rankings = [], []
    for ranking in range(2):
        # ten queries of six products, which each ranking orders in its own way, always alike
        orders = [6 * query + random.permutation(6) for query in range(10)]
        parts.append(
            shown_pages(
                lambda draw, orders=orders: orders[draw.integers(10)], attraction, 20_000, ranking
            )
        )
        rankings.append(np.full(parts[-1].clicked.size, ranking))
    both = Impressions(
        np.concatenate([part.pair for part in parts]),
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.clicked for part in parts]),
    )
    found = harvest_examination(both, np.concatenate(rankings), PLACES)
    # some 2,000 showings of each product; a place is compared by a dozen products
    np.testing.assert_allclose(found.examination, TRUE, atol=0.05)


def test_a_swap_by_a_coin_is_a_ratio_of_rates():
    random = np.random.default_rng(9)
    count = 20_000
    swapped = random.random(count) < 0.5
    attraction = np.array([0.9, 0.3])
    at_top = attraction[swapped.astype(int)]
    at_low = attraction[1 - swapped.astype(int)]
    place = np.concatenate([np.zeros(count, int), np.full(count, 3)])
    clicked = np.concatenate([random.random(count) < at_top, random.random(count) < 0.25 * at_low])
    ratio, error = swap_examination(place, clicked, np.full(2 * count, 3))[3]
    assert abs(ratio - 0.25) < 4 * error
    assert 0.001 < error < 0.01


def test_the_ratio_of_a_swap_and_its_error_by_hand():
    place = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    clicked = np.array([1, 1, 0, 0, 1, 0, 0, 0], np.bool_)
    ratio, error = swap_examination(place, clicked, np.full(8, 1))[1]
    assert ratio == 0.5
    # variance of the lower rate over .25, and a quarter of that of the upper rate over .25
    assert error == pytest.approx(np.sqrt(0.1875 + 0.0625))


def test_weights_are_clipped_inverses():
    curve = np.array([1.0, 0.5, 0.05])
    places = np.array([0, 1, 2, 7])
    np.testing.assert_allclose(inverse_propensity_weights(curve, places, 4.0), [1, 2, 4, 4])
    np.testing.assert_allclose(inverse_propensity_weights(curve, places, 1.0), [1, 1, 1, 1])
    with pytest.raises(PositionBiasError, match=r"clip: got 0\.5, want 1"):
        inverse_propensity_weights(curve, places, 0.5)


def test_the_effective_sample_size_by_hand():
    assert effective_sample_size(np.ones(5)) == 5
    assert effective_sample_size(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert effective_sample_size(np.empty(0)) == 0


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30))
def test_copies_are_as_many_as_the_weights_say_give_or_take_one(weights):
    values = np.array(weights)
    copies = copies_of_clicks(values, 1)
    assert (np.abs(copies - values / values.mean()) <= 1).all()
    assert copies_of_clicks(np.empty(0), 1).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_pooling_gives_a_curve_that_never_rises_and_keeps_the_mean(values):
    curve = np.array(values)
    pooled = not_increasing(curve, np.ones(curve.size))
    assert (np.diff(pooled) <= 1e-12).all()
    assert pooled.mean() == pytest.approx(curve.mean(), abs=1e-9)


def test_pooling_weighs_by_how_often_a_place_was_shown():
    pooled = not_increasing(np.array([0.9, 0.2, 0.5]), np.array([1.0, 3.0, 1.0]))
    np.testing.assert_allclose(pooled, [0.9, 0.275, 0.275])


NOTHING = np.empty(0, np.int64)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Impressions(np.zeros(2, int), np.zeros(3, int), np.zeros(3, bool)), "pair: got"),
        (lambda: Impressions(np.full(1, -1), np.zeros(1, int), np.zeros(1, bool)), "got -1"),
        (lambda: Impressions(np.zeros(1, int), np.zeros(1, int), np.zeros(1, bool),
                             np.full((1, 1), np.nan)), "not finite"),
        (lambda: Impressions(np.zeros(1, int), np.zeros(1, int), np.zeros(1, bool),
                             np.zeros(1)), "features: got shape"),
        (lambda: fit_examination(Impressions(NOTHING, NOTHING, NOTHING > 0), 3),
         "clicks: got none on 0 impressions"),
        (lambda: fit_examination(Impressions(NOTHING, NOTHING, NOTHING > 0), 0),
         "places: got 0"),
        (lambda: harvest_examination(Impressions(np.zeros(2, int), np.zeros(2, int),
                                                 np.ones(2, bool)), np.zeros(2, int), 3),
         "ranking: got pages of one ranking"),
        (lambda: harvest_examination(Impressions(np.zeros(2, int), np.zeros(2, int),
                                                 np.ones(2, bool)), np.arange(2), 3),
         "got no product at two places"),
        (lambda: swap_examination(np.array([0, 1]), np.zeros(2, bool), np.ones(2, int)),
         "experiment 1: got 0 clicks at place 0"),
    ],
)  # fmt: skip
def test_what_nothing_can_be_estimated_from_is_refused(wrong, said):
    with pytest.raises(PositionBiasError, match=said):
        wrong()


def test_pairs_that_are_hardly_shown_leave_the_level_of_the_curve_alone():
    # 700 products, each shown some six times, most of them liked: an attraction that were drawn
    # towards a fixed low level would make all places but the first come out too high
    attraction = np.random.default_rng(6).uniform(0.5, 0.9, 700)
    shown = shown_pages(lambda random: random.permutation(700)[:PLACES], attraction, 700)
    found = fit_examination(shown, PLACES)
    np.testing.assert_allclose(found.examination, TRUE, atol=tolerance(0.7, 700) * 0.7)
