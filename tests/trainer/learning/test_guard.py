"""What the guard serves, on validation pages that a reader can make up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.encoding.pageset import Doubles, PageSet
from trainer.evaluation.metrics import ndcg_at_k
from trainer.formats.labelled_pages import OBJECTIVE
from trainer.learning.guard import BLEND, choose, choose_alone, fit_weights, standard

TREES, NETWORK, RULE = "LightGBM", "network, shared", "item-kNN"


def pages_of(count: int, *, size: int = 8, seed: int = 0) -> PageSet:
    """Return pages of so many candidates with one positive each, of a shopper each."""
    random = np.random.default_rng(seed)
    labels = np.zeros((count, size), np.uint8)
    labels[np.arange(count), random.integers(size, size=count)] = 1
    return PageSet(
        offsets=np.arange(count + 1, dtype=np.int64) * size,
        dense=np.zeros((count * size, 0), np.float32),
        feature_names=(),
        labels=labels.reshape(-1, 1),
        objectives=(OBJECTIVE,),
        categories=np.ones(count * size, np.int32),
        rows=np.arange(count * size, dtype=np.int32),
        shopper=np.arange(count, dtype=np.int32),
        time=np.arange(count, dtype=np.int64),
        surface=np.zeros(count, np.int8),
        positives_total=np.ones(count, np.int32),
    )


def noisy(pages: PageSet, strength: float, seed: int) -> Doubles:
    random = np.random.default_rng(seed)
    return strength * pages.objective(OBJECTIVE) + random.normal(size=pages.candidates)


def served(scores: dict[str, Doubles], pages: PageSet) -> str:
    return choose(scores, pages, trusted=TREES, learned=(TREES, NETWORK)).name


def test_equal_rankings_leave_the_trees_in_place() -> None:
    pages = pages_of(40)
    trees = noisy(pages, 1.5, 1)
    assert served({TREES: trees, NETWORK: trees.copy(), RULE: trees.copy()}, pages) == TREES


def test_useless_others_leave_the_trees_in_place_and_their_order_as_it_was() -> None:
    pages = pages_of(60)
    scores = {TREES: 6 * pages.objective(OBJECTIVE), NETWORK: noisy(pages, 0, 2)}
    choice = choose(scores, pages, trusted=TREES, learned=(TREES, NETWORK))
    given = choice(scores, pages)
    gains = pages.objective(OBJECTIVE)
    assert np.nanmean(ndcg_at_k(gains, given, pages.offsets, 10)) == pytest.approx(1.0)


def test_independent_rankings_are_summed_and_the_sum_is_better_on_other_pages() -> None:
    held, tested = pages_of(300), pages_of(300, seed=9)
    scores = {TREES: noisy(held, 1.2, 1), NETWORK: noisy(held, 1.2, 2)}
    choice = choose(scores, held, trusted=TREES, learned=(TREES, NETWORK))
    assert choice.name == BLEND
    assert "the sum of all has" in choice.reason
    others = {TREES: noisy(tested, 1.2, 3), NETWORK: noisy(tested, 1.2, 4)}
    gains = tested.objective(OBJECTIVE)
    figures = [
        np.nanmean(ndcg_at_k(gains, values, tested.offsets, 10))
        for values in (choice(others, tested), others[TREES], others[NETWORK])
    ]
    assert figures[0] > max(figures[1:]) + 0.02


def test_a_rule_that_is_far_ahead_takes_the_place_of_trees() -> None:
    pages = pages_of(200)
    scores = {TREES: noisy(pages, 0.0, 1), RULE: 9 * pages.objective(OBJECTIVE)}
    choice = choose(scores, pages, trusted=TREES, learned=(TREES,))
    given = choice(scores, pages)
    gains = pages.objective(OBJECTIVE)
    assert np.nanmean(ndcg_at_k(gains, given, pages.offsets, 10)) > 0.99
    assert f"{RULE} is ahead of {TREES}" in choice.reason


def test_weights_of_a_perfect_and_an_opposite_ranking() -> None:
    pages = pages_of(50)
    gains = pages.objective(OBJECTIVE)
    weights = fit_weights(np.stack([gains, -gains]), gains, pages.offsets)
    assert weights[0] > 1
    assert weights[1] == 0


def test_standard_scores_by_hand() -> None:
    pages = pages_of(2, size=2)
    scores = np.array([1.0, 3.0, -np.inf, 5.0])
    # the second page's missing score counts as its least, so that both are equal
    assert standard(scores, pages, 0.0).tolist() == [-1.0, 1.0, 0.0, 0.0]
    assert standard(scores, pages, 2.0).tolist() == [-0.5, 0.5, 0.0, 0.0]


def test_a_category_is_served_apart_only_with_confidence_and_pages_enough() -> None:
    pages = pages_of(60)
    perfect, chosen = pages.objective(OBJECTIVE), noisy(pages, 0.5, 1)
    name, reason = choose_alone({"alone": perfect}, chosen, pages)
    assert name == "alone"
    assert "60 validation pages" in reason
    assert choose_alone({"alone": chosen}, chosen, pages) == (None, "")
    few = pages.select(np.arange(60) < 5)
    rows = few.candidates
    assert choose_alone({"alone": perfect[:rows]}, chosen[:rows], few) == (None, "")


def test_few_pages_leave_the_trees_in_place_whatever_they_say() -> None:
    pages = pages_of(12)
    perfect = pages.objective(OBJECTIVE)
    choice = choose(
        {TREES: noisy(pages, 0, 1), RULE: perfect}, pages, trusted=TREES, learned=(TREES,)
    )
    assert choice.name == TREES
    assert choice.reason == "12 validation pages are too few to tell, 20 would do"


def test_pages_without_a_positive_choose_the_trees() -> None:
    pages = replace(pages_of(30), labels=np.zeros((240, 1), np.uint8))
    scores = {TREES: noisy(pages, 0, 1), NETWORK: noisy(pages, 0, 2)}
    assert served(scores, pages) == TREES
