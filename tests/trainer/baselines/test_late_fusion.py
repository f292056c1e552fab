"""Tests of late fusion: the trees' weight is what validation pages say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.synthetic_pages import synthetic_pages
from trainer.baselines.late_fusion import _best_factor, fit_tree_term
from trainer.encoding.pageset import encoded_pages
from trainer.evaluation.metrics import ndcg_at_k
from trainer.logs.labels import Label
from trainer.objectives import Head, Objective, objective_named
from trainer.training.network import score_pages

PURCHASE = Head(Objective("purchase"), Label("purchase"))


def test_trees_that_know_more_than_the_network_get_the_largest_factor() -> None:
    pages = synthetic_pages(300)
    noise = np.random.default_rng(1).normal(size=pages.candidates)
    assert _best_factor(noise, pages.objective("purchase"), pages, PURCHASE) == 4.0


def test_trees_that_say_nothing_get_none() -> None:
    pages = synthetic_pages(300)
    perfect = 10 * pages.objective("purchase")
    assert _best_factor(perfect, np.zeros(pages.candidates), pages, PURCHASE) == 0.0


def test_a_trial_is_judged_on_products_never_bought() -> None:
    pages = synthetic_pages(300)
    # right on every product that was bought before, wrong on the others
    own = pages.feature("own_count") > 0
    trial = pages.objective("trial")
    trees = np.where(own, 100.0, -trial)
    assert _best_factor(trial, trees, pages, Head(objective_named("trial"), Label("trial"))) == 0.0


def test_amounts_and_conditional_heads_take_no_trees() -> None:
    pages = synthetic_pages(300)
    trees, none = pages.objective("purchase"), np.zeros(pages.candidates)
    for head in (
        Head(Objective("purchase"), Label("purchase", type="value")),
        Head(Objective("purchase", given="click"), Label("purchase"), parent=1),
    ):
        assert _best_factor(none, trees, pages, head) == 0.0


def test_an_objective_without_a_positive_takes_no_trees() -> None:
    pages = synthetic_pages(50)
    pages.labels[:, 0] = 0
    assert _best_factor(np.zeros(pages.candidates), np.ones(pages.candidates), pages, PURCHASE) == 0


def test_a_fitted_term_ranks_validation_pages_at_least_as_well(
    tiny_ranker, tiny_catalogue, tiny_log
) -> None:
    surfaces = ("search", "discovery", "promotion")
    without = {name: _ndcg(tiny_ranker, tiny_catalogue, tiny_log, name) for name in surfaces}
    term = fit_tree_term(tiny_ranker, tiny_catalogue, tiny_log, surfaces)
    assert term is not None  # weights at random: trees help
    tiny_ranker.tree_term = term
    with_trees = {name: _ndcg(tiny_ranker, tiny_catalogue, tiny_log, name) for name in surfaces}
    for name in surfaces:
        assert with_trees[name] >= without[name] - 1e-6
    assert max(with_trees[name] - without[name] for name in surfaces) > 0.01
    for row, name in enumerate(tiny_log.schema.surfaces):
        assert term.weights[row].any() == (term.model_of[row] >= 0).all(), name
    assert term.keeps_network  # trees are added, nothing is taken away


@pytest.mark.parametrize("surfaces", [(), ("home",)])
def test_surfaces_without_pages_give_no_term(
    tiny_ranker, tiny_catalogue, tiny_log, surfaces
) -> None:
    assert fit_tree_term(tiny_ranker, tiny_catalogue, tiny_log, surfaces) is None


def _ndcg(ranker, catalogue, log, surface: str) -> float:
    held = encoded_pages(log, "validation", surface)
    logits = score_pages(ranker, catalogue, log, log.pages_of("validation", surface))
    return float(np.nanmean(ndcg_at_k(held.objective("purchase"), logits[:, 0], held.offsets, 10)))
