from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.encoding.streamed_pages import chosen_columns, give_back
from trainer.training.checkpoint import BEST, read_weights
from trainer.training.train import train


def is_mapped(array: np.ndarray) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def test_every_column_of_rows_is_mapped_and_holds_what_the_log_says(tiny_log):
    prepared, chosen = tiny_log.prepared, tiny_log.selection.candidates
    rows = prepared.candidate_rows[chosen]
    np.testing.assert_array_equal(tiny_log.rows, rows)
    np.testing.assert_array_equal(tiny_log.labels, prepared.candidate_labels[chosen])
    np.testing.assert_array_equal(tiny_log.categories, prepared.product_categories[rows])
    for name in ("dense", "labels", "rows", "categories", "sequence_rows", "sequence_features"):
        assert is_mapped(getattr(tiny_log, name)), name


def test_objectives_that_are_neighbours_are_not_copied(tiny_log):
    both = chosen_columns(tiny_log.labels, [0, 1])
    assert is_mapped(both)
    np.testing.assert_array_equal(both, tiny_log.labels[:, :2])
    turned = chosen_columns(tiny_log.labels, [1, 0])
    np.testing.assert_array_equal(turned, tiny_log.labels[:, [1, 0]])


def test_what_was_read_is_given_back_and_reads_the_same_again(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(4_000_000))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert mapped.sum() == 4_000_000 * 3_999_999 // 2
    held = resident_file_kib()
    give_back(mapped[5:])  # a view is of the same file
    assert held - resident_file_kib() > 20_000
    assert mapped[1_234_567] == 1_234_567
    give_back(np.arange(3))  # nothing of a file, nothing to do


def resident_file_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if "RssFile" in line).split()[1])


@pytest.fixture(scope="module")
def few_steps(tiny_config):
    return replace(tiny_config, max_pages=40, epochs=1, evaluations_per_epoch=1,
                   validation_pages=40, trees=False)  # fmt: skip


def test_training_from_files_equals_training_from_memory_bit_for_bit(
    few_steps, tiny_log, tiny_catalogue, tmp_path
):
    columns = ("dense", "labels", "rows", "categories", "sequence_rows", "sequence_features")
    in_memory = replace(
        tiny_log, **{name: np.array(getattr(tiny_log, name), copy=True) for name in columns}
    )
    assert not any(is_mapped(getattr(in_memory, name)) for name in columns)
    for name, log in (("files", tiny_log), ("memory", in_memory)):
        train(few_steps, log, tiny_catalogue, tmp_path / name, progress=False)
    streamed, held = (read_weights(tmp_path / name / BEST) for name in ("files", "memory"))
    assert streamed.keys() == held.keys()
    for name, weights in streamed.items():
        np.testing.assert_array_equal(weights, held[name], err_msg=name)
