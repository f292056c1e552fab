from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.evaluation.bootstrap import (
    BootstrapError,
    Interval,
    Membership,
    paired_difference,
    resample_means,
    whole,
)


def test_the_interval_of_independent_pages_matches_the_normal_one():
    random = np.random.default_rng(1)
    values = random.normal(0.4, 0.2, 4000)
    got = resample_means(values[None], np.arange(4000), whole(4000)).interval(0, 0)
    error = 1.96 * values.std() / math.sqrt(4000)
    assert got.mean == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert got.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_pages_of_one_shopper_count_as_one_observation():
    random = np.random.default_rng(2)
    of_shopper = random.normal(0.4, 0.2, 200)
    shoppers = np.repeat(np.arange(200), 25)
    clustered = resample_means(of_shopper[shoppers][None], shoppers, whole(5000))
    pages = resample_means(of_shopper[shoppers][None], np.arange(5000), whole(5000))
    widths = [
        result.interval(0, 0).high - result.interval(0, 0).low for result in (clustered, pages)
    ]
    assert widths[0] / widths[1] == pytest.approx(5, rel=0.15)  # sqrt(25) pages a shopper


def test_a_difference_is_paired():
    random = np.random.default_rng(3)
    base = random.random(600)
    shoppers = random.integers(0, 50, 600)
    exactly = paired_difference(base + 0.01, base, shoppers)
    assert exactly.mean == pytest.approx(0.01)
    assert exactly.high - exactly.low < 1e-12
    assert exactly.verdict == "win"
    assert paired_difference(base, base + 0.01, shoppers).verdict == "loss"
    noise = paired_difference(base + random.normal(0, 0.1, 600), base, shoppers)
    assert noise.verdict == "tie"
    assert noise.low < 0 < noise.high


def test_one_shopper_leaves_no_doubt():
    got = resample_means(np.array([[0.0, 1.0]]), np.array([5, 5]), whole(2), draws=20)
    assert got.interval(0, 0) == Interval(0.5, 0.5, 0.5)


def test_pages_without_a_value_are_left_out_for_all():
    values = np.array([[1.0, np.nan, 0.0], [0.5, 0.5, 0.5]])
    got = resample_means(values, np.arange(3), whole(3), draws=50)
    assert got.means[:, 0].tolist() == [0.5, 0.5]


def test_group_means_are_weighted_and_the_macro_is_their_mean():
    membership = Membership(
        page=np.array([0, 1, 2, 2, 3]),
        group=np.array([0, 0, 0, 1, 1]),
        weight=np.array([1.0, 1.0, 0.5, 0.5, 1.0]),
        names=("dairy", "pet", "floral"),
    )
    values = np.array([[1.0, 0.0, 1.0, 0.4]])
    got = resample_means(values, np.arange(4), membership, draws=100)
    assert got.means[0, 0] == pytest.approx(1.5 / 2.5)
    assert got.means[0, 1] == pytest.approx((0.5 + 0.4) / 1.5)
    assert math.isnan(got.means[0, 2])
    assert math.isnan(got.interval(0, 2).low)
    macro = got.macro(np.array([0, 1, 2]))
    assert macro.means[0, 0] == pytest.approx((0.6 + 0.6) / 2)
    assert macro.interval(0, 0).low <= 0.6 <= macro.interval(0, 0).high
    assert membership.totals(np.array([True, True, False, True])).tolist() == [2.0, 1.0, 0.0]


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(4).random((1, 300))
    shoppers = np.arange(300) // 3
    first, second, other = (
        resample_means(values, shoppers, whole(300), seed=seed).interval(0, 0) for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


def test_nothing_to_average_is_nan_not_an_error():
    got = resample_means(np.full((2, 3), np.nan), np.arange(3), whole(3), draws=10)
    assert math.isnan(got.interval(0, 0).mean)
    assert math.isnan(got.macro(np.array([0])).interval(1, 0).mean)


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(BootstrapError, match=r"want \(rankings, 3\)"):
        resample_means(np.zeros((1, 2)), np.arange(3), whole(3))
    with pytest.raises(BootstrapError, match="draws: got 0"):
        resample_means(np.zeros((1, 3)), np.arange(3), whole(3), draws=0)
