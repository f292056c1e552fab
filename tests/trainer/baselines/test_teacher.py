"""Tests of the trees as a teacher, and of what their targets do to a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.trainer.synthetic_pages import synthetic_pages
from trainer.baselines.gbdt import GbdtBudget
from trainer.baselines.teacher import fit_sharpness, teacher_logits
from trainer.baselines.trees import surface_trees
from trainer.encoding.batches import make_batch, rows_of
from trainer.evaluation.metrics import ndcg_at_k


def test_sharpness_undoes_a_change_of_scale() -> None:
    pages = synthetic_pages(300)
    gains = pages.objective("purchase")
    scores = pages.feature("own_count")
    sharpness = fit_sharpness(gains, scores, pages)
    assert np.isclose(fit_sharpness(gains, scores / 4, pages), 4 * sharpness, rtol=1e-2)


def test_scores_that_say_nothing_get_the_softest_softmax() -> None:
    pages = synthetic_pages(300)
    noise = np.random.default_rng(3).normal(size=pages.candidates)
    assert fit_sharpness(pages.objective("purchase"), noise, pages) < 0.2


def test_the_teacher_speaks_of_training_pages_alone_and_ranks_them(
    tiny_config, tiny_log, tmp_path: Path
) -> None:
    config = replace(tiny_config, teacher_share=0.5)
    logits = teacher_logits(config, tiny_log, tmp_path)
    train = np.concatenate([tiny_log.pages_of("train", name) for name in config.surfaces])
    other = np.setdiff1d(np.arange(tiny_log.offsets.size - 1), train)
    assert np.isnan(logits[rows_of(tiny_log, other)]).all()
    pages = tiny_log.pages_of("train", "search")
    rows = rows_of(tiny_log, pages)
    assert np.isfinite(logits[rows]).all()
    offsets = np.concatenate([[0], np.cumsum(np.diff(tiny_log.offsets)[pages])])
    gains = tiny_log.labels[rows, 0].astype(np.float64)
    taught = np.nanmean(ndcg_at_k(gains, logits[rows], offsets, 10))
    retrieval = np.nanmean(ndcg_at_k(gains, -np.arange(rows.size, dtype=float), offsets, 10))
    assert taught > retrieval
    again = teacher_logits(config, tiny_log, tmp_path)
    assert np.array_equal(again, logits, equal_nan=True)


def test_trees_are_trained_once_for_all_who_ask(tiny_log) -> None:
    budget = GbdtBudget(rounds=5, threads=1)
    first = surface_trees(tiny_log, "search", budget)
    assert first.trials
    second = surface_trees(tiny_log, "search", budget)
    assert not second.trials  # read back, not trained
    assert second.booster.num_trees() == first.booster.num_trees()


def test_targets_mix_labels_with_the_teachers_softmax(tiny_log) -> None:
    positive = np.add.reduceat(tiny_log.labels[:, 0].astype(int), tiny_log.offsets[:-1]) > 0
    pages = np.flatnonzero(positive & (np.diff(tiny_log.offsets) >= 3))[:2]
    teacher = np.full(int(tiny_log.offsets[-1]), np.nan, np.float32)
    rows = np.arange(tiny_log.offsets[pages[0]], tiny_log.offsets[pages[0] + 1])
    teacher[rows] = np.log(np.arange(1, rows.size + 1))
    plain = make_batch(tiny_log, pages)
    mixed = make_batch(tiny_log, pages, teacher=teacher, teacher_share=0.25)
    softmax = np.arange(1, rows.size + 1) / np.arange(1, rows.size + 1).sum()
    expected = 0.75 * plain.targets[0, : rows.size] + 0.25 * softmax
    assert np.allclose(mixed.targets[0, : rows.size], expected, atol=1e-6)
    assert np.allclose(mixed.targets.sum(axis=1), 1.0, atol=1e-6)
    # the second page has no teacher and keeps its labels
    assert np.array_equal(mixed.targets[1], plain.targets[1])
