"""Runs of a second on some pages of the tiny log, for the tests of commands over runs."""

from __future__ import annotations

from pathlib import Path

from tests.trainer.conftest import TINY_CONFIG
from trainer.encoding.encoded import EncodedLog

TINY_LOG = (TINY_CONFIG.parent / "../../tests/trainer/data/complete_journey_tiny").resolve()
# what an ablation or a search may see of each surface
PAGES = (48, 30, 40)


def write_small_config(folder: Path, more: str = "") -> Path:
    """Write the configuration of a small run and return its path."""
    path = folder / "small.toml"
    path.write_text(
        f'name = "small"\nlog = "{TINY_LOG / "log.toml"}"\n'
        'objectives = ["purchase"]\nobjective_weights = [1.0]\n'
        "width = 8\nhidden = [8]\nrank = 1\nheads = 2\nnumber_bins = 2\npages_per_batch = 16\n"
        f"epochs = 1\nevaluations_per_epoch = 2\nrefit_days = 56\nlearning_rate = 5e-3\n{more}",
        encoding="utf-8",
    )
    return path


def linked_work(folder: Path, log: EncodedLog) -> Path:
    """Return a work folder that has a log prepared and encoded, and room for what is learned."""
    for path in (log.folder, log.prepared.path):
        (folder / path.name).symlink_to(path)
    return folder
