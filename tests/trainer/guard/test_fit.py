"""The guard on the tiny log: it switches where validation pages say so, and serves what it says."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.baselines.late_fusion import fit_tree_term
from trainer.calibration.calibration import Calibration
from trainer.encoding.batches import rows_of
from trainer.encoding.pageset import encoded_pages
from trainer.evaluation.metrics import ndcg_at_k
from trainer.guard.fit import Guarded, fit_guard
from trainer.guard.guard import DEFAULT, NETWORK_ALONE, OWN_TREES, POOLED_TREES, GuardLimits
from trainer.tasks import served_scores
from trainer.training.network import score_pages

SURFACES = ("search", "discovery", "promotion")
LIMITS = GuardLimits(pages=4, shoppers=3)


def neutral(log) -> Calibration:
    shape = (len(log.schema.categories), len(log.schema.objectives))
    return Calibration(np.ones(shape, np.float32), np.zeros(shape, np.float32))


def weights(log) -> dict[str, dict[str, float]]:
    alone = {name: float(name == "purchase") for name in log.schema.objectives}
    return dict.fromkeys(log.schema.surfaces, alone)


def guard_of(ranker, catalogue, log, limits=LIMITS) -> Guarded:
    return fit_guard(ranker, catalogue, log, SURFACES, neutral(log), weights(log), limits=limits)


@pytest.fixture
def wild(tiny_ranker, tiny_catalogue, tiny_log):
    """A network of random weights whose logits drown the trees that are fused into it."""
    term = fit_tree_term(tiny_ranker, tiny_catalogue, tiny_log, SURFACES)
    assert term is not None
    term.weights[:] *= 1e-3
    tiny_ranker.tree_term = term
    return tiny_ranker


def test_trees_take_over_from_a_network_that_knows_nothing(wild, tiny_catalogue, tiny_log) -> None:
    before = wild.tree_term
    guard = guard_of(wild, tiny_catalogue, tiny_log)
    switched = [choice for choice in guard.choices if choice.switched]
    assert {choice.choice for choice in switched} <= {POOLED_TREES, OWN_TREES, NETWORK_ALONE}
    assert any(choice.choice in {POOLED_TREES, OWN_TREES} for choice in switched)
    assert guard.switched == {choice.surface for choice in switched}
    assert guard.term is not None
    # what the choice promises is what the term then serves, page by page
    names = tiny_log.schema.categories
    for choice in switched:
        if choice.surface == "promotion":
            continue
        row, surface = names.index(choice.category), choice.surface
        held = encoded_pages(tiny_log, "validation", surface)
        of_category = held.page_categories() == row
        figures = []
        for term in (before, guard.term):
            wild.tree_term = term
            logits = score_pages(
                wild, tiny_catalogue, tiny_log, tiny_log.pages_of("validation", surface)
            )
            ndcg = ndcg_at_k(held.objective("purchase"), logits[:, 0], held.offsets, 10)
            figures.append(float(np.nanmean(ndcg[of_category])))
        assert figures[0] == pytest.approx(choice.ndcg_at_10, abs=1e-6)
        if choice.choice != OWN_TREES:  # these are judged by trees that stopped elsewhere
            taken = next(rival for rival in choice.rivals if rival.name == choice.choice)
            assert figures[1] == pytest.approx(taken.ndcg_at_10, abs=1e-6)


def test_what_takes_over_is_on_the_scale_of_the_default(wild, tiny_catalogue, tiny_log) -> None:
    """Fitted to the same labels, both expect as many purchases."""
    before = wild.tree_term
    guard = guard_of(wild, tiny_catalogue, tiny_log)
    pages = tiny_log.pages_of("validation", "search")
    rows = rows_of(tiny_log, pages)
    expected = []
    for term in (before, guard.term):
        wild.tree_term = term
        logits = score_pages(wild, tiny_catalogue, tiny_log, pages)
        fit = neutral(tiny_log)
        scores = served_scores(logits, tiny_log.categories[rows], fit, weights(tiny_log)["search"])
        expected.append(scores.mean())
    assert expected[1] == pytest.approx(expected[0], rel=0.5)


def test_too_few_pages_leave_everything_as_it_is(wild, tiny_catalogue, tiny_log) -> None:
    guard = guard_of(wild, tiny_catalogue, tiny_log, GuardLimits(pages=10_000, shoppers=1))
    assert guard.term is wild.tree_term
    assert guard.switched == frozenset()
    assert all(choice.choice == DEFAULT and not choice.rivals for choice in guard.choices)
    assert {choice.surface for choice in guard.choices} == set(SURFACES)


def test_categories_never_seen_are_not_decided_on(wild, tiny_catalogue, tiny_log) -> None:
    guard = guard_of(wild, tiny_catalogue, tiny_log)
    assert tiny_log.schema.categories[0] not in {choice.category for choice in guard.choices}
    assert guard.term is not None
    assert wild.tree_term is not None
    np.testing.assert_array_equal(guard.term.weights[:, 0], wild.tree_term.weights[:, 0])
    assert (guard.term.network[:, 0] == 1).all()


def test_own_trees_are_not_compared_on_pages_that_mix_categories(
    wild, tiny_catalogue, tiny_log
) -> None:
    guard = guard_of(wild, tiny_catalogue, tiny_log)
    for choice in guard.choices:
        names = {rival.name for rival in choice.rivals}
        assert (OWN_TREES in names) <= (choice.surface != "promotion")


def test_a_run_with_trees_has_a_guard_and_remembers_its_default(tiny_run) -> None:
    assert tiny_run.guard is not None
    assert tiny_run.default is not None
    assert tiny_run.guard.choices
