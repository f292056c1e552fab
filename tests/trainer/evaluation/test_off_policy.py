from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.benchmarks.off_policy.simulation import World
from trainer.evaluation.off_policy import (
    CLIPPED,
    DIRECT,
    DOUBLY_ROBUST,
    IPS,
    METHODS,
    NAIVE,
    SELF_NORMALISED,
    LoggedClicks,
    OffPolicyError,
    estimate_value,
)

# Two searches of two products; the first place is always looked at, the second half the time.
LOGGED = LoggedClicks(
    search=np.array([0, 0, 1, 1]),
    clicked=np.array([1.0, 0.0, 1.0, 1.0]),
    examined=np.array([1.0, 0.5, 1.0, 0.5]),
    propensity=np.array([1.0, 0.5, 1.0, 0.5]),
    value=np.array([0.5, 1.0, 0.5, 1.0]),
    relevance=np.array([0.8, 0.4, 0.8, 0.4]),
)


@pytest.mark.parametrize(
    ("method", "want"),
    [
        (NAIVE, (0.5 + 1.5) / 2),
        (IPS, (0.5 + 0.5 + 2.0) / 2),
        (SELF_NORMALISED, (0.5 + 0.5 + 2.0) / 2),  # pages were certain: the control is 1
        (DIRECT, 0.5 * 0.8 + 1.0 * 0.4),
        # .8 + .5 (.2) ... : search 0: .4 + .4 + .5 * .2 + 2 * (0 - .2); search 1: + 2 * (1 - .2)
        (DOUBLY_ROBUST, ((0.8 + 0.1 - 0.4) + (0.8 + 0.1 + 1.6)) / 2),
    ],
)
def test_estimates_by_hand(method, want):
    assert estimate_value(LOGGED, method).value == pytest.approx(want)


def test_clipping_bounds_the_weight_of_a_click():
    assert estimate_value(LOGGED, CLIPPED, clip=1.5).value == pytest.approx((0.5 + 0.5 + 1.5) / 2)
    assert estimate_value(LOGGED, CLIPPED, clip=1.0).value == estimate_value(LOGGED, NAIVE).value
    wide = estimate_value(LOGGED, CLIPPED, clip=1e9)
    assert wide == estimate_value(LOGGED, IPS)
    assert wide.effective_clicks == pytest.approx((1 + 1 + 2) ** 2 / (1 + 1 + 4))


def test_products_that_could_not_be_seen_are_left_to_the_model():
    unseen = replace(
        LOGGED,
        clicked=np.array([1.0, 0.0, 1.0, 0.0]),
        examined=np.array([1.0, 0.0, 1.0, 0.0]),
        propensity=np.array([1.0, 0.0, 1.0, 0.0]),
    )
    assert estimate_value(unseen, IPS).value == pytest.approx(0.5)
    assert estimate_value(unseen, DOUBLY_ROBUST).value == pytest.approx(0.5 + 0.4)


@pytest.fixture(scope="module")
def estimates():
    """Estimates of 300 logs of 100 searches each, by method and model."""
    world, random = World(queries=10, seed=3), np.random.default_rng(5)
    found: dict[str, list[float]] = {}
    for _ in range(300):
        searches = world.sample(100, random)
        for name, relevance in (
            ("true", world.relevance[searches.query]),
            ("wrong", np.full(searches.clicked.shape, 0.5)),
        ):
            logged = world.logged(searches, world.examination, relevance)
            for method in METHODS:
                estimate = estimate_value(logged, method)
                found.setdefault(f"{method}, {name}", []).append(estimate.value)
    return world.truth, {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("name", [f"{IPS}, true", f"{DOUBLY_ROBUST}, true",
                                  f"{DOUBLY_ROBUST}, wrong"])  # fmt: skip
def test_unbiased_estimates_meet_the_truth_on_average(estimates, name):
    truth, found = estimates
    error = found[name].std(ddof=1) / np.sqrt(found[name].size)
    # 4 standard errors of the mean; clipping at 10 leaves a little bias to the doubly robust one
    assert abs(found[name].mean() - truth) < 4 * error + 0.01 * truth


def test_the_naive_estimate_is_far_off(estimates):
    truth, found = estimates
    assert found[f"{NAIVE}, true"].mean() < 0.7 * truth


def test_a_good_model_makes_the_doubly_robust_estimate_vary_less(estimates):
    _, found = estimates
    ips = found[f"{IPS}, true"].var()
    assert found[f"{DOUBLY_ROBUST}, true"].var() < 0.9 * ips
    assert found[f"{CLIPPED}, true"].var() <= ips


def test_a_wrong_model_spoils_the_direct_method_alone(estimates):
    truth, found = estimates
    assert abs(found[f"{DIRECT}, wrong"].mean() - truth) > 0.1 * truth


def test_reported_errors_are_those_of_many_logs():
    world, random = World(queries=10, seed=3), np.random.default_rng(6)
    values, errors = [], []
    for _ in range(150):
        searches = world.sample(100, random)
        logged = world.logged(searches, world.examination, None)
        estimate = estimate_value(logged, IPS)
        values.append(estimate.value)
        errors.append(estimate.error)
    # a standard deviation of 150 values is within 6 % of the truth two times in three
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clicked": np.array([2.0, 0, 0, 0])}, "clicked: got 2.0, want 0 to 1"),
        ({"value": np.array([-1.0, 0, 0, 0])}, "value: got -1.0, want 0 to inf"),
        ({"propensity": np.zeros(4)}, "propensity: got 0 for 3 clicked products"),
        ({"relevance": np.zeros(3)}, r"relevance: got shape \(3,\), want \(4,\)"),
        ({"examined": np.full(4, np.nan)}, "examined: got nan"),
        ({"search": np.empty(0, np.int64)}, "search: got no product"),
    ],
)
def test_logs_that_do_not_fit_are_refused(changed, said):
    with pytest.raises(OffPolicyError, match=said):
        replace(LOGGED, **changed)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(OffPolicyError, match="method: got 'magic', want one of naive"):
        estimate_value(LOGGED, "magic")
    with pytest.raises(OffPolicyError, match=r"clip: got 0\.5, want 1"):
        estimate_value(LOGGED, CLIPPED, clip=0.5)
    with pytest.raises(OffPolicyError, match="doubly robust: got no relevance"):
        estimate_value(replace(LOGGED, relevance=None), DOUBLY_ROBUST)
