from __future__ import annotations

import json

import numpy as np
import pytest

from tests.trainer.log_files_for_tests import write_log
from trainer.encoding.dataset import FILES, NAMES, read_prepared
from trainer.errors import PreparedError
from trainer.logs.prepare import prepare


@pytest.fixture
def folder(tmp_path):
    return prepare(write_log(tmp_path), tmp_path / "out", progress=False)


def test_columns_are_memory_mapped_and_of_the_stated_type(folder):
    prepared = read_prepared(folder)
    assert all(isinstance(getattr(prepared, name), np.memmap) for name in FILES)
    assert prepared.page_times.dtype == np.int64
    assert prepared.page_surfaces.dtype == np.int8
    assert prepared.candidate_rows.dtype == np.int32
    assert prepared.candidate_scores.dtype == np.float32
    assert prepared.candidate_signals.dtype == np.float32
    assert prepared.candidate_labels.dtype == np.uint8
    assert prepared.size == len(prepared.products())


def test_products_are_sorted_by_id(folder):
    ids = [record["id"] for record in read_prepared(folder).products()]
    assert ids == sorted(ids)


def test_an_unknown_split_is_refused_and_the_nearest_is_named(folder):
    with pytest.raises(PreparedError, match="nearest: validation"):
        read_prepared(folder).pages_of("valid")


@pytest.mark.parametrize("name", [*FILES.values()])
def test_a_missing_array_is_refused(folder, name):
    (folder / f"{name}.npy").unlink()
    with pytest.raises(PreparedError, match=rf"got no {name}\.npy"):
        read_prepared(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_list_is_refused(folder, name):
    (folder / f"{name}.json").unlink()
    with pytest.raises(PreparedError, match=rf"got no {name}\.json"):
        read_prepared(folder)


def test_a_truncated_array_is_refused(folder):
    path = folder / "candidates_row.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(PreparedError, match="no whole numpy array"):
        read_prepared(folder)


def test_another_format_version_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(PreparedError, match="got 99, want 1"):
        read_prepared(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(PreparedError, match=r"got no manifest\.json"):
        read_prepared(tmp_path)
