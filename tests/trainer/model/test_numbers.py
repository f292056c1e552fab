from __future__ import annotations

import numpy as np
import paddle

from trainer.model.numbers import NumberEncoder


def encoder_of(edges) -> NumberEncoder:
    """Return an encoder whose linear layer shows the bins themselves."""
    edges = np.array(edges, np.float64)
    bins = edges.shape[0] * (edges.shape[1] - 1)
    layer = NumberEncoder(edges, bins)
    layer._linear.weight.set_value(np.eye(bins, dtype=np.float32))
    layer._linear.bias.set_value(np.zeros(bins, np.float32))
    return layer


def encode(layer, numbers):
    return layer(paddle.to_tensor(np.array([[numbers]], np.float32))).numpy()[0, 0]


def test_a_number_fills_the_bins_below_it_and_a_share_of_its_own():
    layer = encoder_of([[0, 1, 3, 4]])
    np.testing.assert_allclose(encode(layer, [2.0]), [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(encode(layer, [-5.0]), [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(encode(layer, [9.0]), [1, 1, 1], atol=1e-6)


def test_each_feature_has_its_own_bins():
    layer = encoder_of([[0, 1], [10, 20]])
    np.testing.assert_allclose(encode(layer, [0.25, 15.0]), [0.25, 0.5], atol=1e-6)


def test_coinciding_edges_make_a_finite_step():
    layer = encoder_of([[1, 1]])
    assert encode(layer, [0.9]) == 0
    assert encode(layer, [1.1]) == 1
