"""`report`, `tune` and `ablate` from the command line, on the tiny log."""

from __future__ import annotations

import pytest

from tests.trainer.small_runs import PAGES, linked_work, write_small_config
from trainer.__main__ import main

pytestmark = pytest.mark.slow  # each part has fast tests of its own


@pytest.fixture(autouse=True)
def kernels_left_alone(monkeypatch):
    """The choice is left in the environment, where later tests would inherit it."""
    monkeypatch.setattr("trainer.__main__.prefer_fast_kernels", lambda _environment: None)


@pytest.fixture(scope="module")
def work(tiny_log, tmp_path_factory):
    return linked_work(tmp_path_factory.mktemp("commands-work"), tiny_log)


def test_a_plan_is_carried_out_and_told(work, tmp_path, capsys):
    write_small_config(tmp_path)
    plan = tmp_path / "parts.toml"
    plan.write_text(
        f'config = "small.toml"\ntrain_pages = {PAGES[0]}\nvalidation_pages = {PAGES[1]}\n'
        f"test_pages = {PAGES[2]}\n[changes.adapters]\nrank = 0\n[changes.numbers]\n"
        "number_bins = 0\n"
    )
    asked = ["ablate", "--plan", str(plan), "--work", str(work), "--only", "adapters"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "adapters" in out
    assert "numbers" not in out
    assert str(work / "ablation" / "parts.json") in out
    assert main([*asked, "--seeds", "0"]) == 1
    assert "seeds: got 0" in capsys.readouterr().err
    # the runs of an ablation are runs as any other
    assert main(["report", "small-full", "--work", str(work)]) == 0
    assert "`evaluate` does that" in capsys.readouterr().out
    assert main(["report", "small-full", "small-adapters", "--work", str(work)]) == 1
    assert "want a run that `evaluate` has compared" in capsys.readouterr().err
    assert main(["report", "nothing", "--work", str(work)]) == 1
    assert "small-full" in capsys.readouterr().err


def test_a_search_is_gone_on_with_and_another_one_refused(work, tmp_path, capsys):
    config = write_small_config(tmp_path)
    space = tmp_path / "space.toml"
    space.write_text("[space]\nlearning_rate = { low = 1e-3, high = 1e-2, log = true }\n")
    asked = ["tune", "--config", str(config), "--space", str(space), "--work", str(work)]
    asked += ["--study", "line", "--pages", *map(str, PAGES[:2]), "--trials"]
    assert main([*asked, "1"]) == 0
    assert main([*asked, "2"]) == 0
    out = capsys.readouterr().out
    assert "2 trials of 2" in out
    assert str(work / "tuning" / "line-network.toml") in out
    assert main(["tune", *asked[1:], "2", "--arm", "single"]) == 1
    assert "want --category with --arm single" in capsys.readouterr().err
    space.write_text("[space]\nlearning_rate = { low = 1e-3, high = 2e-2, log = true }\n")
    assert main([*asked, "3"]) == 1
    error = capsys.readouterr().err
    assert "space.learning_rate.high is 0.02, the study has 0.01" in error
    assert error.count("\n") == 1
