"""Which category teaches which: by hand, and on the network's own gradients."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import paddle
import pytest

from trainer.encoding.batches import make_batch
from trainer.encoding.page_draws import category_row, pages_with_positive
from trainer.errors import TransferError
from trainer.training.fine_tuning import is_of_categories
from trainer.training.network import page_batch
from trainer.training.objective_losses import batch_losses
from trainer.training.source_affinity import (
    AFFINITY,
    Affinities,
    affinity_of,
    gradient_affinity,
    read_affinities,
    teaching_sources,
)


def test_affinity_is_the_step_along_the_other_gradient_over_the_loss():
    gradients = np.array([[3.0, 4.0], [0.5, 0.0], [-0.3, 0.0]])
    got = affinity_of(gradients, np.array([2.0, 1.0, 4.0]), 0.1)
    # the first gradient is of norm 5, so its step is a fifth: 0.02 (g1 . g_j) / L_j
    np.testing.assert_allclose(got[0], [0.02 * 25 / 2, 0.02 * 1.5, 0.02 * -0.9 / 4])
    # the second is shorter than 1: its step is whole
    np.testing.assert_allclose(got[1], [0.1 * 1.5 / 2, 0.1 * 0.25, 0.1 * -0.15 / 4])


AFFINITIES = Affinities(
    names=("a", "b", "c", "t"),
    steps=(1, 2),
    values=np.array(
        [
            [[1, 0, 0, 0.2], [0, 1, 0, -0.5], [0, 0, 1, 0.1], [0, 0, 0, 1]],
            [[1, 0, 0, 0.2], [0, 1, 0, 0.3], [0, 0, 1, 0.1], [0, 0, 0, 1]],
        ],
        np.float64,
    ),
)


def test_sources_that_help_on_average_are_chosen():
    assert teaching_sources(AFFINITIES, "t", ["a", "b", "c"]) == ["a", "c"]
    with pytest.raises(TransferError, match="got none of b whose gradients help 't'"):
        teaching_sources(AFFINITIES, "t", ["b"])


def test_what_was_measured_is_read_back(tmp_path):
    lines = [
        {"step": step, "names": ["a", "b"], "affinity": [[1.0, 0.5], [0.25, 1.0]]}
        for step in (4, 8)
    ]
    (tmp_path / AFFINITY).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    read = read_affinities(tmp_path)
    assert (read.names, read.steps) == (("a", "b"), (4, 8))
    np.testing.assert_array_equal(read.mean(), [[1.0, 0.5], [0.25, 1.0]])
    with pytest.raises(TransferError, match="want a source training with affinity_pages above 0"):
        read_affinities(tmp_path / "other")


def test_a_step_on_a_category_lowers_losses_by_its_affinity(
    tiny_config, tiny_log, tiny_catalogue, tiny_ranker
):
    config = replace(
        tiny_config, dropout=0.0, modality_dropout=0.0, learning_rate=1e-4, candidates_per_page=0
    )
    names = [
        name
        for name in tiny_log.schema.categories[1:]
        if pages_with_positive(tiny_log, category_row(tiny_log, name), "train", "search").size >= 4
    ][:3]
    pages = {
        name: pages_with_positive(tiny_log, category_row(tiny_log, name), "train", "search")[:4]
        for name in names
    }
    # no dropout in this network: the loss before and after a step differ by the step alone
    for layer in tiny_ranker.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = 0.0
    tiny_ranker.products._drop = 0.0
    affinity = gradient_affinity(config, tiny_ranker, tiny_catalogue, tiny_log, pages)
    assert affinity.shape == (len(names), len(names))
    assert (np.diag(affinity) > 0).all()

    def loss(name):
        batch = make_batch(tiny_log, pages[name])
        logits = tiny_ranker.scorer(page_batch(tiny_ranker, tiny_catalogue, batch))
        return batch_losses(config, logits, batch)["loss"]

    before = [float(loss(name)) for name in names]
    tiny_ranker.clear_gradients()
    loss(names[0]).backward()
    shared = [
        parameter
        for name, parameter in tiny_ranker.named_parameters()
        if not is_of_categories(name) and not name.startswith("products._identity")
    ]
    norm = np.sqrt(sum(float((p.grad * p.grad).sum()) for p in shared if p.grad is not None))
    for parameter in shared:
        if parameter.grad is not None:
            step = 1e-3 / max(norm, 1.0) * parameter.grad
            parameter.set_value(parameter.detach() - step)
    after = [float(loss(name)) for name in names]
    # a step ten times as long as was asked for, so that float32 sees it
    expected = [(old - new) / old for old, new in zip(before, after, strict=True)]
    np.testing.assert_allclose(10 * affinity[0], expected, rtol=0.2, atol=3e-5)
