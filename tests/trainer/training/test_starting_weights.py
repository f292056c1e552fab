"""Weights carried over by name, to a network of other categories and another vocabulary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.vocabulary import Vocabulary
from trainer.errors import TrainingError
from trainer.training.checkpoint import BEST, save_atomically, save_checkpoint
from trainer.training.network import build_ranker
from trainer.training.starting_weights import (
    Start,
    read_start,
    start_from,
    with_scales_of,
    write_names,
)


@pytest.fixture
def start(tiny_ranker, tiny_log, tiny_catalogue, tmp_path):
    """What a run of the tiny log leaves, its weights nowhere zero."""
    return Start(
        folder=tmp_path,
        schema=tiny_log.schema,
        vocabulary=tiny_catalogue.vocabulary,
        weights={name: value.numpy() for name, value in tiny_ranker.named_parameters()},
        buffers={name: value.numpy() for name, value in tiny_ranker.named_buffers()},
    )


@pytest.fixture
def other(tiny_config, tiny_log, tiny_catalogue):
    """A log and catalogue whose categories and products are turned round, one new among each."""
    known = tiny_log.schema.categories
    names = (known[0], "news", *reversed(known[1:]))
    schema = replace(tiny_log.schema, categories=names)
    old = tiny_catalogue.vocabulary
    vocabulary = Vocabulary(
        levels=tuple((*reversed(level), "new node") for level in old.levels),
        attributes=tuple(("new value", *values[1:]) for values in old.attributes),
        identities=("new product", *reversed(old.identities)),
    )
    rows = [0, 0, *reversed(range(1, len(known)))]
    text = tiny_catalogue.category_text[rows]
    catalogue = replace(tiny_catalogue, vocabulary=vocabulary, category_text=text)
    log = replace(tiny_log, schema=schema)
    return log, catalogue, build_ranker(tiny_config, log, catalogue)


def test_the_same_names_carry_every_weight_as_it_is(start, tiny_config, tiny_log, tiny_catalogue):
    fresh = build_ranker(replace(tiny_config, seed=9), tiny_log, tiny_catalogue)
    carried = start_from(start, fresh, tiny_log.schema, tiny_catalogue.vocabulary)
    for name, value in fresh.named_parameters():
        np.testing.assert_array_equal(value.numpy(), start.weights[name], err_msg=name)
        np.testing.assert_array_equal(carried[name], start.weights[name], err_msg=name)


def test_rows_go_to_the_place_of_their_names(start, other, tiny_config):
    log, catalogue, ranker = other
    start_from(start, ranker, log.schema, catalogue.vocabulary)
    got = {name: value.numpy() for name, value in ranker.named_parameters()}
    tables = {
        "products._identity.weight": (start.vocabulary.identities, catalogue.vocabulary.identities),
        "products._levels.1.weight": (start.vocabulary.levels[1], catalogue.vocabulary.levels[1]),
        "products._attributes.0.weight": (
            start.vocabulary.attributes[0],
            catalogue.vocabulary.attributes[0],
        ),
    }
    for parameter, (old, new) in tables.items():
        for row, name in enumerate(new, start=1):
            if name in old:
                expected = start.weights[parameter][old.index(name) + 1]
                np.testing.assert_array_equal(got[parameter][row], expected)
        np.testing.assert_array_equal(got[parameter][0], start.weights[parameter][0])
    rank = tiny_config.rank
    for row, name in enumerate(log.schema.categories):
        if name == "news":
            continue
        old = start.schema.categories.index(name)
        for parameter, axis in (("_down", 1), ("_up", 0)):
            key = f"scorer._layers.0.{parameter}.weight"
            place, was = (slice(r * rank, (r + 1) * rank) for r in (row, old))
            mine, theirs = (np.moveaxis(side[key], axis, 0) for side in (got, start.weights))
            np.testing.assert_array_equal(mine[place], theirs[was])
        for key in ("scorer._affine._scale.weight", "products._category.weight"):
            np.testing.assert_array_equal(got[key][row], start.weights[key][old])


def test_a_new_category_scores_as_one_never_seen(start, other, tiny_config):
    log, catalogue, ranker = other
    start_from(start, ranker, log.schema, catalogue.vocabulary)
    got = {name: value.numpy() for name, value in ranker.named_parameters()}
    row, rank = log.schema.categories.index("news"), tiny_config.rank
    for layer in (0, 1):
        own = got[f"scorer._layers.{layer}._up.weight"][row * rank : (row + 1) * rank]
        assert (own == 0).all()
    assert (got["scorer._affine._scale.weight"][row] == 0).all()
    assert (got["scorer._affine._bias.weight"][row] == 0).all()
    category = got["products._category.weight"]
    np.testing.assert_array_equal(category[row], category[0])


def test_a_new_product_starts_as_the_mean_of_the_known_ones(start, other):
    log, catalogue, ranker = other
    start_from(start, ranker, log.schema, catalogue.vocabulary)
    table = dict(ranker.named_parameters())["products._identity.weight"].numpy()
    expected = start.weights["products._identity.weight"][1:].mean(axis=0)
    np.testing.assert_allclose(table[1], expected, atol=1e-6)


def test_the_bins_of_the_numbers_are_taken_over(start, other):
    log, catalogue, ranker = other
    start.buffers["scorer._numbers._low"][:] = 0.25
    start_from(start, ranker, log.schema, catalogue.vocabulary)
    low = dict(ranker.named_buffers())["scorer._numbers._low"].numpy()
    assert (low == 0.25).all()


def test_a_start_of_another_schema_is_refused_by_what_differs(start, tiny_log, tiny_ranker):
    fewer = replace(start, schema=replace(start.schema, features=start.schema.features[:-1]))
    last = start.schema.features[-1].name
    for refuse in (
        lambda: with_scales_of(fewer, tiny_log),
        lambda: start_from(fewer, tiny_ranker, tiny_log.schema, start.vocabulary),
    ):
        with pytest.raises(TrainingError, match=f"of another schema.*they differ in {last}"):
            refuse()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"width": 8}, "products._text.weight"),
        ({"rank": 3}, "the rank of the adapters"),
        ({"page_layers": 0}, "scorer._page.0"),
    ],
)
def test_a_start_of_another_network_is_refused_by_what_differs(
    change, named, start, tiny_config, tiny_log, tiny_catalogue
):
    ranker = build_ranker(replace(tiny_config, **change), tiny_log, tiny_catalogue)
    with pytest.raises(TrainingError, match="of another network, which differs in") as caught:
        start_from(start, ranker, tiny_log.schema, tiny_catalogue.vocabulary)
    assert named in str(caught.value)


def test_the_log_takes_the_scales_of_the_start(start, tiny_log):
    moved = tuple(replace(spec, mean=spec.mean + 1) for spec in start.schema.features)
    scaled = with_scales_of(replace(start, schema=replace(start.schema, features=moved)), tiny_log)
    assert scaled.schema.features == moved
    assert scaled.schema.categories == tiny_log.schema.categories


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"start_from: got .* without best.pdparams"):
        read_start(tmp_path)


def test_what_is_written_is_read_back(start, tiny_ranker, tmp_path):
    import paddle  # noqa: PLC0415

    from trainer.training.checkpoint import Progress  # noqa: PLC0415

    save_atomically(start.weights, tmp_path / BEST)
    with pytest.raises(TrainingError, match=r"start_from: got .* without names.json"):
        read_start(tmp_path)
    write_names(tmp_path, start.schema, start.vocabulary)
    optimiser = paddle.optimizer.AdamW(parameters=tiny_ranker.parameters())
    save_checkpoint(tmp_path, tiny_ranker, optimiser, start.weights, Progress())
    read = read_start(tmp_path)
    assert (read.schema, read.vocabulary) == (start.schema, start.vocabulary)
    for name, values in start.weights.items():
        np.testing.assert_array_equal(read.weights[name], values)
    np.testing.assert_array_equal(
        read.buffers["scorer._numbers._low"], start.buffers["scorer._numbers._low"]
    )
