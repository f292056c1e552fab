from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from trainer.model.products import ProductSizes
from trainer.model.ranker import PageBatch, Ranker, RankerSizes

PRODUCTS = ProductSizes(
    categories=4, levels=(5, 3), attributes=(6, 2), identities=7, factors=3, text=10
)
SIZES = RankerSizes(
    products=PRODUCTS,
    surfaces=3,
    features=6,
    event_features=5,
    objectives=2,
    width=8,
    hidden=(12, 8),
    rank=2,
    heads=2,
    page_layers=1,
    number_bins=4,
)


def ranker_of(sizes=SIZES) -> Ranker:
    paddle.seed(4)
    random = np.random.default_rng(0)
    edges = np.sort(random.normal(size=(6, 5)), axis=1)
    texts = random.normal(size=(4, 10)).astype(np.float32)
    ranker = Ranker(sizes, np.ones((3, 10), np.float32), texts, edges)
    for parameter in ranker.parameters():
        parameter.set_value(parameter + 0.2 * paddle.randn(parameter.shape))
    ranker.eval()
    return ranker


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return ranker_of()


def page(candidates=5, events=3, seed=0, categories=None) -> PageBatch:
    random = np.random.default_rng(seed)

    def floats(*shape):
        return paddle.to_tensor(random.normal(size=shape).astype(np.float32))

    category = random.integers(0, 4, (1, candidates)) if categories is None else [categories]
    return PageBatch(
        query=floats(1, 8),
        surface=paddle.to_tensor([1]),
        candidates=floats(1, candidates, 8),
        mask=paddle.ones([1, candidates]),
        categories=paddle.to_tensor(np.array(category, np.int64)),
        dense=floats(1, candidates, 6),
        sequence=floats(1, events, 8),
        sequence_features=floats(1, events, 5),
        sequence_mask=paddle.ones([1, events]),
    )


def padded(values: PageBatch, candidates: int, events: int, filler: float) -> PageBatch:
    def longer(tensor, count, with_=filler):
        shape = [1, count, *tensor.shape[2:]]
        return paddle.concat([tensor, paddle.full(shape, with_, tensor.dtype)], axis=1)

    return replace(
        values,
        candidates=longer(values.candidates, candidates),
        mask=longer(values.mask, candidates, 0.0),
        categories=longer(values.categories, candidates, 0),
        dense=longer(values.dense, candidates),
        sequence=longer(values.sequence, events),
        sequence_features=longer(values.sequence_features, events),
        sequence_mask=longer(values.sequence_mask, events, 0.0),
    )


@pytest.mark.parametrize("filler", [0.0, 3.0])
def test_padding_never_changes_a_score(ranker, filler):
    values = page()
    straight = ranker.scorer(values).numpy()
    got = ranker.scorer(padded(values, 4, 2, filler)).numpy()
    np.testing.assert_allclose(got[:, :5], straight, atol=1e-6)


def test_permuting_candidates_permutes_scores(ranker):
    values, order = page(), [4, 2, 0, 1, 3]
    places = paddle.to_tensor(order)
    straight = ranker.scorer(values).numpy()
    turned = replace(
        values,
        candidates=values.candidates.index_select(places, axis=1),
        categories=values.categories.index_select(places, axis=1),
        dense=values.dense.index_select(places, axis=1),
    )
    np.testing.assert_allclose(ranker.scorer(turned).numpy(), straight[:, order], atol=1e-6)


def test_category_zero_gives_the_shared_network(ranker):
    values = page(categories=[0] * 5)
    straight = ranker.scorer(values).numpy()
    without = ranker_of()
    for name, parameter in without.named_parameters():
        own = ("_down", "_up", "_affine")
        if any(part in name for part in own):
            parameter.set_value(paddle.zeros(parameter.shape))
    np.testing.assert_array_equal(without.scorer(values).numpy(), straight)
    known = page(categories=[2] * 5)
    assert np.abs(without.scorer(known).numpy() - ranker.scorer(known).numpy()).max() > 1e-3


def test_every_parameter_is_registered(ranker):
    width, features, joined = 8, 6, 6 * 8 + 6

    def linear(before, after, bias=True):
        return before * after + after * bias

    def attention(size):
        return 4 * linear(size, size)

    tower = linear(10, width) + (4 + 5 + 3 + 6 + 2 + 7) * width + linear(width, width)
    tower += linear(3, width) + 4 * 2 * width + linear(4 * width + 4, 4)
    query = linear(10, width) + 2 * width
    shopper = linear(width + 5, width) + (2 * 4 * width * width + 2 * 4 * width)
    shopper += 2 * width + attention(width)
    layers = 0
    for before, after in ((joined, 12), (12, 8)):
        layers += linear(before, after) + before * 4 * 2 + 4 * 2 * after
    block = 2 * 2 * 8 + attention(8) + linear(8, 16) + linear(16, 8)
    scorer = linear(10, width) + 3 * width + linear(features * 4, width) + shopper
    scorer += linear(width, width) + linear(width, width, bias=False) + linear(width, 12)
    scorer += layers + block + 2 * 8 + linear(8, 2) + linear(features, 2) + 2 * 4 * 2
    counted = sum(int(np.prod(parameter.shape)) for parameter in ranker.parameters())
    assert counted == tower + query + scorer
    assert len({id(parameter) for parameter in ranker.parameters()}) == len(ranker.parameters())


def test_every_parameter_of_the_scorer_learns():
    ranker = ranker_of(replace(SIZES, dropout=0.0))
    ranker.train()  # in evaluation mode the LSTM keeps nothing to go back through
    ranker.scorer(page(candidates=40)).square().sum().backward()
    # a bias of keys adds the same to every key of a query, which the softmax takes away
    still = {
        name
        for name, parameter in ranker.scorer.named_parameters()
        if parameter.grad is None or not np.abs(parameter.grad.numpy()).any()
    }
    assert {name for name in still if not name.endswith("_key.bias")} == set()


def test_page_attention_can_be_left_out():
    alone = ranker_of(replace(SIZES, page_layers=0))
    values = page()
    straight = alone.scorer(values).numpy()
    # what one candidate is changes another's score only through the page's means
    assert straight.shape == (1, 5, 2)
    assert not any("_page" in name for name, _ in alone.named_parameters())


def test_the_same_seed_gives_the_same_network():
    first, second = ranker_of(), ranker_of()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_default_network_is_the_one_that_was_before_its_parts_could_be_chosen(ranker):
    names = [name for name, _ in ranker.scorer.named_parameters()]
    assert names[5:13] == [
        "_shopper._event.weight",
        "_shopper._event.bias",
        "_shopper._lstm.weight_ih_l0",
        "_shopper._lstm.weight_hh_l0",
        "_shopper._lstm.bias_ih_l0",
        "_shopper._lstm.bias_hh_l0",
        "_shopper._norm.weight",
        "_shopper._norm.bias",
    ]
    assert [name for name in names if name.startswith("_layers.0")] == [
        "_layers.0.shared.weight",
        "_layers.0.shared.bias",
        "_layers.0._down.weight",
        "_layers.0._up.weight",
    ]
    assert len(names) == 58
    got = ranker.scorer(page(categories=[1, 2, 3, 0, 1])).numpy()[0]
    before = [
        [-3.2539220, 3.2925661],
        [0.5189340, -0.0049858],
        [-0.3198584, -0.0452736],
        [-4.0452595, 3.8180003],
        [-1.4826565, -0.1425788],
    ]
    np.testing.assert_allclose(got, before, atol=1e-5)
