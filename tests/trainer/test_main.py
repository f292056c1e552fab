"""The trainer's command line: each command on a tiny log, and what goes wrong in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank_server.contract.bundle import read_bundle
from trainer.__main__ import main

TINY = Path(__file__).parent / "data" / "complete_journey_tiny" / "log.toml"


@pytest.fixture(autouse=True)
def kernels_left_alone(monkeypatch):
    """The choice is left in the environment, where later tests would inherit it."""
    monkeypatch.setattr("trainer.__main__.prefer_fast_kernels", lambda _environment: None)


def write_config(folder: Path, more: str = "") -> Path:
    config = folder / "run.toml"
    config.write_text(
        f'name = "tiny"\nlog = "{TINY}"\nwidth = 16\nhidden = [16]\nrank = 1\nheads = 2\n'
        f"epochs = 1\n{more}"
    )
    return config


def test_an_unknown_command_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["trian"])
    assert caught.value.code == 2
    assert "trian" in capsys.readouterr().err


def test_a_missing_configuration_is_one_line(tmp_path, capsys):
    assert main(["prepare", "--config", str(tmp_path / "no.toml"), "--work", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("trainer: config: got no file")
    assert error.count("\n") == 1


def test_an_unknown_key_offers_the_nearest_one(tmp_path, capsys):
    config = write_config(tmp_path, "epoch = 3\n")
    assert main(["train", "--config", str(config), "--work", str(tmp_path / "work")]) == 1
    assert "(nearest: epochs)" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_work_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    config = write_config(tmp_path)
    (tmp_path / "work").write_text("a file")
    assert main(["prepare", "--config", str(config), "--work", str(tmp_path / "work")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"trainer: {tmp_path / 'work'}")
    assert "want a folder with room to write" in error


@pytest.mark.slow
def test_the_commands_lead_to_a_bundle(tmp_path, capsys):
    given = ["--config", str(write_config(tmp_path)), "--work", str(tmp_path / "work")]
    for command in ("prepare", "train", "evaluate", "export"):
        assert main([command, *given]) == 0
    out = capsys.readouterr().out
    assert "best validation NDCG@10" in out
    assert "LightGBM" in out
    (report,) = (tmp_path / "work" / "runs").glob("*/report.html")
    assert f"report: {report}" in out
    bundle = read_bundle(tmp_path / "work" / "bundle")
    assert bundle.manifest.bundle_id[:12] in out
    assert "Search_ndcg_at_10" in bundle.manifest.figures
