from __future__ import annotations

import pytest

from deploy.demo.errors import IndexBuildError
from deploy.demo.retrieval.tantivy_index import TantivyIndex
from tests.deploy.demo.retrieval.small_catalogue import random_catalogue, small_catalogue


def open_index(folder, catalogue=None):
    return TantivyIndex.open(folder, catalogue or small_catalogue(), show_progress=False)


def whole_index(folder):
    (found,) = folder.glob("catalogue-*")
    return found


def answers(index):
    return index.search("milk", place=None, limit=10, own=()).ids == (
        "skim",
        "bar",
        "whole",
        "twin",
        "oat",
    )


def test_an_index_of_an_equal_catalogue_is_reused(tmp_path):
    open_index(tmp_path)
    built = whole_index(tmp_path).stat().st_ino
    assert answers(open_index(tmp_path))
    assert whole_index(tmp_path).stat().st_ino == built


def test_an_index_of_another_catalogue_is_replaced(tmp_path):
    open_index(tmp_path, random_catalogue(3))
    other = whole_index(tmp_path)
    assert answers(open_index(tmp_path))
    assert not other.exists()


def test_what_a_killed_build_left_is_removed(tmp_path):
    left = tmp_path / "incomplete-killed"
    left.mkdir()
    (left / "meta.json").write_text("{")
    assert answers(open_index(tmp_path))
    assert not left.exists()


@pytest.mark.parametrize("damage", ["truncate", "remove", "no manifest"])
def test_a_damaged_index_is_built_again(tmp_path, damage):
    open_index(tmp_path)
    folder = whole_index(tmp_path)
    largest = max(folder.glob("*.*"), key=lambda path: path.stat().st_size)
    if damage == "truncate":
        largest.write_bytes(largest.read_bytes()[:-1])
    elif damage == "remove":
        largest.unlink()
    else:
        (folder / "files.json").unlink()
    assert answers(open_index(tmp_path))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(IndexBuildError, match="want a folder with room to write"):
        open_index(blocked)
