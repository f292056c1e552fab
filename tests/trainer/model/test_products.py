from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from rerank_server.contract.schema import VectorSpec
from trainer.errors import ConfigError
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


WITH_VECTORS = replace(SIZES, vectors=(VectorSpec("image", 4), VectorSpec("sound", 2)))


def vector_tower() -> ProductTower:
    paddle.seed(2)
    tower = ProductTower(WITH_VECTORS, 6, modality_dropout=0.9)
    tower.eval()
    return tower


def named(image, sound):
    pairs = [np.asarray(image, np.float32), np.asarray(sound, np.float32)]
    return [
        paddle.to_tensor(value)
        for pair in pairs
        for value in (pair, (pair != 0).any(axis=1).astype(np.float32))
    ]


def fused(tower, values, vectors):
    return tower(*(paddle.to_tensor(value) for value in values.values()), vectors).numpy()


def test_the_gate_is_a_softmax_over_the_modalities_that_are_present():
    tower = vector_tower()
    # weights of zero leave the biases: 1, 2, 4, 8, 16 and 32 after the exponential
    parts = np.array([1.0, 2, 4, 8, 16, 32], np.float32)
    tower._gate.weight.set_value(paddle.zeros(tower._gate.weight.shape))
    tower._gate.bias.set_value(paddle.to_tensor(np.log(parts)))
    image = np.array([[3.0, 0, 4, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    sound = np.array([[0.0, 0], [0, 0], [0, 2]], np.float32)
    nothing = {name: np.zeros_like(value) for name, value in inputs().items()}
    got = fused(tower, nothing, named(image, sound))

    def normalised(index, projected):
        return tower._norms[index](projected).numpy()

    unit = [image / np.maximum(np.linalg.norm(image, axis=1, keepdims=True), 1e-6),
            sound / np.maximum(np.linalg.norm(sound, axis=1, keepdims=True), 1e-6)]  # fmt: skip
    zeros = {name: paddle.to_tensor(value) for name, value in nothing.items()}
    structure = tower._category(zeros["category"])
    structure += tower._levels[0](zeros["levels"][:, 0]) + tower._levels[1](zeros["levels"][:, 1])
    for index, table in enumerate(tower._attributes):
        structure += table(zeros["attributes"][:, index])
    hidden = {
        1: normalised(1, tower._structure(structure)),
        4: normalised(4, tower._vectors[0](paddle.to_tensor(unit[0]))),
        5: normalised(5, tower._vectors[1](paddle.to_tensor(unit[1]))),
    }
    # structure (2) is always there; image (16) of the first, none of the second, both of the third
    want = [
        (2 * hidden[1][0] + 16 * hidden[4][0]) / 18,
        hidden[1][1],
        (2 * hidden[1][2] + 16 * hidden[4][2] + 32 * hidden[5][2]) / 50,
    ]
    np.testing.assert_allclose(got, np.stack(want), atol=1e-5)


def test_a_vector_that_is_absent_has_no_weight_and_its_scale_does_not_matter():
    tower = vector_tower()
    image, sound = np.ones((3, 4), np.float32), np.ones((3, 2), np.float32)
    whole = fused(tower, inputs(), named(image, sound))
    assert np.abs(fused(tower, inputs(), named(0 * image, sound)) - whole).max() > 1e-4
    np.testing.assert_allclose(fused(tower, inputs(), named(1000 * image, sound)), whole, atol=1e-5)
    # what stands where the flag says there is nothing is never read
    hidden = named(image, sound)
    hidden[1] = paddle.zeros([3])
    other = named(image * np.arange(4, dtype=np.float32), sound)
    other[1] = paddle.zeros([3])
    np.testing.assert_array_equal(fused(tower, inputs(), hidden), fused(tower, inputs(), other))


def test_vectors_are_dropped_in_training_as_other_modalities():
    tower = vector_tower()
    image, sound = np.ones((3, 4), np.float32), np.ones((3, 2), np.float32)
    tower.train()
    paddle.seed(0)
    seen = {fused(tower, inputs(), named(image, sound)).tobytes() for _ in range(5)}
    tower.eval()
    assert len(seen) > 1


def test_without_vectors_the_tower_is_as_it_was():
    names = [name for name, _ in ProductTower(SIZES, 6, modality_dropout=0.0).named_parameters()]
    assert not [name for name in names if "vectors" in name]
    paddle.seed(2)
    bare = ProductTower(SIZES, 6, modality_dropout=0.5)
    assert bare._gate.weight.shape == [4 * 6 + 4, 4]


def test_a_named_vector_can_be_left_out_by_its_name():
    with pytest.raises(ConfigError, match=r"got 'imgae', want some of .*\(nearest: image\)"):
        ProductTower(WITH_VECTORS, 6, modality_dropout=0.0, left_out=("imgae",))
    paddle.seed(2)
    tower = ProductTower(WITH_VECTORS, 6, modality_dropout=0.0, left_out=("image",))
    tower.eval()
    sound = np.ones((3, 2), np.float32)
    first, second = (
        fused(tower, inputs(), named(by * np.arange(1, 5) * np.ones((3, 4)), sound))
        for by in (1.0, -1.0)
    )
    np.testing.assert_array_equal(first, second)
