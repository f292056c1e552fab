from __future__ import annotations

import numpy as np
import paddle
import pytest

from trainer.export.served_outputs import ServedOutputs, fit_outputs, plain_outputs
from trainer.logs.labels import Label
from trainer.model.outputs import OutputLayer
from trainer.objectives import Head, Objective

CLICK = Head(Objective("click"), Label("click"))
BUY = Head(Objective("buy", given="click", space="whole"), Label("buy"), parent=0)
SPEND = Head(
    Objective("spend", given="buy", space="whole"), Label("spend", type="value"), parent=1, scale=5
)
UNITS = Head(Objective("units"), Label("units", type="count"))
DWELL = Head(Objective("dwell", loss="huber"), Label("dwell", type="dwell"), scale=10)
STARS = Head(Objective("stars"), Label("stars", type="graded", largest=2))
HEADS = (CLICK, BUY, SPEND, UNITS, DWELL)


def test_each_head_serves_its_probability_product_or_amount():
    outputs = ServedOutputs(HEADS, np.array([1, 1, 2, 1, 0.5], np.float32), np.zeros(5, np.float32))
    probabilities = np.array([[0.5, 0.4, 0.9, 0.9, 0.9]])
    logits = np.array([[9.0, 9.0, np.log(3), np.log(0.25), np.log(4)]])
    # spend: P(click) P(buy | click) * 2 * 5 * 3; dwell: 0.5 * 10 * (4 - 1)
    np.testing.assert_allclose(
        outputs(probabilities, logits), [[0.5, 0.2, 0.2 * 30, 0.25, 15]], rtol=1e-6
    )
    assert outputs(probabilities, np.array([[0, 0, 0, 0, -3.0]]))[0, 4] == 0


def test_the_graph_serves_the_same():
    random = np.random.default_rng(0)
    heads = (*HEADS, STARS)
    factors = np.array([1, 1, 2, 1.5, 0.5, 1], np.float32)
    shifts = np.array([0, 0, 0, 0, 0, -0.7], np.float32)
    probabilities = random.uniform(size=(3, 4, 6)).astype(np.float32)
    logits = random.normal(size=(3, 4, 6)).astype(np.float32)
    layer = OutputLayer(heads, factors, shifts)
    got = layer(paddle.to_tensor(probabilities), paddle.to_tensor(logits)).numpy()
    wanted = ServedOutputs(heads, factors, shifts)(
        probabilities.reshape(-1, 6), logits.reshape(-1, 6).astype(np.float64)
    ).reshape(3, 4, 6)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert list(layer.parameters()) == []


def test_a_logit_that_runs_away_serves_a_finite_amount():
    outputs = plain_outputs((UNITS,))
    assert outputs(np.ones((1, 1)), np.full((1, 1), 900.0))[0, 0] == pytest.approx(np.exp(20))


def test_a_larger_logit_serves_more():
    for head in (UNITS, DWELL):
        outputs = plain_outputs((head,))
        logits = np.linspace(0, 19, 50)[:, None]
        assert (np.diff(outputs(np.ones_like(logits), logits)[:, 0]) > 0).all()


def test_an_amount_gets_the_factor_that_makes_its_mean_the_one_seen():
    heads = (CLICK, UNITS)
    labels = np.array([[1, 4], [1, 2], [0, 100]])
    logits = np.array([[0, np.log(1)], [0, np.log(2)], [0, np.log(50)]])
    counted = np.array([[True, True], [True, True], [True, False]])
    outputs = fit_outputs(heads, labels, logits, counted)
    assert outputs.factors.tolist() == [1.0, 2.0]  # (4 + 2) / (1 + 2)
    nothing = fit_outputs(heads, np.zeros_like(labels), logits, counted)
    assert nothing.factors.tolist() == [1.0, 1.0]
    far = fit_outputs(heads, labels * 1e6, logits, counted)
    assert far.factors[1] == 100


def test_grades_are_shifted_to_the_mean_share_of_the_gain_that_was_seen():
    labels = np.array([[2], [1], [0], [0]])
    logits = np.array([[1.0], [0.5], [-1.0], [0.0]])
    outputs = fit_outputs((STARS,), labels, logits, np.ones((4, 1), np.bool_))
    served = outputs(np.ones((4, 1)), logits)
    assert served.mean() == pytest.approx((3 / 3 + 1 / 3) / 4, abs=1e-6)
    assert np.argsort(served[:, 0]).tolist() == np.argsort(logits[:, 0]).tolist()
    nothing = fit_outputs((STARS,), 0 * labels, logits, np.ones((4, 1), np.bool_))
    assert nothing.shifts.tolist() == [0.0]


def test_probabilities_alone_are_plain():
    assert plain_outputs((CLICK,)).plain
    assert not plain_outputs((CLICK, BUY)).plain
    assert not plain_outputs((CLICK, UNITS)).plain
    assert not plain_outputs((CLICK, STARS)).plain
