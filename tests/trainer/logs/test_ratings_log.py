"""A shop with ratings alone: its home pages are trained on, judged and measured like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.trainer.log_files_for_tests import CONFIG, DAY, START, write_log
from trainer.__main__ import main

RUN = """
name = "ratings"
log = "log.toml"
surfaces = ["home"]
objectives = ["purchase", "trial"]
objective_weights = [1.0, 0.5]
width = 16
hidden = [16]
rank = 1
heads = 2
number_bins = 4
pages_per_batch = 16
epochs = 1
evaluations_per_epoch = 1
"""


@pytest.fixture(autouse=True)
def kernels_left_alone(monkeypatch):
    """The choice is left in the environment, where later tests would inherit it."""
    monkeypatch.setattr("trainer.__main__.prefer_fast_kernels", lambda _environment: None)


def ratings() -> pl.DataFrame:
    """Return two ratings a day of 20 shoppers: books or toys, which they like by turns."""
    random = np.random.default_rng(0)
    rows = []
    for shopper in range(20):
        for day in range(30):
            for _ in range(2):
                item = int(random.integers(12)) * 2 + (shopper + random.integers(4) // 3) % 2
                category = "toys" if item % 2 else "books"
                time = START + day * DAY + 3_600 * (shopper % 12) + int(random.integers(3_000))
                rows.append(
                    {"user": f"u{shopper}", "item": f"p{item}", "time": time, "category": category}
                )
    return pl.DataFrame(rows)


@pytest.mark.slow
def test_home_pages_are_evaluated_and_measured(tmp_path: Path, capsys) -> None:
    write_log(tmp_path, ratings(), CONFIG)
    config = tmp_path / "run.toml"
    config.write_text(RUN, encoding="utf-8")
    work, out = tmp_path / "work", tmp_path / "results"
    given = ["--config", str(config), "--work", str(work)]
    assert main(["prepare", *given]) == 0
    told = capsys.readouterr().out
    assert "interactions" in told
    assert "rows in   1,200" in told

    assert main(["evaluate", *given]) == 0
    told = capsys.readouterr().out
    assert "Home: " in told
    assert "Calibration on Home" in told
    for ranking in ("CrossRank", "LightGBM", "popularity", "ALS"):
        assert f"\n{ranking} " in told

    assert main(["benchmark", *given, "--out", str(out), "--trials", "1"]) == 0
    results = json.loads((out / "ratings.json").read_text(encoding="utf-8"))
    assert set(results["evaluation"]["tasks"]) == {"Home", "Home, never bought"}
    assert {row["task"] for row in results["calibration"]} == {"Home"}
    assert {row["objective"] for row in results["calibration"]} == {"purchase", "trial"}
    names = [part["name"] for part in results["parts"]]
    assert names == [
        "CrossRank, seed 1",
        "item-kNN, Home",
        "LightGBM, Home",
        "LightGBM, Home, never bought",
    ]
