from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.conftest import TINY_CONFIG
from tests.trainer.stopped_runs import (
    StopError,
    assert_same_run,
    journal_of,
    state_of,
    stop_before_step,
)
from trainer.encoding.batches import make_batch
from trainer.errors import ConfigError, TrainingError
from trainer.journal import LOG
from trainer.training.checkpoint import BEST, CHECKPOINT
from trainer.training.network import build_ranker
from trainer.training.objective_losses import batch_losses
from trainer.training.run_pages import training_pages
from trainer.training.train import learning_rate, train
from trainer.training.validation import validate


@pytest.fixture(scope="module")
def config(tiny_config):
    """One epoch of 33 steps, evaluated after 16, 32 and 33."""
    return replace(tiny_config, epochs=1)


@pytest.fixture(scope="module")
def never_killed(config, tiny_log, tiny_catalogue, tmp_path_factory):
    folder = tmp_path_factory.mktemp("never-killed")
    return folder, train(config, tiny_log, tiny_catalogue, folder, progress=False)


@pytest.mark.parametrize("step", [3, 16, 25])
def test_stopped_and_resumed_equals_never_stopped(
    step, config, tiny_log, tiny_catalogue, tmp_path, never_killed, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_before_step(patch, step)
        with pytest.raises(StopError):
            train(config, tiny_log, tiny_catalogue, tmp_path, progress=False)
    result = train(config, tiny_log, tiny_catalogue, tmp_path, progress=False)
    assert_same_run(tmp_path, never_killed[0])
    assert result.progress == never_killed[1].progress


# as they were when the tests were collected: another choice rounds otherwise
KERNELS = os.environ.get("MKL_DEBUG_CPU_TYPE", "")

_RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from threadpoolctl import threadpool_limits
from trainer.encoding.catalogue import read_catalogue
from trainer.config import read_config
from trainer.encoding.dataset import read_prepared
from trainer.encoding.encoded import read_encoded
from trainer.training.train import train

config, prepared, encoded, folder = map(Path, sys.argv[1:])
with threadpool_limits(1, "blas"):
    log = read_encoded(read_prepared(prepared), encoded)
    catalogue = read_catalogue(log.prepared)
train(replace(read_config(config), epochs=1), log, catalogue, folder, progress=False)
"""


@pytest.mark.slow
def test_a_process_killed_in_mid_run_and_resumed_equals_one_never_killed(
    tiny_log, tiny_catalogue, config, tmp_path, never_killed
):
    command = [sys.executable, "-W", "ignore", "-c", _RUN, str(TINY_CONFIG)]
    command += [str(tiny_log.prepared.path), str(tiny_log.folder), str(tmp_path)]
    # the processor's fastest kernels round otherwise: both halves of the run take the same
    environment = {**os.environ, "MKL_DEBUG_CPU_TYPE": KERNELS}
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3], env=environment)
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / CHECKPOINT).exists():
            assert process.poll() is None, "the run ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert state_of(tmp_path)["progress"][0] < 33
    train(config, tiny_log, tiny_catalogue, tmp_path, progress=False)
    assert_same_run(tmp_path, never_killed[0])


def test_a_finished_run_is_read_back(config, tiny_log, tiny_catalogue, never_killed):
    folder, result = never_killed
    before = (folder / CHECKPOINT).read_bytes()
    again = train(config, tiny_log, tiny_catalogue, folder, progress=False)
    assert (folder / CHECKPOINT).read_bytes() == before
    assert again.progress == result.progress
    for one, other in zip(result.ranker.parameters(), again.ranker.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_network_returned_is_the_best_average(config, tiny_log, tiny_catalogue, never_killed):
    folder, result = never_killed
    best = paddle.load(str(folder / BEST))
    for name, parameter in result.ranker.named_parameters():
        np.testing.assert_array_equal(parameter.numpy(), np.asarray(best[name]))
    average = {name: np.asarray(value) for name, value in best.items()}
    figures = validate(config, result.ranker, average, tiny_catalogue, tiny_log)
    assert figures["validation_ndcg_at_10"] == pytest.approx(result.progress.best, abs=1e-6)


def test_training_beats_the_network_it_started_from(config, tiny_log, tiny_catalogue, never_killed):
    start = build_ranker(config, tiny_log, tiny_catalogue)
    weights = {name: value.numpy() for name, value in start.named_parameters()}
    figures = validate(config, start, weights, tiny_catalogue, tiny_log)
    assert never_killed[1].progress.best > figures["validation_ndcg_at_10"] + 0.02


def test_journal_lines_of_lost_steps_and_a_cut_line_go(
    config, tiny_log, tiny_catalogue, tmp_path, never_killed, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_before_step(patch, 20)
        with pytest.raises(StopError):
            train(config, tiny_log, tiny_catalogue, tmp_path, progress=False)
    assert journal_of(tmp_path)[-1]["step"] == 20  # four steps after the checkpoint
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 21, "lo')  # what a kill leaves of a buffered line
    train(config, tiny_log, tiny_catalogue, tmp_path, progress=False)
    steps = [line["step"] for line in journal_of(tmp_path) if "loss" in line]
    assert steps == list(range(1, 34))
    assert_same_run(tmp_path, never_killed[0])


def test_tensorboard_shows_each_step_of_a_resumed_run_once(
    config, tiny_log, tiny_catalogue, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_before_step(patch, 20)
        with pytest.raises(StopError):
            train(config, tiny_log, tiny_catalogue, tmp_path, progress=False)
    time.sleep(1.1)  # event files are ordered by the second they were opened in
    train(config, tiny_log, tiny_catalogue, tmp_path, progress=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert {"loss", "purchase_listwise", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 34))
    assert [event.step for event in events.Scalars("validation_ndcg_at_10")] == [16, 32, 33]


def test_training_stops_early_when_nothing_gets_better(config, tiny_log, tiny_catalogue, tmp_path):
    still = replace(config, epochs=5, learning_rate=1e-30, patience=2)
    result = train(still, tiny_log, tiny_catalogue, tmp_path, progress=False)
    # the first evaluation is the best; two more are not better
    assert (result.progress.step, result.progress.best_step) == (48, 16)
    assert result.progress.since_best == 2


def test_nan_in_the_data_stops_with_the_batch_and_its_page_named(
    config, tiny_log, tiny_catalogue, tmp_path
):
    page = next(
        page
        for page in tiny_log.pages_of("train", "search")
        if tiny_log.sequence_rows[page, 0] >= 0
    )
    features = np.array(tiny_log.sequence_features)
    features[page, 0, 0] = np.nan
    broken = replace(tiny_log, sequence_features=features)
    with pytest.raises(TrainingError) as caught:
        train(config, broken, tiny_catalogue, tmp_path, progress=False)
    message = str(caught.value)
    assert f"not finite in it: sequence_features of pages [{page}]" in message
    assert f"of {tiny_log.folder.name}" in message
    named = (
        message.split("the batch held pages ")[1].split("]", maxsplit=1)[0].strip("[").split(", ")
    )
    assert str(page) in named
    assert len(named) <= config.pages_per_batch


def test_weights_that_run_away_stop_the_run_and_leave_no_checkpoint(
    config, tiny_log, tiny_catalogue, tmp_path
):
    wild = replace(config, learning_rate=1e30)
    with pytest.raises(TrainingError, match="nothing, so try a lower learning_rate"):
        train(wild, tiny_log, tiny_catalogue, tmp_path, progress=False)
    assert not (tmp_path / CHECKPOINT).exists()


def test_objectives_other_than_the_logs_are_refused(config, tiny_log, tiny_catalogue, tmp_path):
    turned = replace(config, objectives=("trial", "purchase", "discount"))
    with pytest.raises(ConfigError, match="objectives: got trial, purchase, discount"):
        train(turned, tiny_log, tiny_catalogue, tmp_path, progress=False)


@pytest.mark.parametrize(("split", "what"), [(1, "training"), (0, "validation")])
def test_a_split_without_a_positive_is_refused(
    split, what, config, tiny_log, tiny_catalogue, tmp_path
):
    other = replace(tiny_log, splits=np.full_like(tiny_log.splits, split))
    with pytest.raises(TrainingError, match=f"pages: got 0 {what} pages"):
        train(config, other, tiny_catalogue, tmp_path, progress=False)


def test_the_rate_rises_then_falls_along_half_a_cosine(config):
    rates = [learning_rate(replace(config, learning_rate=1.0), step, 100) for step in range(101)]
    np.testing.assert_allclose(rates[:6], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0], atol=1e-9)
    # half way down, between the peak and a twentieth of it
    assert learning_rate(replace(config, learning_rate=1.0), 5, 10) == pytest.approx(
        0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * 4 / 9))
    )
    assert rates[100] == pytest.approx(0.05)
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_the_latest_pages_are_kept(config, tiny_log):
    pages = training_pages(replace(config, max_pages=10), tiny_log)
    for surface in config.surfaces:
        every = tiny_log.pages_of("train", surface)
        assert set(every[-10:].tolist()) <= set(pages.tolist())
    assert pages.size == 30


def test_the_loss_weighs_its_parts_and_trial_takes_what_was_never_bought(config, tiny_log):
    batch = make_batch(tiny_log, training_pages(config, tiny_log)[:8])
    logits = np.random.default_rng(0).normal(size=batch.labels.shape).astype(np.float32)
    got = batch_losses(config, paddle.to_tensor(logits), batch)
    total = 0.0
    for index, (name, weight) in enumerate(
        zip(config.objectives, config.objective_weights, strict=True)
    ):
        inside = batch.counted[:, :, index] > 0
        listwise, pointwise = [], []
        for page in range(8):
            z = logits[page, inside[page], index].astype(np.float64)
            y = batch.labels[page, inside[page], index]
            pointwise += np.log1p(np.exp(np.where(y > 0, -z, z))).tolist()
            if y.sum():
                listwise.append(-((z - np.log(np.exp(z).sum()))[y > 0]).mean())
        mean = np.mean(listwise) if listwise else 0.0
        assert float(got[f"{name}_listwise"]) == pytest.approx(mean, abs=1e-5)
        assert float(got[f"{name}_pointwise"]) == pytest.approx(np.mean(pointwise), abs=1e-5)
        total += weight * (mean + config.pointwise_weight * np.mean(pointwise))
    assert float(got["loss"]) == pytest.approx(total, abs=1e-4)


def test_validation_leaves_the_weights_alone(config, tiny_log, tiny_catalogue, tiny_ranker):
    before = [parameter.numpy() for parameter in tiny_ranker.parameters()]
    average = {name: value.numpy() * 0 for name, value in tiny_ranker.named_parameters()}
    figures = validate(config, tiny_ranker, average, tiny_catalogue, tiny_log)
    for old, parameter in zip(before, tiny_ranker.parameters(), strict=True):
        np.testing.assert_array_equal(old, parameter.numpy())
    parts = [figures[f"validation_{surface}_ndcg_at_10"] for surface in config.surfaces]
    assert figures["validation_ndcg_at_10"] == pytest.approx(np.mean(parts))
