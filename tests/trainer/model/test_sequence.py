from __future__ import annotations

import numpy as np
import paddle
import pytest

from trainer.model.sequence import ShopperSequence


@pytest.fixture(scope="module")
def layer() -> ShopperSequence:
    paddle.seed(3)
    return ShopperSequence(8, 5, 2)


def values(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_padding_after_the_events_changes_nothing(layer):
    candidates, vectors, features = (
        values(1, 3, 8),
        values(1, 4, 8, seed=1),
        values(1, 4, 5, seed=2),
    )
    mask = paddle.ones([1, 4])
    straight = layer(candidates, vectors, features, mask).numpy()
    padded = layer(
        candidates,
        paddle.concat([vectors, paddle.full([1, 3, 8], 9.0)], axis=1),
        paddle.concat([features, paddle.full([1, 3, 5], 9.0)], axis=1),
        paddle.concat([mask, paddle.zeros([1, 3])], axis=1),
    ).numpy()
    np.testing.assert_allclose(padded, straight, atol=1e-6)


def test_a_shopper_without_a_past_is_the_zero_slot(layer):
    candidates = values(1, 3, 8)
    mask = paddle.zeros([1, 2])
    first = layer(candidates, values(1, 2, 8, seed=4), values(1, 2, 5, seed=5), mask).numpy()
    second = layer(candidates, values(1, 2, 8, seed=6), values(1, 2, 5, seed=7), mask).numpy()
    np.testing.assert_allclose(first, second, atol=1e-6)
    # every candidate reads the one slot there is
    np.testing.assert_allclose(first[0, 0], first[0, 1], atol=1e-6)


def test_the_order_of_events_matters_and_candidates_are_independent(layer):
    candidates, vectors, features = (
        values(1, 3, 8),
        values(1, 4, 8, seed=1),
        values(1, 4, 5, seed=2),
    )
    mask = paddle.ones([1, 4])
    straight = layer(candidates, vectors, features, mask).numpy()
    turned = layer(candidates, vectors.flip([1]), features.flip([1]), mask).numpy()
    assert np.abs(turned - straight).max() > 1e-4
    alone = layer(candidates[:, 1:2], vectors, features, mask).numpy()
    np.testing.assert_allclose(alone[:, 0], straight[:, 1], atol=1e-6)
