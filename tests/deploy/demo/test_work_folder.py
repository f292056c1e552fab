"""The work folder: refused with a reason, used by one demo at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo import work_folder
from deploy.demo.errors import WorkFolderError
from deploy.demo.work_folder import Finished, WorkFolder, opened_work_folder

ROOT = Path(__file__).parents[3]


def test_a_missing_folder_is_made(tmp_path):
    with opened_work_folder(tmp_path / "a" / "b") as work:
        assert work.path.is_dir()
        assert work.bundle == tmp_path / "a" / "b" / "bundle"


def test_a_file_in_its_place_is_an_error(tmp_path):
    (tmp_path / "work").write_text("mine")
    with (
        pytest.raises(WorkFolderError, match="got File exists, want a folder that can be written"),
        opened_work_folder(tmp_path / "work"),
    ):
        pass
    assert (tmp_path / "work").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_an_error():
    with (
        pytest.raises(WorkFolderError, match=r"/proc/self/work: got .*want a folder that can be"),
        opened_work_folder(Path("/proc/self/work")),
    ):
        pass


def test_a_second_demo_is_told_who_has_the_folder(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from deploy.demo.work_folder import opened_work_folder\n"
        "with opened_work_folder(Path(sys.argv[1])): pass"
    )
    with opened_work_folder(tmp_path):
        second = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
    assert second.returncode == 1
    assert f"got one that process {os.getpid()} is using" in second.stderr
    with opened_work_folder(tmp_path):
        pass  # free again


def test_too_little_room_is_an_error_that_says_how_much(tmp_path, monkeypatch):
    monkeypatch.setattr(work_folder, "ROOM_BYTES", 2**70)
    with pytest.raises(WorkFolderError, match=r"got [\d.]+ GiB free, want 1099511627776"):
        WorkFolder(tmp_path).require_room()


def test_finished_is_read_back_and_anything_else_counts_as_nothing(tmp_path):
    work = WorkFolder(tmp_path)
    assert work.finished() is None
    finished = Finished(key="k", run="runs/demo-1", bundle_id="b" * 64, day=17_483)
    work.set_finished(finished)
    assert work.finished() == finished
    for broken in ("", "{", "[]", '{"key": "k"}', '{"unknown": 1}'):
        (tmp_path / "finished.json").write_text(broken)
        assert work.finished() is None
