"""Two real processes that train one network, and the sums that they stand for, in one process."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest

from tests.trainer.shared_training import DEFAULT, train_variants, variants
from tests.trainer.stopped_runs import journal_of, state_of
from trainer.encoding.batches import Share, make_batch
from trainer.errors import ConfigError
from trainer.journal import LOG
from trainer.training.checkpoint import BEST, CHECKPOINT, read_weights
from trainer.training.distributed import ALONE, Team, joined_team
from trainer.training.network import build_ranker, page_batch, score_pages
from trainer.training.objective_losses import batch_losses
from trainer.training.processes import run_together
from trainer.training.run_pages import training_pages
from trainer.training.train import train
from trainer.training.validation import set_weights

# as they were when the tests were collected: another choice rounds otherwise
KERNELS = os.environ.get("MKL_DEBUG_CPU_TYPE", "")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def alone(tiny_log, tiny_catalogue, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train_variants(tiny_log, tiny_catalogue, folder, ALONE)
    return folder


@pytest.fixture(scope="module")
def together(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-W", "ignore", "-m", "tests.trainer.shared_training"]
    command += [str(tiny_log.prepared.path), str(tiny_log.folder), str(folder)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "MKL_DEBUG_CPU_TYPE": KERNELS, "PYTHONPATH": path}
    assert run_together(command, 2, environment) == 0
    return folder


@pytest.mark.parametrize("name", variants())
def test_two_processes_learn_along_the_curve_of_one_with_the_same_batches(name, alone, together):
    first, second = (state_of(folder / name)["progress"] for folder in (together, alone))
    assert first == pytest.approx(second, abs=1e-5)
    assert first[0] >= 3
    lines, twins = journal_of(together / name), journal_of(alone / name)
    assert [line["step"] for line in lines] == [line["step"] for line in twins]
    for line, other in zip(lines, twins, strict=True):
        assert line == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in variants() if name != DEFAULT])
def test_two_processes_reach_the_weights_of_one(name, alone, together):
    first, second = state_of(together / name), state_of(alone / name)
    for part in ("network", "average", "optimiser", "balance"):
        assert first.get(part, {}).keys() == second.get(part, {}).keys()
        for key, value in first.get(part, {}).items():
            if key != "LR_Scheduler":
                twin = np.asarray(second[part][key])
                np.testing.assert_allclose(np.asarray(value), twin, atol=1e-5, err_msg=key)
    for key, value in read_weights(together / name / BEST).items():
        np.testing.assert_allclose(value, read_weights(alone / name / BEST)[key], atol=1e-5)


def test_by_default_a_few_numbers_that_no_gradient_moves_are_where_rounding_left_them(
    alone, together, tiny_log, tiny_catalogue
):
    """And no score shows it."""
    weights = [read_weights(folder / DEFAULT / BEST) for folder in (together, alone)]
    apart = [np.abs(value - weights[1][key]).ravel() for key, value in weights[0].items()]
    assert (np.concatenate(apart) > 1e-5).mean() < 0.005
    ranker = build_ranker(variants()[DEFAULT], tiny_log, tiny_catalogue)
    pages = tiny_log.pages_of("test", "search")[:40]
    scores = []
    for one in weights:
        set_weights(ranker, one)
        scores.append(score_pages(ranker, tiny_catalogue, tiny_log, pages))
    assert scores[1].std() > 0.1
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_one_process_writes(together, alone):
    for name in variants():
        found = {path.name for path in (together / name).iterdir()}
        assert found == {path.name for path in (alone / name).iterdir()}
        assert {CHECKPOINT, BEST, LOG} <= found
        assert len(list((together / name / "tensorboard").iterdir())) == 1


def test_what_two_trained_one_reads_back(tiny_log, tiny_catalogue, together):
    folder = together / "fixed"
    checkpoint, lines = (folder / CHECKPOINT).read_bytes(), journal_of(folder)
    again = train(variants()["fixed"], tiny_log, tiny_catalogue, folder, progress=False)
    assert [again.progress.step, again.progress.best] == state_of(folder)["progress"][:2]
    assert (folder / CHECKPOINT).read_bytes() == checkpoint  # no step was taken
    assert journal_of(folder) == lines


def test_more_processes_than_pages_are_refused(tiny_log, tiny_catalogue, tmp_path):
    few = replace(variants()["fixed"], pages_per_batch=2)
    team = Team(Share(0, 3))
    with pytest.raises(ConfigError, match="processes: got 3 for batches of 2 pages"):
        train(few, tiny_log, tiny_catalogue, tmp_path, progress=False, team=team)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [2, 3, 6])
def test_parts_of_losses_and_gradients_add_up_to_those_of_the_whole_batch(
    count, tiny_config, tiny_log, tiny_catalogue
):
    """With draws of dropout and of candidates; the last of six processes has no page of its own."""
    ranker = build_ranker(tiny_config, tiny_log, tiny_catalogue)
    pages = training_pages(tiny_config, tiny_log)[[3, 90, 200, 310, 400]]
    whole = _step(tiny_config, ranker, tiny_log, tiny_catalogue, pages, Share(), None)
    counts = whole[2]
    parts = [
        _step(tiny_config, ranker, tiny_log, tiny_catalogue, pages, Share(number, count), counts)
        for number in range(count)
    ]
    for name, value in whole[0].items():
        assert sum(part[0][name] for part in parts) == pytest.approx(value, abs=1e-5)
    for name, gradient in whole[1].items():
        added = np.sum([part[1][name] for part in parts], axis=0)
        np.testing.assert_allclose(added, gradient, atol=1e-5, err_msg=name)


def _step(config, ranker, log, catalogue, pages, share, counts):
    """Return losses, gradients and what the losses were divided by, before it was replaced."""
    paddle.seed(11)
    ranker.train()
    random = np.random.default_rng(5)
    batch = make_batch(log, pages, most=6, random=random, share=share)
    logits = ranker.scorer(page_batch(ranker, catalogue, batch))
    heard: list[paddle.Tensor] = []

    def count(own):
        heard.append(own)
        return own if counts is None else counts[len(heard) - 1]

    losses = batch_losses(config, logits, batch, count)
    losses["loss"].backward()
    gradients = {
        name: value.grad.numpy().copy()
        for name, value in ranker.named_parameters()
        if value.grad is not None
    }
    ranker.clear_gradients()
    return {name: float(value) for name, value in losses.items()}, gradients, heard


def test_a_process_alone_takes_everything_and_waits_for_none():
    team = joined_team({})
    assert (team, team.alone, team.leads) == (ALONE, True, True)
    with team.lead_first():
        team.meet()
    assert team.told_by_lead([1.5, -math.inf]) == [1.5, -math.inf]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PADDLE_TRAINERS_NUM": "two"}, "PADDLE_TRAINERS_NUM: got 'two'"),
        ({"PADDLE_TRAINERS_NUM": "2"}, "PADDLE_TRAINER_ID: got '', want 0 to 1"),
        (
            {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "2"},
            "PADDLE_TRAINER_ID: got '2', want 0 to 1",
        ),
        (
            {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "0", "PADDLE_MASTER": "here"},
            "PADDLE_MASTER: got 'here', want HOST:PORT",
        ),
    ],
)
def test_a_place_that_cannot_be_is_refused(variables, message):
    with pytest.raises(ConfigError, match=message):
        joined_team(dict(variables))
