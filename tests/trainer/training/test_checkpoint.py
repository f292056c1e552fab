from __future__ import annotations

import numpy as np
import paddle
import pytest

from trainer.errors import TrainingError
from trainer.training.checkpoint import (
    BEST,
    CHECKPOINT,
    Progress,
    load_checkpoint,
    load_weights,
    save_atomically,
    save_checkpoint,
)


def network_and_optimiser(width=3, seed=1):
    with paddle.utils.unique_name.guard():
        paddle.seed(seed)
        network = paddle.nn.Linear(2, width)
        optimiser = paddle.optimizer.AdamW(0.1, parameters=network.parameters())
    return network, optimiser


def step(network, optimiser):
    with paddle.utils.unique_name.guard():
        network(paddle.to_tensor([[1.0, -2.0]])).square().sum().backward()
        optimiser.step()
        optimiser.clear_grad()


def test_a_checkpoint_brings_back_weights_moments_average_and_progress(tmp_path):
    network, optimiser = network_and_optimiser()
    for _ in range(3):
        step(network, optimiser)
    average = {"weight": np.full((2, 3), 0.5, np.float32)}
    save_checkpoint(tmp_path, network, optimiser, average, Progress(3, 0.25, 2, 1))
    step(network, optimiser)
    fresh, fresh_optimiser = network_and_optimiser(seed=9)
    loaded = load_checkpoint(tmp_path, fresh, fresh_optimiser)
    assert loaded is not None
    assert loaded[1] == Progress(3, 0.25, 2, 1)
    np.testing.assert_array_equal(loaded[0]["weight"], average["weight"])
    loaded[0]["weight"] *= 2  # the average goes on moving in place
    step(fresh, fresh_optimiser)
    np.testing.assert_array_equal(fresh.weight.numpy(), network.weight.numpy())


def test_there_is_nothing_to_go_on_from_in_a_new_folder(tmp_path):
    assert load_checkpoint(tmp_path, *network_and_optimiser()) is None


def test_progress_that_has_no_best_yet_comes_back_as_it_was(tmp_path):
    network, optimiser = network_and_optimiser()
    save_checkpoint(tmp_path, network, optimiser, {}, Progress())
    loaded = load_checkpoint(tmp_path, network, optimiser)
    assert loaded is not None
    assert loaded[1] == Progress(0, float("-inf"), 0, 0)


def test_writing_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    save_atomically({"a": np.zeros(2)}, tmp_path / BEST)
    before = (tmp_path / BEST).read_bytes()

    def full(value, path):
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paddle, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_atomically({"a": np.ones(2)}, tmp_path / BEST)
    assert (tmp_path / BEST).read_bytes() == before


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    network, optimiser = network_and_optimiser()
    save_checkpoint(tmp_path, network, optimiser, {}, Progress())
    other = paddle.nn.Sequential(paddle.nn.Linear(2, 3))
    with pytest.raises(TrainingError, match=f"{CHECKPOINT}: got weights of another network"):
        load_checkpoint(tmp_path, other, optimiser)
    wider, wider_optimiser = network_and_optimiser(width=4)
    with pytest.raises(TrainingError, match="weight"):
        load_checkpoint(tmp_path, wider, wider_optimiser)


def test_weights_are_set_by_name_and_refused_when_they_do_not_fit(tmp_path):
    network, _ = network_and_optimiser()
    weights = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}
    save_atomically(weights, tmp_path / BEST)
    load_weights(tmp_path / BEST, network)
    np.testing.assert_array_equal(network.weight.numpy(), weights["weight"])
    save_atomically({"weight": weights["weight"]}, tmp_path / BEST)
    with pytest.raises(TrainingError, match="differs in bias"):
        load_weights(tmp_path / BEST, network)
