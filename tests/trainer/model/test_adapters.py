from __future__ import annotations

import numpy as np
import paddle

from trainer.model.adapters import CategoryAffine, LowRankAdapter, StarAdapter


def random_weights(layer):
    paddle.seed(1)
    for parameter in layer.parameters():
        parameter.set_value(paddle.randn(parameter.shape))
    return layer


def values(*shape):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_an_adapter_starts_as_the_plain_layer():
    layer = LowRankAdapter(4, 3, categories=5, rank=2)
    inputs = values(1, 5, 4)
    categories = paddle.to_tensor([[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(layer(inputs, categories).numpy(), layer.shared(inputs).numpy())


def test_category_zero_is_the_shared_layer_after_training():
    layer = random_weights(LowRankAdapter(4, 3, categories=5, rank=2))
    inputs = values(2, 3, 4)
    zero = paddle.zeros([2, 3], "int64")
    np.testing.assert_array_equal(layer(inputs, zero).numpy(), layer.shared(inputs).numpy())
    other = layer(inputs, zero + 3).numpy()
    assert np.abs(other - layer.shared(inputs).numpy()).min() > 0


def test_an_adapter_is_a_low_rank_change_of_its_own_category():
    layer = random_weights(LowRankAdapter(4, 3, categories=5, rank=2))
    inputs = values(1, 1, 4)
    down = layer._down.weight.numpy()[:, 4:6]  # the rows of category 2
    up = layer._up.weight.numpy()[4:6]
    by_hand = layer.shared(inputs).numpy()[0, 0] + inputs.numpy()[0, 0] @ down @ up
    got = layer(inputs, paddle.to_tensor([[2]])).numpy()[0, 0]
    np.testing.assert_allclose(got, by_hand, atol=1e-5)


def test_an_adapter_learns_from_its_own_category_only():
    layer = random_weights(LowRankAdapter(4, 3, categories=5, rank=2))
    layer(values(1, 1, 4), paddle.to_tensor([[2]])).sum().backward()
    touched = np.abs(layer._up.weight.grad.numpy()).sum(axis=1) > 0
    assert touched.tolist() == [False] * 4 + [True] * 2 + [False] * 4


def test_slot_zero_of_scale_and_bias_changes_nothing():
    layer = random_weights(CategoryAffine(3, 2))
    logits = values(1, 3, 2)
    got = layer(logits, paddle.to_tensor([[0, 1, 2]])).numpy()
    np.testing.assert_array_equal(got[0, 0], logits.numpy()[0, 0])
    scale, bias = layer._scale.weight.numpy(), layer._bias.weight.numpy()
    for category in (1, 2):
        by_hand = logits.numpy()[0, category] * (1 + scale[category]) + bias[category]
        np.testing.assert_allclose(got[0, category], by_hand, atol=1e-6)


def test_star_with_own_weights_of_ones_is_the_shared_layer():
    layer = StarAdapter(4, 3, categories=5, rank=2)
    inputs = values(1, 5, 4)
    got = layer(inputs, paddle.to_tensor([[0, 1, 2, 3, 4]])).numpy()
    np.testing.assert_array_equal(got, layer.shared(inputs).numpy())


def test_star_multiplies_the_shared_weights_by_those_of_the_category():
    layer = random_weights(StarAdapter(4, 3, categories=5, rank=2))
    inputs = values(1, 1, 4)
    weight, bias = layer.shared.weight.numpy(), layer.shared.bias.numpy()
    down = layer._down.weight.numpy()[:, 4:6]  # the rows of category 2
    own = 1.0 + down @ layer._up.weight.numpy()[4:6]
    by_hand = inputs.numpy()[0, 0] @ (weight * own) + bias + layer._bias.weight.numpy()[2]
    got = layer(inputs, paddle.to_tensor([[2]])).numpy()[0, 0]
    np.testing.assert_allclose(got, by_hand, atol=1e-5)


def test_star_doubles_by_own_weights_of_two_and_adds_the_own_bias():
    layer = StarAdapter(2, 1, categories=2, rank=1)
    layer.shared.weight.set_value(np.array([[3.0], [5.0]], np.float32))
    layer.shared.bias.set_value(np.array([0.5], np.float32))
    layer._down.weight.set_value(np.ones((2, 2), np.float32))
    layer._up.weight.set_value(np.ones((2, 1), np.float32))
    layer._bias.weight.set_value(np.full((2, 1), 0.25, np.float32))
    got = layer(paddle.to_tensor([[[1.0, 2.0], [1.0, 2.0]]]), paddle.to_tensor([[0, 1]]))
    # shared: 1 * 3 + 2 * 5 + 0.5; of category 1: 1 * 6 + 2 * 10 + 0.5 + 0.25
    np.testing.assert_allclose(got.numpy().ravel(), [13.5, 26.75])


def test_star_leaves_category_zero_the_shared_layer_after_training():
    layer = random_weights(StarAdapter(4, 3, categories=5, rank=2))
    inputs = values(2, 3, 4)
    got = layer(inputs, paddle.zeros([2, 3], "int64")).numpy()
    np.testing.assert_array_equal(got, layer.shared(inputs).numpy())
