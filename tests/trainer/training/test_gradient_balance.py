"""Losses weighed against each other: by hand, and on the network."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import paddle
import pytest

from trainer.encoding.batches import make_batch
from trainer.training.gradient_balance import (
    LossBalance,
    TaskLoss,
    balance_of,
    category_losses,
    objective_losses,
    project_conflicts,
    weigh_by_uncertainty,
)
from trainer.training.network import page_batch
from trainer.training.objective_losses import batch_losses
from trainer.training.run_pages import training_pages


def test_two_gradients_that_conflict_lose_what_is_against_the_other():
    # g1 = (1, 0), g2 = (-1, 1), g1 . g2 = -1
    # g1 -> (1, 0) + 1/2 (-1, 1) = (1/2, 1/2); g2 -> (-1, 1) + 1/1 (1, 0) = (0, 1)
    gradients = paddle.to_tensor([[1.0, 0.0], [-1.0, 1.0]])
    got = project_conflicts(gradients, np.random.default_rng(0))
    np.testing.assert_allclose(got.numpy(), [0.5, 1.5], atol=1e-6)


def test_gradients_that_agree_are_summed():
    gradients = paddle.to_tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    got = project_conflicts(gradients, np.random.default_rng(0))
    np.testing.assert_allclose(got.numpy(), [2.0, 1.0], atol=1e-6)


def test_no_task_is_hurt_by_the_projected_gradient_of_two():
    random = np.random.default_rng(3)
    for _ in range(20):
        gradients = random.normal(size=(2, 5)).astype(np.float32)
        got = project_conflicts(paddle.to_tensor(gradients), random).numpy()
        assert (gradients @ got >= -1e-4).all()


def test_a_loss_is_weighed_by_its_learned_uncertainty():
    s = paddle.to_tensor([math.log(4.0), 0.0], stop_gradient=False)
    tasks = [
        TaskLoss(0, 0.5, paddle.to_tensor(2.0)),
        TaskLoss(1, 1.0, paddle.to_tensor(3.0)),
    ]
    total = weigh_by_uncertainty(tasks, s)
    assert float(total) == pytest.approx(0.5 * (0.5 + math.log(4.0) / 2) + 3.0)
    total.backward()
    # w (1 / 2 - exp(-s) L)
    assert s.grad is not None
    np.testing.assert_allclose(s.grad.numpy(), [0.5 * (0.5 - 0.5), 0.5 - 3.0], atol=1e-6)


def test_learned_weights_stay_within_a_tenth_and_ten_times(tiny_config):
    balance = LossBalance(replace(tiny_config, balance="uncertainty"), 2)
    assert balance.log_variance is not None
    balance.log_variance.set_value(paddle.to_tensor([-9.0, 9.0]))
    balance.clamp()
    weights = np.exp(-balance.log_variance.numpy())
    np.testing.assert_allclose(weights, [10.0, 0.1], rtol=1e-5)


def test_fixed_weights_need_no_balance(tiny_config):
    assert balance_of(tiny_config, 5) is None
    over_categories = replace(tiny_config, balance="uncertainty", balance_over="categories")
    learned = balance_of(over_categories, 5)
    assert learned is not None
    assert [parameter.shape for parameter in learned.parameters()] == [[5]]
    projected = balance_of(replace(tiny_config, balance="pcgrad"), 5)
    assert projected is not None
    assert projected.parameters() == []


@pytest.fixture(scope="module")
def batch(tiny_config, tiny_log):
    return make_batch(tiny_log, training_pages(tiny_config, tiny_log)[:12])


def test_the_objectives_losses_sum_up_to_the_whole(tiny_config, batch):
    logits = paddle.to_tensor(
        np.random.default_rng(0).normal(size=batch.labels.shape).astype(np.float32)
    )
    tasks = objective_losses(tiny_config, logits, batch)
    assert [task.weight for task in tasks] == list(tiny_config.objective_weights)
    whole = float(batch_losses(tiny_config, logits, batch)["loss"])
    assert sum(task.weight * float(task.loss) for task in tasks) == pytest.approx(whole, abs=1e-4)


def test_the_categories_losses_are_those_of_their_pages(tiny_config, tiny_log, batch):
    logits = np.random.default_rng(0).normal(size=batch.labels.shape).astype(np.float32)
    tasks = category_losses(tiny_config, paddle.to_tensor(logits), batch)
    assert sum(task.weight for task in tasks) == pytest.approx(1.0)
    task = tasks[0]
    own = np.flatnonzero(batch.categories[:, 0] == task.row)
    alone = make_batch(tiny_log, batch.pages[own])
    part = paddle.to_tensor(logits[own, : alone.labels.shape[1]])
    expected = float(batch_losses(tiny_config, part, alone)["loss"])
    assert float(task.loss) == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def gradients_of(tiny_config, tiny_catalogue, tiny_ranker, batch):
    """Return a function from a balance to the gradients it leaves in the network."""

    def gradients(config):
        tiny_ranker.train()  # Paddle's LSTM has no backward pass in evaluation
        tiny_ranker.clear_gradients()
        paddle.seed(0)
        logits = tiny_ranker.scorer(page_batch(tiny_ranker, tiny_catalogue, batch))
        if config.balance == "fixed":
            batch_losses(config, logits, batch)["loss"].backward()
        else:
            balance = balance_of(config, 5)
            assert balance is not None
            balance.backward(tiny_ranker, logits, batch, (1, 0))
        return {
            name: parameter.grad.numpy().copy()
            for name, parameter in tiny_ranker.named_parameters()
            if parameter.grad is not None
        }

    return gradients


def test_projection_of_a_single_objective_changes_nothing(tiny_config, gradients_of):
    weights = (1.0,) + (0.0,) * (len(tiny_config.objectives) - 1)
    config = replace(tiny_config, objective_weights=weights)
    plain = gradients_of(config)
    projected = gradients_of(replace(config, balance="pcgrad"))
    for name, values in plain.items():
        np.testing.assert_allclose(projected[name], values, atol=1e-5, err_msg=name)


def test_what_an_objective_has_of_its_own_is_never_projected(tiny_config, gradients_of):
    plain = gradients_of(tiny_config)
    projected = gradients_of(replace(tiny_config, balance="pcgrad"))
    for name in ("scorer._heads.weight", "scorer._direct.bias", "scorer._affine._bias.weight"):
        np.testing.assert_allclose(projected[name], plain[name], atol=1e-5, err_msg=name)


def test_even_uncertainty_leaves_the_gradient_as_it_is(tiny_config, gradients_of):
    plain = gradients_of(tiny_config)
    weighed = gradients_of(replace(tiny_config, balance="uncertainty"))
    for name, values in plain.items():
        np.testing.assert_allclose(weighed[name], values, atol=1e-5, err_msg=name)
