"""The benchmark on a tiny log: every ranking, the results file, the README's table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.conftest import TINY_CONFIG
from trainer.benchmark.benchmark import SINGLE, SINGLE_TREES, run_benchmark
from trainer.benchmark.parts import ITEM_KNN, BenchmarkBudget
from trainer.benchmark.results_table import BEGIN, END, write_into_readme
from trainer.evaluation.comparison import NETWORK, TREES


@pytest.mark.slow
def test_a_benchmark_writes_what_the_readme_shows(tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "results"
    budget = BenchmarkBudget(seeds=1, trials=1)
    evaluation = run_benchmark(TINY_CONFIG, work, out, budget, progress=False)
    assert {"Search", "Discovery", "Promotion", "Promotion, never bought"} <= set(evaluation.tasks)
    search = evaluation.tasks["Search"]
    assert {NETWORK, TREES, SINGLE_TREES, ITEM_KNN, "own repeat"} <= set(search.rankings)
    assert ITEM_KNN in evaluation.tasks["Promotion, never bought"].rankings
    assert SINGLE in evaluation.tasks["Search, small categories"].rankings
    network = search.rankings[NETWORK].metrics["ndcg_at_10"]
    assert network.mean > search.rankings["random"].metrics["ndcg_at_10"].mean
    results = json.loads((out / "tiny.json").read_text(encoding="utf-8"))
    written = results["evaluation"]["tasks"]["Search"]["rankings"][NETWORK]["metrics"]["ndcg_at_10"]
    assert np.isclose(written["mean"], network.mean)
    assert results["seeds"] == [1]
    assert "--config trainer/configs/tiny.toml" in results["command"]
    assert {row["task"] for row in results["calibration"]} == {"Search", "Discovery", "Promotion"}
    assert results["guard"][0]["choices"][0]["choice"]
    assert any(promise["task"] == "Search" for promise in results["guard_promises"])
    assert "single-category model" in results["guard_summary"][1]
    parts = {part["name"]: part for part in results["parts"]}
    assert {"CrossRank, seed 1", "LightGBM, Promotion, never bought"} < set(parts)
    assert any(name.endswith(" alone") for name in parts)

    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    write_into_readme(readme, out / "tiny.json")
    assert f"{network.mean:.3f}".lstrip("0") in readme.read_text(encoding="utf-8")

    # a second call trains nothing: it reads what the first has left
    again = run_benchmark(TINY_CONFIG, work, out, budget, progress=False)
    assert again.tasks["Search"].rankings[NETWORK].metrics["ndcg_at_10"] == network
    told = json.loads((out / "tiny.json").read_text(encoding="utf-8"))["parts"]
    assert {part["name"]: part for part in told} == parts
