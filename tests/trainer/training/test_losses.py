from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from trainer.training.losses import (
    joint_logit,
    listwise_softmax_loss,
    log1p_huber_loss,
    lognormal_loss,
    pointwise_loss,
    poisson_loss,
    weighted_logistic_loss,
)


def tensor(values):
    return paddle.to_tensor(np.array(values, np.float32))


def test_listwise_loss_of_one_positive_is_minus_the_log_of_its_share():
    loss = listwise_softmax_loss(tensor([[1, 0]]), tensor([[2, 1]]), tensor([[1, 1]]))
    assert float(loss) == pytest.approx(-math.log(math.e**2 / (math.e**2 + math.e)), abs=1e-6)


def test_several_positives_share_the_weight():
    # equal logits: each of three candidates has a third, whichever are positive
    loss = listwise_softmax_loss(tensor([[1, 1, 0]]), tensor([[0, 0, 0]]), tensor([[1, 1, 1]]))
    assert float(loss) == pytest.approx(math.log(3), abs=1e-6)


def test_small_gains_are_shares_of_their_sum_as_well():
    logits, mask = tensor([[0.5, -1, 2]]), tensor([[1, 1, 1]])
    whole = listwise_softmax_loss(tensor([[3, 1, 0]]), logits, mask)
    small = listwise_softmax_loss(tensor([[3 / 7, 1 / 7, 0]]), logits, mask)
    assert float(small) == pytest.approx(float(whole), abs=1e-6)


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


def test_graded_gains_share_the_weight_of_the_softmax():
    # gains 3 and 1: shares 3/4 and 1/4 of the cross-entropy of equal logits of two
    loss = listwise_softmax_loss(tensor([[3, 1]]), tensor([[1, 0]]), tensor([[1, 1]]))
    share = math.e / (math.e + 1)
    wanted = -(0.75 * math.log(share) + 0.25 * math.log(1 - share))
    assert float(loss) == pytest.approx(wanted, abs=1e-6)


def test_a_joint_logit_is_that_of_the_product_of_both_probabilities():
    first, second = 0.4, -1.3
    product = 1 / (1 + math.exp(-first)) / (1 + math.exp(-second))
    got = float(joint_logit(tensor(first), tensor(second)))
    assert got == pytest.approx(math.log(product / (1 - product)), abs=1e-6)
    # far out, where the product itself has no digits left
    assert float(joint_logit(tensor(-60.0), tensor(-50.0))) == pytest.approx(-110, abs=1e-4)
    assert float(joint_logit(tensor(50.0), tensor(60.0))) == pytest.approx(50, abs=1e-3)


def test_poisson_loss_by_hand_and_its_minimum_at_the_log_of_the_mean():
    amounts, mask = tensor([[3, 0, 5]]), tensor([[1, 1, 0]])
    # (e^0.5 - 3 * 0.5 + e^-1 - 0) / 2, the third is masked
    loss = poisson_loss(amounts, tensor([[0.5, -1, 9]]), mask)
    assert float(loss) == pytest.approx((math.exp(0.5) - 1.5 + math.exp(-1)) / 2, abs=1e-6)
    at = [float(poisson_loss(amounts, tensor([[z, z, 0]]), mask)) for z in (0.3, 0.405465, 0.5)]
    assert at[1] == min(at)  # log of the mean of 3 and 0


def test_a_logit_of_a_count_that_runs_away_stays_finite():
    assert math.isfinite(float(poisson_loss(tensor([[1]]), tensor([[500.0]]), tensor([[1]]))))


def test_lognormal_loss_by_hand_passes_over_what_is_nothing():
    # ((log 4 - 1)^2 + (log 1 - 1)^2) / 2 / 2; the zero and the masked count nothing
    loss = lognormal_loss(tensor([[4, 1, 0, 7]]), tensor([[1, 1, 1, 1]]), tensor([[1, 1, 1, 0]]))
    assert float(loss) == pytest.approx(((math.log(4) - 1) ** 2 + 1) / 4, abs=1e-6)
    assert float(lognormal_loss(tensor([[0]]), tensor([[5]]), tensor([[1]]))) == 0.0


def test_huber_loss_of_log_amounts_is_square_near_and_straight_far():
    amounts = tensor([[math.e - 1, 0]])  # log(1 + y): 1 and 0
    # distances 0.5 and 3: 0.5^2 / 2 and 3 - 1 / 2
    loss = log1p_huber_loss(amounts, tensor([[0.5, -3]]), tensor([[1, 1]]))
    assert float(loss) == pytest.approx((0.125 + 2.5) / 2, abs=1e-6)


def test_weighted_logistic_loss_by_hand_and_its_odds():
    # positives weigh their amount: 2 log(1 + e^-1) + log(1 + e^0.5), over two candidates
    loss = weighted_logistic_loss(tensor([[2, 0]]), tensor([[1, 0.5]]), tensor([[1, 1]]))
    wanted = (2 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(0.5))) / 2
    assert float(loss) == pytest.approx(wanted, abs=1e-6)
    # one logit for all: the odds are the sum of amounts over the number of nothings, 6 / 3
    amounts, mask = tensor([[2, 4, 0, 0, 0]]), tensor([[1, 1, 1, 1, 1]])

    def at(z: float) -> float:
        return float(weighted_logistic_loss(amounts, tensor([[z] * 5]), mask))

    assert at(math.log(2)) < min(at(math.log(2) - 0.1), at(math.log(2) + 0.1))


@pytest.mark.parametrize(
    "loss", [poisson_loss, lognormal_loss, log1p_huber_loss, weighted_logistic_loss]
)
def test_a_batch_without_a_candidate_that_counts_costs_nothing(loss):
    assert float(loss(tensor([[2, 0]]), tensor([[1, 2]]), tensor([[0, 0]]))) == 0.0
