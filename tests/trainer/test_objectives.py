from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.errors import ConfigError
from trainer.logs.labels import Label
from trainer.objectives import (
    Objective,
    counted_candidates,
    heads_of,
    objective_named,
    ranking_gains,
    served_candidates,
    served_labels,
)

LABELS = {
    label.name: label
    for label in (
        Label("click"),
        Label("cart"),
        Label("buy"),
        Label("trial"),
        Label("stars", type="graded", largest=3),
        Label("units", type="count"),
        Label("spend", type="value", unit="EUR"),
        Label("dwell", type="dwell"),
    )
}


def heads(*objectives: Objective):
    return heads_of(objectives, LABELS)


def test_each_type_has_its_loss_metric_and_link():
    got = heads(*(objective_named(name) for name in LABELS))
    assert [(head.loss, head.metric, head.link) for head in got] == [
        ("listwise", "ndcg@10", "sigmoid"),
        ("listwise", "ndcg@10", "sigmoid"),
        ("listwise", "ndcg@10", "sigmoid"),
        ("listwise", "ndcg@10", "sigmoid"),
        ("listwise", "ndcg@10", "sigmoid"),
        ("poisson", "rmse", "exp"),
        ("huber", "rmse_log1p", "expm1"),
        ("weighted_logistic", "rmse_log1p", "exp"),
    ]


def test_a_condition_changes_the_usual_loss_of_money_and_of_dwell():
    click, spend, dwell = heads(
        Objective("click"), Objective("spend", given="click"), Objective("dwell", given="click")
    )
    assert (spend.loss, spend.parent) == ("lognormal", 0)
    assert dwell.loss == "huber"
    assert click.parent == -1


def test_a_head_says_what_it_serves():
    got = heads(
        Objective("click"),
        Objective("buy", given="click", space="whole"),
        Objective("spend", given="buy", space="whole"),
        Objective("dwell", given="click"),
        objective_named("trial"),
        Objective("stars"),
    )
    assert [head.meaning for head in got] == [
        "probability of click",
        "probability of buy and click",
        "expected spend in EUR, times the probability of buy",
        "expected dwell in seconds given click",
        "probability of trial, for what was never bought before",
        "expected gain of stars, as a share of the largest gain",
    ]


def test_conditions_leave_the_candidates_they_name():
    got = heads(
        Objective("click"),
        Objective("cart", given="click"),
        Objective("buy", given="click", space="whole"),
        Objective("trial", among="never_bought"),
        Objective("units", among="bought", given="click"),
    )
    labels = np.array([[1, 1, 1, 1, 2], [1, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]])
    bought = np.array([True, False, True, False])
    counted = counted_candidates(got, labels, bought)
    assert counted[:, 0].tolist() == [True, True, True, True]
    assert counted[:, 1].tolist() == [True, True, False, False]
    assert counted[:, 2].tolist() == [True, True, False, False]
    assert counted[:, 3].tolist() == [False, True, False, True]
    assert counted[:, 4].tolist() == [True, False, False, False]
    served = served_candidates(got, labels, bought)
    assert served[:, 2].tolist() == [True, True, True, True]  # the whole space
    assert (served[:, [0, 1, 3, 4]] == counted[:, [0, 1, 3, 4]]).all()


def test_what_should_have_been_served_is_zero_without_the_condition_and_a_share_of_the_gain():
    got = heads(
        Objective("click"),
        Objective("cart", given="click", space="whole"),
        Objective("buy", given="cart", space="whole"),
        Objective("stars"),
    )
    labels = np.array([[1, 1, 1, 3], [1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 2]])
    wanted = [[1, 1, 1, 1], [1, 0, 0, 1 / 7], [0, 0, 0, 0], [1, 1, 0, 3 / 7]]
    np.testing.assert_allclose(served_labels(got, labels), np.array(wanted, np.float64))


def test_gains_of_an_amount_are_the_amount_itself_once_ndcg_has_raised_them():
    units = heads(Objective("click"), Objective("units"))[1]
    np.testing.assert_allclose(np.exp2(ranking_gains(units, np.array([0, 1, 6]))) - 1, [0, 1, 6])
    stars = heads(Objective("stars"))[0]
    assert ranking_gains(stars, np.array([0, 1, 3])).tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ([Objective("clicks")], "objectives: got 'clicks', want some of .*nearest: click"),
        ([Objective("click"), Objective("click")], "'click': got it twice, want it once"),
        ([Objective("spend")], "'spend': got it first, want a binary or graded one"),
        (
            [Objective("click"), Objective("buy", given="cart")],
            "'buy': given: got 'cart', want one of click",
        ),
        (
            [Objective("click"), Objective("stars"), Objective("buy", given="stars")],
            "given: got 'stars' of type graded, want a binary one",
        ),
        (
            [Objective("click"), Objective("units", loss="huber")],
            "'units': loss: got 'huber', want one of poisson for type count",
        ),
        (
            [Objective("click"), Objective("spend", loss="lognormal")],
            "want given with lognormal",
        ),
        (
            [Objective("click"), Objective("dwell", loss="weighted_logistic", given="click")],
            "want no given with weighted_logistic",
        ),
        (
            [
                Objective("click"),
                Objective("cart", given="click"),
                Objective("buy", given="cart", space="whole"),
            ],
            "'buy': space: got 'whole' given 'cart', which is itself conditional on 'click'",
        ),
        (
            [
                Objective("click"),
                Objective("cart", given="buy"),
                Objective("buy", given="cart"),
            ],
            "given: got a circle of buy, cart, want none",
        ),
        (
            [Objective("click"), Objective("units", metric="auc")],
            "metric: got auc of type count, want a binary one",
        ),
    ],
)
def test_objectives_that_do_not_fit_together_are_refused(objectives, message):
    with pytest.raises(ConfigError, match=message):
        heads_of(objectives, LABELS)


def test_trial_alone_stands_for_what_was_never_bought():
    assert objective_named("trial").among == "never_bought"
    assert objective_named("trials") == Objective("trials")
    assert replace(objective_named("trial"), weight=0.5).among == "never_bought"
