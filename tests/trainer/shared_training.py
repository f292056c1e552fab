"""Runs of a few steps that one process and several are to train alike; `__main__` is a process.

`python -m tests.trainer.shared_training PREPARED ENCODED FOLDER` trains all of them, as one of the
processes that the variables of Paddle's launcher tell of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import paddle
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tests.trainer.conftest import TINY_CONFIG
from trainer.config import TrainConfig, read_config
from trainer.encoding.catalogue import Catalogue, read_catalogue
from trainer.encoding.dataset import read_prepared
from trainer.encoding.encoded import EncodedLog, read_encoded
from trainer.training.distributed import Team, joined_team
from trainer.training.train import train

# As it is trained by default, Adam's steps included.
DEFAULT = "default"
# Batches of 7 pages of 64 each, the last of 1, so that shares differ and one process has none.
_PAGES = {"pages_per_batch": 7, "max_pages": 64, "surfaces": ("search",), "epochs": 1}


def variants() -> Mapping[str, TrainConfig]:
    """Return runs that between them have all that a batch's pages share, in order."""
    base = replace(read_config(TINY_CONFIG), trees=False, **_PAGES)  # type: ignore[arg-type]
    assert base.dropout > 0
    assert base.modality_dropout > 0
    return {
        DEFAULT: base,
        "fixed": replace(base, candidates_per_page=8),
        "uncertainty": replace(
            base, balance="uncertainty", balance_over="categories", sequence="transformer"
        ),
        "projected": replace(base, balance="pcgrad", gate="mmoe", category_power=0.5),
        "categories": replace(
            base, balance="pcgrad", balance_over="categories", max_pages=21, teacher_share=0.3
        ),
        "started": replace(
            base, start_from="fixed", frozen_share=0.5, l2_sp=0.01, candidates_per_page=8
        ),
    }


def train_variants(log: EncodedLog, catalogue: Catalogue, folder: Path, team: Team) -> None:
    """Train each into its folder below `folder`, all but the default one in steady steps."""
    for name, config in variants().items():
        if name == DEFAULT:
            train(config, log, catalogue, folder / name, progress=False, team=team)
            continue
        with _steady_steps():
            train(config, log, catalogue, folder / name, progress=False, team=team)


@contextmanager
def _steady_steps() -> Iterator[None]:
    """Let AdamW leave alone what no gradient moves.

    It divides a gradient by its own size. One that is zero but for rounding, as that of a bias of
    attention's keys, moves its number as far as others do, in another direction whenever sums
    are rounded otherwise. A larger epsilon keeps such a number where it is.
    """
    usual = paddle.optimizer.AdamW
    paddle.optimizer.AdamW = partial(usual, epsilon=1e-3)  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        paddle.optimizer.AdamW = usual  # type: ignore[misc]


def main(prepared: Path, encoded: Path, folder: Path) -> None:
    """Train as one of several."""
    with threadpool_limits(1, "blas"):
        log = read_encoded(read_prepared(prepared), encoded)
        catalogue = read_catalogue(log.prepared)
    train_variants(log, catalogue, folder, joined_team(os.environ))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
