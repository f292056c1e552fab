from __future__ import annotations

import numpy as np
import paddle
import pytest

from trainer.model.experts import ExpertGate, OwnLinear


def softmax(values):
    weights = np.exp(values - values.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("own", [False, True])
def test_each_head_mixes_experts_by_its_own_gate(own):
    paddle.seed(3)
    width, heads, experts = 4, 3, 2
    layer = ExpertGate(width, heads, experts, own=own)
    x = np.random.default_rng(0).normal(size=(2, 5, width)).astype(np.float32)
    got = layer(paddle.to_tensor(x)).numpy()
    weights = {name: value.numpy() for name, value in layer.named_parameters()}
    shared = np.maximum(x @ weights["_shared.weight"] + weights["_shared.bias"], 0)
    shared = shared.reshape(2, 5, experts, width)
    gate = x @ weights["_gate.weight"] + weights["_gate.bias"]
    gate = softmax(gate.reshape(2, 5, heads, experts + own))
    wanted = np.einsum("pchi,pciw->pchw", gate[..., :experts], shared)
    if own:
        mine = np.maximum(x @ weights["_own.weight"] + weights["_own.bias"], 0)
        wanted += gate[..., experts:] * mine.reshape(2, 5, heads, width)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_head_of_its_own_vector_is_one_linear_layer_for_each():
    paddle.seed(3)
    layer = OwnLinear(4, 3)
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype(np.float32)
    weight, bias = (parameter.numpy() for parameter in layer.parameters())
    got = layer(paddle.to_tensor(x)).numpy()
    for head in range(3):
        np.testing.assert_allclose(
            got[:, :, head], x[:, :, head] @ weight[head] + bias[head], atol=1e-5
        )
