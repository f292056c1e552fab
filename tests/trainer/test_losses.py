from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from trainer.losses import listwise_softmax_loss, pointwise_loss


def tensor(values):
    return paddle.to_tensor(np.array(values, np.float32))


def test_listwise_loss_of_one_positive_is_minus_the_log_of_its_share():
    loss = listwise_softmax_loss(tensor([[1, 0]]), tensor([[2, 1]]), tensor([[1, 1]]))
    assert float(loss) == pytest.approx(-math.log(math.e**2 / (math.e**2 + math.e)), abs=1e-6)


def test_several_positives_share_the_weight():
    # equal logits: each of three candidates has a third, whichever are positive
    loss = listwise_softmax_loss(tensor([[1, 1, 0]]), tensor([[0, 0, 0]]), tensor([[1, 1, 1]]))
    assert float(loss) == pytest.approx(math.log(3), abs=1e-6)


def test_pages_without_a_positive_count_nothing():
    with_empty = listwise_softmax_loss(
        tensor([[1, 0], [0, 0]]), tensor([[2, 1], [9, -9]]), tensor([[1, 1], [1, 1]])
    )
    alone = listwise_softmax_loss(tensor([[1, 0]]), tensor([[2, 1]]), tensor([[1, 1]]))
    assert float(with_empty) == pytest.approx(float(alone), abs=1e-6)
    nothing = listwise_softmax_loss(tensor([[0, 0]]), tensor([[1, 2]]), tensor([[1, 1]]))
    assert float(nothing) == 0.0


def test_masked_candidates_take_no_part_even_when_they_are_positive():
    loss = listwise_softmax_loss(tensor([[1, 0, 1]]), tensor([[2, 1, 50]]), tensor([[1, 1, 0]]))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_a_constant_added_to_a_page_changes_no_listwise_loss():
    labels, logits, mask = [[0, 1, 0]], np.array([[0.3, -1.0, 2.0]]), [[1, 1, 1]]
    first = listwise_softmax_loss(tensor(labels), tensor(logits), tensor(mask))
    second = listwise_softmax_loss(tensor(labels), tensor(logits + 7), tensor(mask))
    assert float(first) == pytest.approx(float(second), abs=1e-5)


def test_pointwise_loss_is_the_mean_cross_entropy_of_the_unmasked():
    loss = pointwise_loss(tensor([[1, 0, 1]]), tensor([[0, 2, -30]]), tensor([[1, 1, 0]]))
    # -log sigmoid(0) = log 2; -log(1 - sigmoid(2)) = log(1 + e^2)
    assert float(loss) == pytest.approx((math.log(2) + math.log(1 + math.e**2)) / 2, abs=1e-6)


def test_pointwise_loss_of_nothing_is_zero():
    assert float(pointwise_loss(tensor([[1]]), tensor([[3]]), tensor([[0]]))) == 0.0


def test_gradients_of_large_logits_stay_finite():
    logits = tensor([[1e4, -1e4, 0]])
    logits.stop_gradient = False
    mask = tensor([[1, 1, 0]])
    loss = listwise_softmax_loss(tensor([[0, 1, 0]]), logits, mask)
    (loss + pointwise_loss(tensor([[0, 1, 0]]), logits, mask)).backward()
    assert np.isfinite(logits.grad.numpy()).all()
    assert abs(logits.grad.numpy()[0, 2]) < 1e-20
