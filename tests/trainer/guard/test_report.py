"""What the guard did on test pages, and the promise that it keeps or breaks, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.trainer.synthetic_pages import page_set
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.evaluate import evaluate
from trainer.guard.guard import DEFAULT, OWN_TREES, GuardChoice, Rival
from trainer.guard.report import (
    PROMISED,
    GuardEffect,
    GuardFigures,
    Promise,
    describe_guard,
    describe_promises,
    figures_from_json,
    figures_to_json,
    guard_effects,
    single_category_promises,
)

NAMES = ("never seen", "dairy", "pet")
# Two pages of each category with the purchase last: found first is 1, found second 1 / log2(3).
PAGES = page_set(
    [[0, 1], [0, 1], [0, 1], [0, 1]],
    categories=[[1, 1], [1, 1], [2, 2], [2, 2]],
    shopper=[1, 2, 3, 4],
)
RIGHT, WRONG = np.tile([0.0, 1.0], 4), np.tile([1.0, 0.0], 4)
SECOND = 1 / np.log2(3)
PET_RIGHT = np.concatenate([WRONG[:4], RIGHT[4:]])


def test_the_effect_is_told_of_all_pages_and_of_each_switched_category() -> None:
    effects = guard_effects(
        {"Search": PAGES, "Discovery": PAGES},
        {"Search": PET_RIGHT, "Discovery": RIGHT},
        {"Search": WRONG},
        {"Search": frozenset({"pet"}), "Discovery": frozenset()},
        NAMES,
    )
    assert [(e.task, e.category, e.pages) for e in effects] == [
        ("Search", "all", 4),
        ("Search", "pet", 2),
    ]
    whole, pet = effects
    assert pet.with_guard == pytest.approx(1.0)
    assert pet.without_guard == pytest.approx(SECOND)
    assert pet.difference.mean == pytest.approx(1 - SECOND)
    assert whole.difference.mean == pytest.approx((1 - SECOND) / 2)


def test_a_guard_that_switched_nothing_has_no_effect() -> None:
    assert guard_effects({"Search": PAGES}, {"Search": RIGHT}, {}, {}, NAMES) == []


def test_each_category_stands_beside_its_best_single_model() -> None:
    evaluation = evaluate(
        {"Search": PAGES},
        {"CrossRank": {"Search": PET_RIGHT}, "trees": {"Search": RIGHT}, "net": {"Search": WRONG}},
        category_names=NAMES,
        network="CrossRank",
    )
    promises = single_category_promises(evaluation, ("net", "trees", "absent"))
    assert [(p.category, p.best, p.kept) for p in promises] == [
        ("dairy", "trees", False),
        ("pet", "trees", True),
    ]
    assert promises[0].difference.mean == pytest.approx(SECOND - 1)
    text = describe_promises(promises)
    assert text.startswith("1 of 2 categories are at most 0.005 NDCG@10 below")
    assert "Search dairy (-0.369, 2 pages)" in text
    assert single_category_promises(evaluation, ("absent",)) == []


@pytest.mark.parametrize(("mean", "kept"), [(-PROMISED, True), (-0.0051, False), (0.1, True)])
def test_a_promise_is_kept_down_to_five_thousandths(mean, kept) -> None:
    promise = Promise("Search", "pet", 9, 0.5, "trees", 0.5, Interval(mean, -1, 1))
    assert promise.kept == kept


def test_the_guard_is_told_in_a_sentence_and_in_plain_json() -> None:
    rival = Rival(OWN_TREES, 0.6, Interval(0.1, 0.05, 0.15))
    choices = [
        GuardChoice("search", "pet", 200, 90, 0.5, (rival,), OWN_TREES, "ahead"),
        GuardChoice("search", "baby", 9, 4, 0.5, (), DEFAULT, "too few"),
    ]
    told = describe_guard(choices)
    assert told.startswith("1 of 2 surfaces and categories")
    assert "search pet (own trees); 1 had enough" in told
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    effect = GuardEffect("Search", "pet", 9, 0.6, 0.5, Interval(0.1, 0.0, 0.2))
    promise = Promise("Search", "pet", 9, 0.5, "trees", 0.5, nothing)
    figures = GuardFigures(tuple(choices), (effect,), (promise,))
    text = json.dumps(figures_to_json(figures), allow_nan=False)
    again = figures_from_json(json.loads(text))
    assert (again.choices, again.effects) == (figures.choices, figures.effects)
    assert np.isnan(again.promises[0].difference.mean)
    assert again.promises[0].alone == 0.5
