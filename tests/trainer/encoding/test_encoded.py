from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import trainer.encoding.encoded
from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.encoding.encoded import cutoff_days, encode, with_objectives
from trainer.errors import ConfigError

SURFACES = ("search", "discovery", "promotion")


def test_a_second_call_reads_what_the_first_wrote(tiny_log, tiny_config):
    written = {path: path.stat().st_mtime_ns for path in tiny_log.folder.iterdir()}
    again = encode(
        tiny_log.prepared, tuple(reversed(tiny_config.surfaces)), tiny_config.refit_days,
        tiny_log.folder.parent,
    )  # fmt: skip
    assert again.folder == tiny_log.folder
    assert {path: path.stat().st_mtime_ns for path in again.folder.iterdir()} == written
    np.testing.assert_array_equal(again.dense, tiny_log.dense)


def test_the_folder_is_named_by_all_that_its_content_depends_on(tiny_log, monkeypatch, tmp_path):
    written = []

    def write(prepared, surfaces, refit_days, folder):
        written.append(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.encoding.encoded, "_write", write)
    for surfaces, days in ((SURFACES, 56), (SURFACES, 28), (("search",), 56)):
        with pytest.raises(KeyboardInterrupt):
            encode(tiny_log.prepared, surfaces, days, tmp_path)
    assert len({folder.name.split(".")[1] for folder in written}) == 3
    assert list(tmp_path.iterdir()) == []  # nothing half-written stays


def test_what_a_killed_call_left_is_cleared_away_by_the_next(tiny_log, tiny_config, monkeypatch):
    name = tiny_log.folder.name
    work = tiny_log.folder.parent
    left = work / f".{name}x.999999999-abc.new"
    left.mkdir()
    (left / "dense.npy").write_bytes(b"half")
    monkeypatch.setattr(trainer.encoding.encoded, "_write", lambda *_: None)
    monkeypatch.setattr(trainer.encoding.encoded, "read_encoded", lambda _, folder: folder)
    monkeypatch.setattr(trainer.encoding.encoded, "ENCODING_VERSION", -1)
    other: Any = encode(tiny_log.prepared, SURFACES, tiny_config.refit_days, work)
    other.rmdir()
    twin = work / f".{other.name}.999999999-abc.new"
    left.rename(twin)
    again: Any = encode(tiny_log.prepared, SURFACES, tiny_config.refit_days, work)
    again.rmdir()
    assert not twin.exists()


def test_arrays_fit_each_other(tiny_log):
    log = tiny_log
    pages, rows = log.selection.pages.size, int(log.offsets[-1])
    assert log.dense.shape == (rows, len(log.schema.features))
    assert log.dense.dtype == np.float32
    assert log.labels.shape == (rows, len(log.schema.objectives))
    assert log.rows.shape == log.categories.shape == (rows,)
    assert log.splits.shape == (pages,)
    assert log.sequence_rows.shape == (pages, log.schema.sequence_length)
    padded = log.sequence_rows < 0
    assert (np.diff(padded.astype(np.int8), axis=1) >= 0).all()  # padding comes last
    assert not np.isinf(log.dense).any()


def test_splits_follow_time(tiny_log):
    times = tiny_log.prepared.page_times[tiny_log.selection.pages]
    latest = [times[tiny_log.splits == split].max() for split in (0, 1)]
    earliest = [times[tiny_log.splits == split].min() for split in (1, 2)]
    assert latest[0] < earliest[0]
    assert latest[1] < earliest[1]
    train = tiny_log.pages_of("train", "search")
    assert (tiny_log.splits[train] == 0).all()


def test_scales_come_from_training_pages_only(tiny_log):
    rows = np.repeat(tiny_log.splits == 0, np.diff(tiny_log.offsets))
    index = tiny_log.schema.feature_names.index("price_leaf_ratio")
    column = tiny_log.dense[rows, index].astype(np.float64)
    spec = tiny_log.schema.features[index]
    assert spec.mean == pytest.approx(np.nanmean(column), abs=1e-9)
    assert spec.scale == pytest.approx(np.nanstd(column), abs=1e-9)


def test_fits_start_with_the_first_page_and_recur(tiny_log):
    first = int(tiny_log.prepared.page_times.min()) // SECONDS_PER_DAY
    days = cutoff_days(tiny_log.prepared, 50)
    assert days[0] == first
    assert set(np.diff(days)) == {50}


def test_objectives_are_chosen_and_ordered_by_name(tiny_log):
    log = with_objectives(tiny_log, ("trial", "purchase"))
    assert log.schema.objectives == ("trial", "purchase")
    np.testing.assert_array_equal(log.labels, tiny_log.labels[:, [1, 0]])


def test_an_objective_that_the_log_does_not_have_is_refused(tiny_log):
    with pytest.raises(ConfigError, match=r"objectives: got 'purchases'.*nearest: purchase"):
        with_objectives(tiny_log, ("purchases",))


def test_the_schema_lies_beside_the_arrays(tiny_log):
    value = json.loads((tiny_log.folder / "schema.json").read_text(encoding="utf-8"))
    assert value["objectives"] == ["purchase", "trial", "discount"]
