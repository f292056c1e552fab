from __future__ import annotations

import numpy as np
import pytest

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.collaborative import fit_collaborative
from trainer.encoding.counts import purchases_in_time


def bought(baskets, day=10):
    """Return the purchases of shoppers, each a list of products bought on one day."""
    return purchases_in_time(
        np.cumsum([0, *map(len, baskets)]).astype(np.int64),
        np.array([product for basket in baskets for product in basket], np.int32),
        np.full(sum(map(len, baskets)), day * SECONDS_PER_DAY, np.int64),
        np.ones(sum(map(len, baskets)), np.float32),
        np.zeros(sum(map(len, baskets)), np.float32),
    )


def test_on_a_checkerboard_products_of_one_colour_are_neighbours():
    fit = fit_collaborative(bought([[0, 2], [1, 3], [0, 2], [1, 3]]), 4, 11, neighbours=3)
    # cosine 1 within a colour, 0 (no neighbour) across
    assert fit.neighbours[:4].tolist() == [[2, -1, -1], [3, -1, -1], [0, -1, -1], [1, -1, -1]]
    np.testing.assert_allclose(fit.neighbour_weights[:4, 0], 1.0, atol=1e-6)
    assert (fit.neighbour_weights[:4, 1:] == 0).all()


def test_similarity_is_the_cosine_of_the_sets_of_shoppers_whatever_was_bought_twice():
    # product 0: shoppers {0, 1}; product 1: {1, 2}; product 2: {0, 1, 2}
    fit = fit_collaborative(bought([[0, 0, 0, 2], [0, 1, 2], [1, 2]]), 3, 11, neighbours=2)
    assert fit.neighbours[0].tolist() == [2, 1]
    np.testing.assert_allclose(fit.neighbour_weights[0], [2 / np.sqrt(6), 1 / 2], atol=1e-6)
    assert set(fit.neighbours[2].tolist()) == {0, 1}
    np.testing.assert_allclose(fit.neighbour_weights[2], 2 / np.sqrt(6), atol=1e-6)


def test_only_the_nearest_are_kept():
    fit = fit_collaborative(bought([[0, 1, 2], [0, 1]]), 3, 11, neighbours=1)
    assert fit.neighbours[0].tolist() == [1]


def test_purchases_of_the_cutoff_day_and_later_are_not_seen():
    early, late = [[0, 1]], [[0, 1], [2, 3]]
    purchases = bought(late)
    days = np.array([10, 10, 11, 11])
    object.__setattr__(purchases, "days", days)
    fit = fit_collaborative(purchases, 4, 11)
    alone = fit_collaborative(bought(early), 4, 11)
    np.testing.assert_array_equal(fit.neighbours, alone.neighbours)
    assert (fit.factors[2:] == 0).all()


def test_a_product_never_bought_and_the_unknown_one_have_nothing():
    fit = fit_collaborative(bought([[0, 1], [0, 1]]), 3, 11, factors=4)
    for row in (2, 3):
        assert (fit.neighbours[row] == -1).all()
        assert (fit.neighbour_weights[row] == 0).all()
        assert (fit.factors[row] == 0).all()
    assert fit.factors.shape == (4, 4)


def test_a_cutoff_before_the_first_purchase_gives_neutral_tables():
    fit = fit_collaborative(bought([[0, 1], [0, 1]]), 3, 10, factors=4)
    assert (fit.neighbours == -1).all()
    assert (fit.factors == 0).all()
    assert (fit.gram == 0).all()


@pytest.fixture(scope="module")
def two_fits():
    random = np.random.default_rng(3)
    baskets = [random.choice(30, 8, replace=False).tolist() for _ in range(40)]
    purchases = bought(baskets)
    before = fit_collaborative(purchases, 30, 11, factors=6, seed=1)
    plain = fit_collaborative(purchases, 30, 11, factors=6, seed=2)
    turned = fit_collaborative(purchases, 30, 11, factors=6, seed=2, previous=before)
    return before, plain, turned


def test_turning_factors_onto_an_earlier_fit_changes_no_score(two_fits):
    _, plain, turned = two_fits
    np.testing.assert_allclose(
        turned.factors @ turned.factors.T, plain.factors @ plain.factors.T, atol=1e-5
    )
    # a shopper folded in from products 0 and 1 gives every product the same score
    for fit in (plain, turned):
        assert fit.gram.dtype == np.float64
    scores = [
        fit.factors @ np.linalg.solve(fit.gram + 10 * np.eye(6), fit.factors[:2].sum(axis=0))
        for fit in (plain, turned)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_turned_factors_lie_nearer_to_the_earlier_fit(two_fits):
    before, plain, turned = two_fits
    assert (
        np.abs(turned.factors - before.factors).sum() < np.abs(plain.factors - before.factors).sum()
    )


def test_the_gram_matrix_belongs_to_the_factors(two_fits):
    for fit in two_fits:
        factors = fit.factors.astype(np.float64)
        np.testing.assert_allclose(fit.gram, factors.T @ factors, atol=1e-9)
