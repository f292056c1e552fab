from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.explanations.hand_made_pages import SCHEMA, hand_made_page, of_features
from trainer.explanations.counterfactual import (
    Action,
    PageChanges,
    changed_features,
    find_counterfactual,
    parse_action,
)
from trainer.explanations.pages import ExplanationError

PROMOTED = Action("promoted", 0.0, 1.0, whole=True)
RETRIEVAL = Action("retrieval_score", 0.0, 4.0)
PAGE = hand_made_page([[3.0, 0, 0, 0], [2.0, 0, 0, 0], [1.0, 0, 0, 0]])


def plain(dense):
    return dense[:, 0] + 0.5 * dense[:, 3]


def test_the_smallest_change_of_one_feature_is_found():
    found = find_counterfactual(PAGE, 2, 1, [RETRIEVAL], SCHEMA, of_features(plain))
    assert (found.found, found.rank_before, found.rank_after) == (True, 2, 0)
    before, after = found.changes["retrieval_score"]
    # it must pass 3, of equal scores the earlier one stays ahead; bisected to 1/6 / 2^8
    assert before == 1.0
    assert 3.0 < after < 3.0 + 1 / 6 / 2**7
    assert found.cost == pytest.approx((after - 1.0) / 4.0)


def test_what_it_finds_holds_when_the_page_is_scored_anew_and_no_less_would_do():
    score = of_features(plain)
    found = find_counterfactual(PAGE, 2, 2, [RETRIEVAL, PROMOTED], SCHEMA, score)
    changes = {name: after for name, (_, after) in found.changes.items()}
    work = PageChanges(PAGE, 2, SCHEMA, score)
    assert work.rank(changes) < 2
    less = {name: value - 0.02 for name, value in changes.items()}
    assert work.rank(less) >= 2


def test_two_changes_together_where_one_is_not_enough():
    def formula(dense):
        return dense[:, 0] + 0.8 * dense[:, 3]

    near = Action("retrieval_score", 0.0, 1.5)
    found = find_counterfactual(PAGE, 2, 2, [near, PROMOTED], SCHEMA, of_features(formula))
    assert found.found
    assert found.changes["promoted"] == (0.0, 1.0)
    before, after = found.changes["retrieval_score"]
    assert before == 1.0
    assert 1.2 < after < 1.22  # 1.2 + .8 is a tie, which the earlier product wins


def test_it_says_so_when_nothing_within_the_bounds_is_enough():
    found = find_counterfactual(PAGE, 2, 1, [PROMOTED], SCHEMA, of_features(plain))
    assert (found.found, found.changes, found.rank_after) == (False, {}, 2)


def test_a_product_that_stands_there_already_needs_no_change():
    found = find_counterfactual(PAGE, 0, 1, [PROMOTED], SCHEMA, of_features(plain))
    assert (found.found, found.changes, found.cost) == (True, {}, 0.0)


def test_a_score_that_rises_and_falls_again_is_searched_over_the_grid():
    def formula(dense):  # best at 2.5 and no better at the bounds than at 1
        return np.where(np.arange(3) == 2, 4.0 - np.abs(dense[:, 0] - 2.5) * 2.5, dense[:, 0])

    found = find_counterfactual(PAGE, 2, 1, [RETRIEVAL], SCHEMA, of_features(formula))
    assert found.found
    assert 2.1 < found.changes["retrieval_score"][1] < 2.12  # 4 - .4 * 2.5 = 3 at 2.1


def test_a_price_takes_the_middle_price_of_the_page_along():
    dense = np.array([[0, 1.0, 0, 0], [0, 2.0, 0, 0], [0, 4.0, 0, 0]], np.float32)
    changed = changed_features(dense, 2, {"price": 1.0}, SCHEMA.feature_names)
    # the middle of 1, 2, 1 is 1
    np.testing.assert_allclose(changed[:, 2], np.log([1.0, 2.0, 1.0]), atol=1e-6)
    assert changed[:, 1].tolist() == [1.0, 2.0, 1.0]
    assert dense[2, 1] == 4.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_a_change_that_is_found_lifts_the_product_whatever_the_scorer(seed, top):
    random = np.random.default_rng(seed)
    weights = random.normal(size=(4, 3))

    def formula(dense):
        return np.tanh(dense @ weights).sum(axis=1) - dense.mean() * 0.1

    page = hand_made_page(random.normal(size=(6, 4)))
    actions = [Action("retrieval_score", -2.0, 2.0), PROMOTED]
    found = find_counterfactual(page, 5, top, actions, SCHEMA, of_features(formula))
    work = PageChanges(page, 5, SCHEMA, of_features(formula))
    assert found.rank_before == work.rank({})
    if found.found:
        assert work.rank({name: after for name, (_, after) in found.changes.items()}) < top
    else:
        for value in (-2.0, 2.0):
            assert work.rank({"retrieval_score": value}) >= top


def test_actions_are_read_from_text():
    assert parse_action("price=0.5x:1x", SCHEMA) == Action("price", 0.5, 1.0, relative=True)
    assert parse_action("promoted=0:1", SCHEMA) == Action("promoted", 0.0, 1.0, whole=True)
    assert parse_action("retrieval_score=0.0:4.0", SCHEMA) == RETRIEVAL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pryce=0:1", r"got 'pryce', want one of .*\(nearest: price\)"),
        ("price=1:0", "got '1:0', want low:high"),
        ("price=cheap", "got 'cheap', want low:high"),
        ("price=0.5x:1", "got '0.5x:1', want low:high"),
        ("price=nan:1", "got 'nan:1', want low:high"),
    ],
)
def test_an_action_that_cannot_be_read_is_refused(text, said):
    with pytest.raises(ExplanationError, match=said):
        parse_action(text, SCHEMA)


@pytest.mark.parametrize(
    ("candidate", "top", "actions", "said"),
    [
        (0, 3, [PROMOTED], "top: got 3, want 1 to 2, of 3 candidates"),
        (0, 0, [PROMOTED], "top: got 0"),
        (7, 1, [PROMOTED], "candidate: got 7, want 0 to 2"),
        (0, 1, [], "actions: got none"),
    ],
)
def test_what_is_not_on_the_page_is_refused(candidate, top, actions, said):
    with pytest.raises(ExplanationError, match=said):
        find_counterfactual(PAGE, candidate, top, actions, SCHEMA, of_features(plain))
