"""Encoders of the shopper's events that end in one vector for all candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import paddle
import pytest

from tests.trainer.model.test_ranker import SIZES, padded, page, ranker_of
from trainer.export.graphs import export_graphs
from trainer.model.shopper_state import ShopperState

ENCODERS = ("gru", "lstm", "transformer")
SCORER_NAMES = {
    "query_vector": "query",
    "surface": "surface",
    "candidate_vectors": "candidates",
    "candidate_mask": "mask",
    "categories": "categories",
    "dense": "dense",
    "sequence_vectors": "sequence",
    "sequence_features": "sequence_features",
    "sequence_mask": "sequence_mask",
}


def layer_of(encoder: str) -> ShopperState:
    paddle.seed(3)
    layer = ShopperState(encoder, 8, 5, 2, 0.1)
    layer.eval()
    return layer


def values(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def sigmoid(value):
    return 1.0 / (1.0 + np.exp(-value))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_after_the_events_changes_nothing(encoder):
    layer = layer_of(encoder)
    events = values(1, 4, 8, seed=1), values(1, 4, 5, seed=2), paddle.ones([1, 4])
    straight = layer(values(1, 3, 8), *events).numpy()
    longer = (
        paddle.concat([events[0], paddle.full([1, 3, 8], 9.0)], axis=1),
        paddle.concat([events[1], paddle.full([1, 3, 5], 9.0)], axis=1),
        paddle.concat([events[2], paddle.zeros([1, 3])], axis=1),
    )
    np.testing.assert_allclose(layer(values(1, 3, 8), *longer).numpy(), straight, atol=1e-6)
    assert np.abs(straight).max() > 0.1


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_shopper_without_events_is_zero_for_every_candidate(encoder):
    mask = paddle.zeros([1, 2])
    got = layer_of(encoder)(values(1, 3, 8), values(1, 2, 8), values(1, 2, 5), mask)
    np.testing.assert_array_equal(got.numpy(), np.zeros((1, 3, 8), np.float32))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_earlier_events_count_and_all_candidates_see_one_shopper(encoder):
    layer = layer_of(encoder)
    vectors, features, mask = values(1, 4, 8), values(1, 4, 5, seed=2), paddle.ones([1, 4])
    first = layer(values(1, 3, 8), vectors, features, mask).numpy()
    moved = paddle.concat([vectors[:, :1] + 1.0, vectors[:, 1:]], axis=1)
    assert np.abs(layer(values(1, 3, 8), moved, features, mask).numpy() - first).max() > 1e-4
    np.testing.assert_array_equal(first[0, 0], first[0, 2])


def test_one_step_of_the_gru_worked_by_hand():
    # width 1, one event: x = 2, no numbers but one of zero; then e = 0.5 * 2 + 0.25 = 1.25
    layer = ShopperState("gru", 1, 1, 1, 0.0)
    layer._event.weight.set_value(np.array([[0.5], [7.0]], np.float32))
    layer._event.bias.set_value(np.array([0.25], np.float32))
    told = {
        "weight_ih_l0": [[0.4], [-0.8], [1.2]],  # reset, update, candidate
        "weight_hh_l0": [[5.0], [5.0], [5.0]],  # of the state before, which is zero
        "bias_ih_l0": [0.1, 0.2, -0.3],
        "bias_hh_l0": [0.0, -0.1, 0.6],
    }
    for name, value in told.items():
        getattr(layer._recurrent, name).set_value(np.array(value, np.float32))
    setattr(layer, "_norm", paddle.nn.Identity())  # noqa: B010 - of one number the norm would be zero
    got = layer(
        paddle.zeros([1, 1, 1]), paddle.full([1, 1, 1], 2.0), paddle.zeros([1, 1, 1]),
        paddle.ones([1, 1]),
    ).item()  # fmt: skip
    reset = sigmoid(0.4 * 1.25 + 0.1)
    update = sigmoid(-0.8 * 1.25 + 0.2 - 0.1)
    state = (1 - update) * np.tanh(1.2 * 1.25 - 0.3 + reset * 0.6)
    assert got == pytest.approx(state + 1.25, abs=1e-6)


CHOICES = [{"sequence": encoder} for encoder in ENCODERS] + [{"adapter": "star"}]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_graph_of_each_choice_scores_as_paddle_with_and_without_events(choice):
    sizes = replace(SIZES, **choice)
    ranker = ranker_of(sizes)
    graphs = export_graphs(ranker, sizes.features, sizes.event_features)
    scorer = onnxruntime.InferenceSession(graphs["scorer.onnx"], providers=["CPUExecutionProvider"])
    first = page(categories=[0, 1, 2, 3, 1])
    none = replace(first, sequence_mask=0.0 * first.sequence_mask)
    for some in (first, none, padded(first, 2, 3, 3.0)):
        given = {name: getattr(some, field).numpy() for name, field in SCORER_NAMES.items()}
        _, logits = scorer.run(None, given)
        np.testing.assert_allclose(logits, ranker.scorer(some).numpy(), atol=1e-5)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_parameter_of_each_choice_learns(choice):
    ranker = ranker_of(replace(SIZES, dropout=0.0, **choice))
    ranker.train()
    ranker.scorer(page(candidates=40)).square().sum().backward()
    still = {
        name
        for name, parameter in ranker.scorer.named_parameters()
        if parameter.grad is None or not np.abs(parameter.grad.numpy()).any()
    }
    # a bias of keys adds the same to every key of a query, which the softmax takes away
    assert {name for name in still if not name.endswith("_key.bias")} == set()
