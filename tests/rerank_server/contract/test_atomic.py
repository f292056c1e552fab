"""Folders that appear complete or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rerank_server.contract.atomic import atomic_folder

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from rerank_server.contract.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "made" / "here"
    with atomic_folder(target) as folder:
        (folder / "file").write_text("text")
        assert not target.exists()
    assert (target / "file").read_text() == "text"
    assert [path.name for path in target.parent.iterdir()] == ["here"]


def write_and_fail(target: Path) -> None:
    with atomic_folder(target) as folder:
        (folder / "new").write_text("new")
        raise ValueError("stop")


def test_an_error_leaves_what_was_there(tmp_path):
    target = tmp_path / "here"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(ValueError, match="stop"):
        write_and_fail(target)
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "old"]


def test_a_killed_writer_is_cleaned_up_by_the_next(tmp_path):
    target = tmp_path / "here"
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1  # the half-written sibling
    with atomic_folder(target) as folder:
        (folder / "whole").write_text("whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "whole"]


def test_the_old_folder_comes_back_when_a_writer_died_between_the_renames(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = tmp_path / f".here.{gone.pid}-abc.old"
    old.mkdir()
    (old / "file").write_text("old")
    target = tmp_path / "here"
    with pytest.raises(ValueError, match="stop"):
        write_and_fail(target)
    assert (target / "file").read_text() == "old"
