"""Runs that are stopped at a step, as a kill would, and what is then compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

import trainer.training.train
from trainer.encoding.batches import make_batch
from trainer.journal import LOG
from trainer.training.checkpoint import BEST, CHECKPOINT


def state_of(folder: Path):
    return paddle.load(str(folder / CHECKPOINT))


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, averages and moments agree to 1e-6, and so do progress and journal."""
    first, second = state_of(folder), state_of(other)
    assert first["progress"] == pytest.approx(second["progress"], abs=1e-6)
    for part in ("network", "average", "optimiser"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            if name == "LR_Scheduler":
                continue
            np.testing.assert_allclose(
                np.asarray(value), np.asarray(second[part][name]), atol=1e-6, err_msg=name
            )
    best, other_best = (paddle.load(str(path / BEST)) for path in (folder, other))
    for name, value in best.items():
        np.testing.assert_allclose(np.asarray(value), np.asarray(other_best[name]), atol=1e-6)
    lines, others = journal_of(folder), journal_of(other)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, twin in zip(lines, others, strict=True):
        assert line == pytest.approx(twin, abs=1e-5)


def journal_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


class StopError(Exception):
    """Ends a run at a step, as a kill would."""


def stop_before_step(monkeypatch, step: int):
    taken = 0

    def counting(*arguments, **options):
        nonlocal taken
        taken += 1
        if taken > step:
            raise StopError
        return make_batch(*arguments, **options)

    monkeypatch.setattr(trainer.training.train, "make_batch", counting)
