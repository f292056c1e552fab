"""Bundles: what is written is read, and nothing that was changed is served."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rerank_server.contract import bundle
from rerank_server.contract.bundle import (
    BUNDLE_FILES,
    read_bundle,
    write_bundle,
)
from rerank_server.contract.errors import BundleError
from rerank_server.contract.text import TextSettings
from rerank_server.contract.vocabulary import Vocabulary
from tests.rerank_server.tiny_bundle import SCHEMA, tiny_content, write_tiny_bundle


@pytest.fixture
def copy(tiny_folders, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_folders.bundle, tmp_path / "copy"))


def test_a_written_bundle_reads_back_equal(tmp_path):
    content = tiny_content()
    written = write_bundle(tmp_path / "bundle", content)
    read = read_bundle(tmp_path / "bundle")
    assert read.manifest == written.manifest
    assert read.schema == SCHEMA
    assert read.vocabulary == content.vocabulary
    assert read.graphs == content.graphs
    assert read.manifest.figures == {"search_ndcg_at_10": 0.5}
    for got, want in zip(read.golden.probabilities, content.golden.probabilities, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(read.golden.table.stats, content.golden.table.stats)
    np.testing.assert_array_equal(read.golden.table.gram, content.golden.table.gram)


def test_texts_with_brackets_survive_the_layout_of_the_file(tiny_folders):
    report = json.loads((tiny_folders.bundle / "report.json").read_text())
    assert report == {"note": "[\n 1 ] stays as it is"}


def test_the_same_content_gets_the_same_id_and_another_content_another(tmp_path):
    content = tiny_content()
    first = write_bundle(tmp_path / "a", content).manifest.bundle_id
    assert write_bundle(tmp_path / "b", content).manifest.bundle_id == first
    other = replace(content, figures={"search_ndcg_at_10": 0.6})
    assert write_bundle(tmp_path / "c", other).manifest.bundle_id != first


@pytest.mark.parametrize("name", [*BUNDLE_FILES, "manifest.json"])
@pytest.mark.parametrize("place", [0.0, 0.37, 0.99])
def test_one_changed_byte_is_refused(copy, name, place):
    path = copy / name
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"got .* want"):
        read_bundle(copy)


@pytest.mark.parametrize("name", [*BUNDLE_FILES, "manifest.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: got No such file"):
        read_bundle(copy)


def change_manifest(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(value))


def test_another_format_version_is_refused_before_anything_else(copy):
    change_manifest(copy, format_version=3, colour="red")
    with pytest.raises(BundleError, match=r"got format_version 3, want 1 or 2"):
        read_bundle(copy)


def test_a_bundle_of_version_1_has_no_vectors_and_short_texts_and_is_read(copy):
    path = copy / "manifest.json"
    value = json.loads(path.read_text()) | {"format_version": 1}
    del value["text"], value["schema"]["vectors"]
    value["bundle_id"] = bundle._bundle_id(value)
    path.write_bytes(bundle._json_bytes(value, "manifest"))
    read = read_bundle(copy)
    assert read.schema.vectors == ()
    assert read.manifest.text == TextSettings(max_tokens=64, special_tokens=False)


def test_an_unknown_manifest_key_is_refused(copy):
    change_manifest(copy, colour="red")
    with pytest.raises(BundleError, match=r"differs in \['colour'\]"):
        read_bundle(copy)


def test_a_changed_figure_does_not_fit_the_bundle_id(copy):
    change_manifest(copy, figures={"search_ndcg_at_10": 0.99})
    with pytest.raises(BundleError, match=r"got bundle_id .* the manifest was changed"):
        read_bundle(copy)


def test_a_manifest_that_is_not_an_object_is_refused(copy):
    (copy / "manifest.json").write_text("[]")
    with pytest.raises(BundleError, match="got a JSON list, want an object"):
        read_bundle(copy)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"manifest\.json: got No such file"):
        read_bundle(tmp_path / "nothing")


def test_weights_of_unknown_objectives_are_not_written(tmp_path):
    content = replace(tiny_content(), objective_weights={"search": {"purchase": 1.0}})
    with pytest.raises(BundleError, match="objective_weights: got surfaces"):
        write_bundle(tmp_path / "bundle", content)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"figures": {"ndcg": float("nan")}}, "manifest: got Out of range float values"),
        ({"figures": {"ndcg": "high"}}, r"figures\['ndcg'\]: got 'high', want a number"),
        ({"report": {"loss": float("inf")}}, "report: got Out of range .* null where a number"),
        ({"report": {"when": object()}}, "report: got Object of type object is not JSON"),
        (
            {"vocabulary": Vocabulary(levels=((),), attributes=((), ()), identities=())},
            "vocabulary levels: got 1 lists, want 2 as in the schema",
        ),
        ({"graphs": {"scorer.onnx": b""}}, r"graphs: got \['scorer.onnx'\], want"),
    ],
)
def test_parts_that_do_not_fit_are_not_written(tmp_path, changes, message):
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "bundle", replace(tiny_content(), **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(tmp_path, monkeypatch):
    old = write_tiny_bundle(tmp_path / "bundle")
    content = replace(tiny_content(), figures={"search_ndcg_at_10": 0.9})
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "scorer.onnx":
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match="got No space left on device, want room"):
        write_bundle(tmp_path / "bundle", content)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert read_bundle(tmp_path / "bundle").manifest == old.manifest


def test_writing_over_a_bundle_replaces_it_whole(tmp_path):
    write_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "left_over.txt").write_text("x")
    content = replace(tiny_content(), figures={"search_ndcg_at_10": 0.9})
    write_bundle(tmp_path / "bundle", content)
    assert read_bundle(tmp_path / "bundle").manifest.figures == {"search_ndcg_at_10": 0.9}
    assert not (tmp_path / "bundle" / "left_over.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
