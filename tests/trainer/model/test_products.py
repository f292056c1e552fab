from __future__ import annotations

import numpy as np
import paddle
import pytest

from trainer.model.products import ProductSizes, ProductTower, TextEncoder

SIZES = ProductSizes(
    categories=4, levels=(5, 3), attributes=(6, 2), identities=7, factors=3, text=8
)


@pytest.fixture(scope="module")
def tower() -> ProductTower:
    paddle.seed(2)
    tower = ProductTower(SIZES, 6, modality_dropout=0.5)
    for parameter in tower.parameters():
        parameter.set_value(parameter + 0.3 * paddle.randn(parameter.shape))
    tower.eval()
    return tower


def inputs(count=3, seed=0):
    random = np.random.default_rng(seed)
    return {
        "text": random.normal(size=(count, 8)).astype(np.float32),
        "category": random.integers(0, 4, count),
        "levels": np.stack([random.integers(0, 5, count), random.integers(0, 3, count)], 1),
        "attributes": np.stack([random.integers(0, 6, count), random.integers(0, 2, count)], 1),
        "identity": random.integers(1, 7, count),
        "factors": random.normal(size=(count, 3)).astype(np.float32),
        "factors_present": np.ones(count, np.float32),
    }


def vectors(tower, values):
    return tower(*(paddle.to_tensor(value) for value in values.values())).numpy()


def test_one_vector_per_product_that_depends_on_that_product_alone(tower):
    values = inputs()
    together = vectors(tower, values)
    assert together.shape == (3, 6)
    for row in range(3):
        alone = vectors(tower, {name: value[row : row + 1] for name, value in values.items()})
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


@pytest.mark.parametrize(
    ("absent", "ignored"),
    [
        ({"factors_present": np.zeros(3, np.float32)}, "factors"),
        ({"text": np.zeros((3, 8), np.float32)}, None),
        ({"identity": np.zeros(3, np.int64)}, None),
    ],
)
def test_an_absent_modality_has_no_weight(tower, absent, ignored):
    values = inputs() | absent
    assert np.isfinite(vectors(tower, values)).all()
    assert np.abs(vectors(tower, values) - vectors(tower, inputs())).max() > 1e-4
    if ignored:
        moved = values | {ignored: values[ignored] * -7}
        np.testing.assert_allclose(vectors(tower, moved), vectors(tower, values), atol=1e-6)


def test_a_product_of_which_nothing_is_known_has_a_finite_vector(tower):
    values = {name: np.zeros_like(value) for name, value in inputs().items()}
    got = vectors(tower, values)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[0], got[1])


def test_the_length_of_factors_does_not_matter_only_their_direction(tower):
    values = inputs()
    longer = values | {"factors": values["factors"] * 50}
    np.testing.assert_allclose(vectors(tower, longer), vectors(tower, values), atol=1e-4)


def test_modalities_are_dropped_in_training_only(tower):
    values = inputs()
    np.testing.assert_array_equal(vectors(tower, values), vectors(tower, values))
    tower.train()
    paddle.seed(0)
    seen = {vectors(tower, values).tobytes() for _ in range(5)}
    tower.eval()
    assert len(seen) > 1


def test_a_text_without_words_is_zeros():
    layer = TextEncoder(np.ones((3, 2), np.float32))
    got = layer(paddle.to_tensor([[1, 2], [0, 0]]), paddle.to_tensor([[1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(got.numpy(), [[0.5**0.5] * 2, [0, 0]], atol=1e-6)
    assert layer.parameters() == []
