"""The loss of a batch, put together by hand from the losses of its heads."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import paddle
import pytest

from trainer.config import TrainConfig
from trainer.encoding.batches import Batch
from trainer.logs.labels import Label
from trainer.objectives import Objective, heads_of, served_candidates
from trainer.training.objective_losses import batch_losses

LABELS = {
    label.name: label
    for label in (
        Label("click"),
        Label("buy"),
        Label("stars", type="graded", largest=2),
        Label("units", type="count"),
        Label("spend", type="value"),
        Label("dwell", type="dwell"),
    )
}


def batch_of(objectives, labels) -> Batch:
    """Return one page with these labels, shape (candidates, objectives), nothing bought before."""
    heads = heads_of(objectives, LABELS)
    labels = np.array([labels], np.float32)
    count, width = labels.shape[:2]
    counted = served_candidates(heads, labels[0], np.zeros(width, np.bool_))[None]
    gains = labels[:, :, 0]
    none = np.zeros((count, width), np.float32)
    return Batch(
        pages=np.zeros(count, np.int64),
        products=np.zeros(1, np.int64),
        candidates=none.astype(np.int64),
        mask=none + 1,
        categories=none.astype(np.int64),
        dense=none[:, :, None],
        labels=labels,
        heads=heads,
        targets=gains / np.maximum(gains.sum(axis=1, keepdims=True), 1),
        counted=counted.astype(np.float32),
        sequence=none.astype(np.int64),
        sequence_features=none[:, :, None],
        sequence_mask=none,
        surface=np.zeros(count, np.int64),
        queries=np.zeros(count, np.int64),
    )


def losses(objectives, labels, logits, scales=None) -> dict[str, float]:
    config = TrainConfig(
        name="x",
        log="y",
        objectives=tuple(objective.name for objective in objectives),
        objective_weights=tuple(objective.weight for objective in objectives),
    )
    batch = batch_of(objectives, labels)
    if scales:
        heads = (replace(h, scale=scales.get(h.name, 1.0)) for h in batch.heads)
        batch = replace(batch, heads=tuple(heads))
    got = batch_losses(config, paddle.to_tensor(np.array([logits], np.float32)), batch)
    return {name: float(value) for name, value in got.items()}


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_over_the_whole_space_a_condition_is_learned_through_the_product():
    objectives = [Objective("click"), Objective("buy", given="click", space="whole", weight=2.0)]
    # the second candidate was bought without a click: no click and buy
    labels = [[1, 1], [0, 1], [1, 0]]
    logits = [[0.5, -0.2], [-1.0, 0.3], [0.1, 0.4]]
    got = losses(objectives, labels, logits)
    products = [sigmoid(a) * sigmoid(b) for a, b in logits]
    wanted = -(math.log(products[0]) + math.log(1 - products[1]) + math.log(1 - products[2])) / 3
    assert got["buy_pointwise"] == pytest.approx(wanted, abs=1e-6)
    odds = [p / (1 - p) for p in products]
    assert got["buy_listwise"] == pytest.approx(-math.log(odds[0] / sum(odds)), abs=1e-6)
    click = got["click_listwise"] + 0.1 * got["click_pointwise"]
    buy = got["buy_listwise"] + 0.1 * got["buy_pointwise"]
    assert got["loss"] == pytest.approx(click + 2 * buy, abs=1e-5)


def test_both_heads_learn_from_the_product():
    objectives = [Objective("click", weight=0), Objective("buy", given="click", space="whole")]
    config = TrainConfig("x", "y", objectives=("click", "buy"), objective_weights=(0.0, 1.0))
    logits = paddle.zeros([1, 2, 2])
    logits.stop_gradient = False
    batch_losses(config, logits, batch_of(objectives, [[1, 1], [0, 0]]))["loss"].backward()
    assert logits.grad is not None
    assert (np.abs(logits.grad.numpy()) > 1e-3).all()


def test_where_it_is_observed_a_condition_learns_from_the_clicked_alone():
    objectives = [Objective("click", weight=0), Objective("buy", given="click")]
    got = losses(objectives, [[1, 1], [0, 1], [1, 0]], [[9, 0.5], [9, 7], [9, -0.5]])
    wanted = -(math.log(sigmoid(0.5)) + math.log(1 - sigmoid(-0.5))) / 2
    assert got["buy_pointwise"] == pytest.approx(wanted, abs=1e-6)


def test_grades_weigh_by_their_gains():
    got = losses([Objective("stars")], [[2], [0], [1]], [[1], [0], [0.5]])
    # pointwise against gains of 3, 0 and 1 of 3
    p = [sigmoid(z) for z in (1, 0, 0.5)]
    wanted = -(
        math.log(p[0]) + math.log(1 - p[1]) + math.log(p[2]) / 3 + 2 / 3 * math.log(1 - p[2])
    )
    assert got["stars_pointwise"] == pytest.approx(wanted / 3, abs=1e-6)


def test_amounts_are_learned_in_units_of_their_scale():
    objectives = [Objective("click", weight=0), Objective("dwell", weight=3.0)]
    got = losses(objectives, [[1, 20], [0, 0]], [[0, 0.2], [0, -0.4]], {"dwell": 10.0})
    wanted = (2 * math.log(1 + math.exp(-0.2)) + math.log(1 + math.exp(-0.4))) / 2
    assert got["dwell_weighted_logistic"] == pytest.approx(wanted, abs=1e-6)
    assert got["loss"] == pytest.approx(3 * wanted, abs=1e-5)


def test_money_given_a_sale_is_learned_where_there_was_one_also_over_the_whole_space():
    for space in ("observed", "whole"):
        objectives = [
            Objective("click", weight=0),
            Objective("spend", given="click", space=space),
        ]
        got = losses(objectives, [[1, 2], [0, 5]], [[0, 0.3], [0, 4]])
        assert got["spend_lognormal"] == pytest.approx((math.log(2) - 0.3) ** 2 / 2, abs=1e-6)


def test_a_pointwise_objective_has_no_listwise_part():
    got = losses([Objective("click", loss="pointwise")], [[1], [0]], [[1], [0]])
    assert set(got) == {"loss", "click_pointwise"}
    assert got["loss"] == pytest.approx(got["click_pointwise"])


@pytest.mark.parametrize("labels", [[[1, 3]], [[0, 0]], [[1, 0], [1, 0]], [[0, 0], [0, 0]]])
def test_pages_of_one_candidate_all_positive_or_none_cost_a_finite_loss(labels):
    objectives = [Objective("click"), Objective("units", given="click")]
    got = losses(objectives, labels, [[0.5, 0.1]] * len(labels))
    assert all(math.isfinite(value) for value in got.values())
