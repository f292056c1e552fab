"""Training from another run's weights: what is frozen, what pulls back, and resuming it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import paddle
import pytest

from tests.trainer.stopped_runs import StopError, assert_same_run, journal_of, stop_before_step
from trainer.config import read_config
from trainer.errors import ConfigError
from trainer.pipeline import run_training
from trainer.training.checkpoint import BEST, read_weights
from trainer.training.fine_tuning import (
    freeze_shared,
    is_of_categories,
    is_shared_frozen,
    pull_to_start,
)
from trainer.training.starting_weights import NAMES
from trainer.training.train import train


@pytest.fixture(scope="module")
def config(tiny_config):
    """One surface, so that a page is of one category; few steps."""
    return replace(tiny_config, surfaces=("search",), epochs=1, evaluations_per_epoch=1)


@pytest.fixture(scope="module")
def runs(config, tiny_log, tiny_catalogue, tmp_path_factory):
    """Return a folder of runs that holds one to start from, called `source`."""
    folder = tmp_path_factory.mktemp("runs")
    train(config, tiny_log, tiny_catalogue, folder / "source", progress=False)
    return folder


@pytest.fixture(scope="module")
def target(tiny_log):
    """The category of most training pages."""
    pages = tiny_log.pages_of("train", "search")
    rows, counts = np.unique(tiny_log.categories[tiny_log.offsets[pages]], return_counts=True)
    return tiny_log.schema.categories[rows[counts.argmax()]]


@pytest.fixture(scope="module")
def tuned(config, target):
    return replace(
        config, categories=(target,), start_from="source", pages_per_batch=8, epochs=2, patience=9
    )


def test_what_belongs_to_categories_is_adapters_scale_and_bias(tiny_ranker):
    own = {name for name, _ in tiny_ranker.named_parameters() if is_of_categories(name)}
    assert own == {
        f"scorer._layers.{layer}.{half}.weight" for layer in (0, 1) for half in ("_down", "_up")
    } | {"scorer._affine._scale.weight", "scorer._affine._bias.weight"}


def test_the_shared_part_is_frozen_for_a_share_of_the_steps_or_throughout(config):
    half = replace(config, frozen_share=0.5)
    assert [is_shared_frozen(half, step, 4) for step in range(4)] == [True, True, False, False]
    only = replace(config, train_only="adapters")
    assert all(is_shared_frozen(only, step, 4) for step in range(4))
    assert not is_shared_frozen(config, 0, 4)


def test_the_pull_is_its_strength_times_the_way_from_the_start():
    layer = paddle.nn.Linear(2, 1)
    layer.weight.set_value(paddle.to_tensor([[1.0], [2.0]]))
    layer.bias.set_value(paddle.to_tensor([0.5]))
    start = {"weight": paddle.to_tensor([[0.5], [3.0]]), "bias": paddle.to_tensor([0.5])}
    layer(paddle.to_tensor([[1.0, 1.0]])).sum().backward()  # gradient 1 everywhere
    pull_to_start(layer, start, 0.2)
    # one, and a fifth of the way: of 0.5 up, of 1 down
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    np.testing.assert_allclose(layer.weight.grad.numpy(), [[1.1], [0.8]], atol=1e-6)
    np.testing.assert_allclose(layer.bias.grad.numpy(), [1.0], atol=1e-6)


def test_what_no_gradient_reaches_is_not_pulled():
    layer = paddle.nn.Linear(2, 1)
    layer.bias.stop_gradient = True
    layer(paddle.ones([1, 2])).sum().backward()
    pull_to_start(layer, {name: value.detach() for name, value in layer.named_parameters()}, 1.0)
    assert layer.bias.grad is None


def test_freezing_is_undone(tiny_ranker):
    freeze_shared(tiny_ranker, frozen=True)
    trained = {name for name, value in tiny_ranker.named_parameters() if not value.stop_gradient}
    assert trained == {n for n, _ in tiny_ranker.named_parameters() if is_of_categories(n)}
    freeze_shared(tiny_ranker, frozen=False)
    assert not any(value.stop_gradient for value in tiny_ranker.parameters())


def test_adapters_trained_alone_leave_the_shared_part_and_other_categories_bit_equal(
    tuned, target, tiny_log, tiny_catalogue, runs
):
    config = replace(tuned, train_only="adapters", l2_sp=0.01, learning_rate=1e-2)
    folder = runs / "adapters"
    train(config, tiny_log, tiny_catalogue, folder, progress=False)
    before = read_weights(runs / "source" / BEST)
    after = paddle.load(str(folder / "checkpoint.pdparams"))["network"]
    row, moved = tiny_log.schema.categories.index(target), 0
    for name, values in before.items():
        got = np.asarray(after[name])
        if not is_of_categories(name):
            np.testing.assert_array_equal(got, values, err_msg=name)
            continue
        rows = np.arange(len(tiny_log.schema.categories)).repeat(
            config.rank if "_layers" in name else 1
        )
        axis = 1 if name.endswith("_down.weight") else 0
        others = np.flatnonzero(rows != row)
        np.testing.assert_array_equal(
            np.take(got, others, axis), np.take(values, others, axis), err_msg=name
        )
        moved += not np.array_equal(got, values)
    assert moved > 0


def test_the_start_is_evaluated_first_and_kept_when_nothing_betters_it(
    tuned, tiny_log, tiny_catalogue, runs
):
    still = replace(tuned, learning_rate=1e-30, patience=2)
    result = train(still, tiny_log, tiny_catalogue, runs / "still", progress=False)
    assert result.progress.best_step == 0
    lines = journal_of(runs / "still")
    assert lines[0]["step"] == 0
    assert lines[0]["validation_ndcg_at_10"] == pytest.approx(result.progress.best)
    start = read_weights(runs / "source" / BEST)
    for name, value in result.ranker.named_parameters():
        np.testing.assert_array_equal(value.numpy(), start[name], err_msg=name)


def test_watched_pages_are_told_of_at_every_evaluation(tuned, tiny_log, tiny_catalogue, runs):
    watched = {"source": tiny_log.pages_of("validation", "search")[:20]}
    config = replace(tuned, epochs=1)
    train(config, tiny_log, tiny_catalogue, runs / "watched", watched=watched, progress=False)
    lines = [line for line in journal_of(runs / "watched") if "validation_ndcg_at_10" in line]
    assert len(lines) >= 2
    assert all(line["source_cross_entropy"] > 0 for line in lines)
    assert all(0 <= line["source_ndcg_at_10"] <= 1 for line in lines)


def test_a_run_that_starts_from_another_keeps_its_scales_to_the_end(
    tiny_config, tiny_run, tiny_log, tmp_path
):
    shutil.copytree(tiny_run.folder, tmp_path / "start")
    names = json.loads((tmp_path / "start" / NAMES).read_text())
    for feature in names["schema"]["features"]:
        feature["mean"] += 1.0
    (tmp_path / "start" / NAMES).write_text(json.dumps(names))
    config = replace(
        tiny_config,
        start_from=str(tmp_path / "start"),
        surfaces=("search",),
        trees=False,
        epochs=1,
        evaluations_per_epoch=1,
        max_pages=16,
    )
    run = run_training(config, tiny_log, tmp_path, progress=False)
    means = [feature.mean for feature in tiny_log.schema.features]
    assert [feature.mean - 1 for feature in run.log.schema.features] == pytest.approx(means)
    written = json.loads((run.folder / NAMES).read_text())["schema"]
    assert written["features"] == names["schema"]["features"]


BALANCES = [("uncertainty", "categories"), ("pcgrad", "objectives")]


@pytest.mark.parametrize(("balance", "over"), BALANCES)
def test_stopped_while_frozen_or_after_and_resumed_equals_never_stopped(
    balance, over, tuned, tiny_log, tiny_catalogue, runs, monkeypatch
):
    config = replace(
        tuned, frozen_share=0.5, l2_sp=0.01, balance=balance, balance_over=over, epochs=4
    )
    whole = runs / f"whole-{balance}"
    train(config, tiny_log, tiny_catalogue, whole, progress=False)
    total = int(journal_of(whole)[-1]["step"])
    stopped = runs / f"stopped-{balance}"
    for step in (0, total // 4 + 1, total * 3 // 4 - total // 4):  # steps of each call
        with monkeypatch.context() as patch:
            stop_before_step(patch, step)
            with pytest.raises(StopError):
                train(config, tiny_log, tiny_catalogue, stopped, progress=False)
    train(config, tiny_log, tiny_catalogue, stopped, progress=False)
    assert_same_run(stopped, whole)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('train_only = "adapters"', "train_only: got adapters without start_from"),
        ("frozen_share = 0.5", "frozen_share: got 0.5 without start_from"),
        ("l2_sp = 0.1", "l2_sp: got 0.1 without start_from"),
        ('balance = "pcgrat"', "balance: got 'pcgrat', want one of fixed, uncertainty, pcgrad"),
        ('balance_over = "pages"', "balance_over: got 'pages', want one of objectives"),
        ('start_from = "x"\ntrain_only = "heads"', "train_only: got 'heads', want one of all"),
        ("affinity_pages = -1", "affinity_pages: got -1, want at least 0"),
    ],
)
def test_keys_of_transfer_that_contradict_themselves_are_refused(key, message, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(f"name = {json.dumps('x')}\nlog = 'log.toml'\n{key}\n")
    with pytest.raises(ConfigError, match=message):
        read_config(path)
