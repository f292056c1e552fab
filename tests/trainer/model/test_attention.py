from __future__ import annotations

import numpy as np
import paddle

from trainer.model.attention import Attention, PageAttention


def values(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_one_head_equals_the_formula():
    paddle.seed(1)
    layer = Attention(3, 1)
    queries, keys = values(1, 2, 3), values(1, 4, 3, seed=1)
    mask = paddle.to_tensor([[1.0, 1.0, 1.0, 0.0]])

    def project(linear, inputs):
        return inputs.numpy()[0] @ linear.weight.numpy() + linear.bias.numpy()

    query, key = project(layer._query, queries), project(layer._key, keys)[:3]
    value = project(layer._value, keys)[:3]
    weights = np.exp(query @ key.T / np.sqrt(3))
    mixed = weights / weights.sum(axis=1, keepdims=True) @ value
    by_hand = mixed @ layer._out.weight.numpy() + layer._out.bias.numpy()
    np.testing.assert_allclose(layer(queries, keys, mask).numpy()[0], by_hand, atol=1e-5)


def test_masked_keys_change_nothing():
    paddle.seed(1)
    layer = Attention(8, 2)
    queries, keys = values(2, 3, 8), values(2, 5, 8, seed=1)
    mask = paddle.to_tensor([[1.0] * 5 + [0.0] * 2] * 2)
    for filler in (0.0, 100.0):
        padded = paddle.concat([keys, paddle.full([2, 2, 8], filler)], axis=1)
        np.testing.assert_allclose(
            layer(queries, padded, mask).numpy(),
            layer(queries, keys, mask[:, :5]).numpy(),
            atol=1e-6,
        )


def test_a_row_without_any_key_stays_finite():
    layer = Attention(8, 2)
    out = layer(values(1, 2, 8), values(1, 3, 8), paddle.zeros([1, 3]))
    assert np.isfinite(out.numpy()).all()


def test_permuting_candidates_permutes_the_output_of_page_attention():
    paddle.seed(1)
    layer = PageAttention(8, 2, 0.0)
    candidates, mask = values(1, 6, 8), paddle.ones([1, 6])
    order = [3, 0, 5, 1, 2, 4]
    straight = layer(candidates, mask).numpy()
    np.testing.assert_allclose(
        layer(candidates[:, order], mask).numpy(), straight[:, order], atol=1e-6
    )
