"""`crossrank benchmark` hands a folder to the trainer, and tells its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank_server.commands.root import main
from tests.trainer.formats.folders import write_interactions


@pytest.fixture(autouse=True)
def kernels_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is left in the environment, where later tests would inherit it."""
    monkeypatch.setattr("trainer.__main__.prefer_fast_kernels", lambda _environment: None)


def test_a_folder_is_ranked_and_its_page_written(tmp_path: Path, capsys) -> None:
    folder, out = tmp_path / "shop", tmp_path / "out"
    folder.mkdir()
    write_interactions(folder)
    given = ["--path", str(folder), "--work", str(tmp_path / "work"), "--out", str(out)]
    small = ["--epochs", "1", "--trials", "1", "--alone", "1", "--pages", "30", "12", "12"]
    # where shoppers go round and round, everything that knows their past knows what comes next
    neighbours = ("knn_all", "knn_own_category", "knn_after", "knn_after_own_category")
    walks = ("knn_of_last", "walk", "walk_own_category")
    allowed = [word for name in (*neighbours, *walks) for word in ("--allow-leaks", name)]
    assert main(["benchmark", *given, *small, *allowed]) == 0
    assert "leave last out" in capsys.readouterr().out
    assert (out / "learning.json").exists()
    assert (out / "learning.html").exists()


def test_a_folder_of_another_format_is_an_error_on_one_line(tmp_path: Path, capsys) -> None:
    write_interactions(tmp_path)
    assert main(["benchmark", "--path", str(tmp_path), "--format", "pairs"]) == 1
    assert "want a table of pairs" in capsys.readouterr().err
