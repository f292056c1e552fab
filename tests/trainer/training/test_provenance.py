"""Where figures come from: the commit with its changes, and the hash of the code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trainer.training import provenance
from trainer.training.provenance import code_commit, code_hash, shown_path


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a repository of one module; `code_commit` and `code_hash` speak of it."""
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "gbdt.py").write_text("trees = 1\n")
    (tmp_path / "rerank_server").mkdir()
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "First"]):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def test_a_clean_tree_is_its_commit(repository):
    (repository / "README.md").write_text("what a benchmark writes is no change of the code")
    commit = code_commit()
    assert len(commit) == 40
    assert "+" not in commit


def test_changed_and_new_code_is_said(repository):
    commit = code_commit()
    (repository / "trainer" / "gbdt.py").write_text("trees = 2\n")
    assert code_commit() == f"{commit}+changes"
    (repository / "trainer" / "gbdt.py").write_text("trees = 1\n")
    (repository / "trainer" / "new.py").write_text("")
    assert code_commit() == f"{commit}+changes"


def test_outside_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert code_commit() == "unknown"


def test_the_hash_sees_code_and_no_comments(repository):
    first = code_hash(["gbdt"])
    (repository / "trainer" / "gbdt.py").write_text("# said otherwise\ntrees  =  1\n")
    assert code_hash(["gbdt"]) == first
    (repository / "trainer" / "gbdt.py").write_text("trees = 2\n")
    assert code_hash(["gbdt"]) != first
    (repository / "trainer" / "model").mkdir()
    (repository / "trainer" / "model" / "ranker.py").write_text("width = 1\n")
    before = code_hash(["model"])
    (repository / "trainer" / "model" / "ranker.py").write_text("width = 2\n")
    assert code_hash(["model"]) != before


def test_a_path_below_the_working_folder_is_shown_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "configs" / "run.toml") == "configs/run.toml"
    assert shown_path(Path("/elsewhere/run.toml")) == "/elsewhere/run.toml"
