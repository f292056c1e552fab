from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.explanations.hand_made_pages import (
    NEUTRAL,
    SCHEMA,
    hand_made_page,
    of_features,
)
from trainer.explanations.attribution import GroupGame, leave_one_out, shapley_values
from trainer.explanations.pages import ExplanationError

PAGE = hand_made_page([[1.0, 2.0, 0.5, 1.0], [2.0, -1.0, 0.5, 0.0]])


def game_of(formula, page=PAGE):
    return GroupGame(page.scored, SCHEMA, NEUTRAL, of_features(formula))


def test_shapley_values_of_a_linear_scorer_are_its_terms():
    weights = np.array([0.5, 1.0, -2.0, 3.0])
    found = shapley_values(game_of(lambda dense: dense @ weights), np.random.default_rng(0))
    assert found.groups == ("retrieval", "price", "promotion")
    # retrieval .5 * 1, price 1 * 2 - 2 * .5, promotion 3 * 1; and .5 * 2, -1 - 1, 0
    np.testing.assert_allclose(found.values, [[0.5, 1.0], [1.0, -2.0], [3.0, 0.0]])
    assert found.exact


def test_two_groups_that_only_count_together_share_what_they_bring():
    product = game_of(lambda dense: dense[:, 0] * dense[:, 1])
    found = shapley_values(product, np.random.default_rng(0))
    np.testing.assert_allclose(found.values, [[1.0, -1.0], [1.0, -1.0], [0.0, 0.0]])
    # without either, all is gone: leaving one out names the whole twice
    np.testing.assert_allclose(
        leave_one_out(product).values, [[2.0, -2.0], [2.0, -2.0], [0.0, 0.0]]
    )


def test_three_groups_by_hand():
    # v = max of the features: retrieval 1, price 2, promotion 1, nothing 0
    found = shapley_values(game_of(lambda dense: dense.max(axis=1)), np.random.default_rng(0))
    # (2 * 0 + ...) / 6: retrieval and promotion bring 1 only before price and before each other
    np.testing.assert_allclose(found.values[:, 0], [1 / 3, 4 / 3, 1 / 3])


@given(st.integers(0, 1000))
def test_shapley_values_add_up_to_the_score_less_the_score_of_nothing(seed):
    weights = np.random.default_rng(seed).normal(size=4)

    def formula(dense):
        return np.tanh(dense @ weights) * (1 + dense[:, 0])

    game = game_of(formula)
    for exact_players in (8, 2):
        found = shapley_values(game, np.random.default_rng(seed), exact_players=exact_players)
        assert found.exact == (exact_players == 8)
        whole, nothing = game.worth([game.everyone, 0])
        np.testing.assert_allclose(found.values.sum(axis=0), whole - nothing, atol=1e-9)


def test_sampled_values_come_near_the_exact_ones_and_say_how_near():
    weights = np.random.default_rng(3).normal(size=4)

    def formula(dense):
        return np.tanh(dense @ weights) * (1 + dense[:, 0])

    game = game_of(formula)
    exact = shapley_values(game, np.random.default_rng(0))
    sampled = shapley_values(game, np.random.default_rng(0), exact_players=2, pairs=200)
    assert (sampled.errors[:, 0] < 0.05).all()
    assert (np.abs(sampled.values - exact.values) <= 4 * sampled.errors + 1e-9).all()


def test_groups_that_say_nothing_do_not_play_and_no_page_is_scored_twice():
    page = hand_made_page([[1.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], category=1)
    game = game_of(lambda dense: dense.sum(axis=1), page)
    assert game.players == ("retrieval", "category")
    shapley_values(game, np.random.default_rng(0))
    leave_one_out(game)
    assert game.scored == 4


def test_one_pair_of_orders_is_refused():
    with pytest.raises(ExplanationError, match="pairs: got 1, want at least 2"):
        shapley_values(game_of(lambda dense: dense[:, 0]), np.random.default_rng(0), pairs=1)
