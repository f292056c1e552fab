"""Tests of the README's measured table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.benchmark.results_table import BEGIN, END, results_markdown, write_into_readme
from trainer.errors import ConfigError

ROOT = Path(__file__).parents[3]


def _value(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high}


def _ranking(mean: float) -> dict[str, Any]:
    value = _value(mean, mean - 0.01, mean + 0.01)
    metrics = dict.fromkeys(("ndcg_at_10", "reciprocal_rank", "hit_at_1"), value)
    return {"metrics": metrics, "macro": value}


def _results() -> dict[str, Any]:
    difference = {
        "all": _value(0.02, 0.01, 0.03),
        "by_category": {
            "pet": _value(0.05, 0.01, 0.09),
            "baby": _value(-0.04, -0.06, -0.02),
            "deli": _value(0.0, -0.01, 0.01),
        },
    }
    task = {
        "scored_pages": 1200,
        "shoppers": 80,
        "candidates_per_page": 65.4,
        "candidate_recall": 0.885,
        "rankings": {"LightGBM": _ranking(0.55), "CrossRank": _ranking(0.57)},
        "differences": {"LightGBM": difference},
    }
    return {
        "command": "python -m trainer benchmark",
        "commit": "0123456789abcdef",
        "environment": {"machine": "x86_64, 2 cores"},
        "parameters": 4_000_000,
        "seeds": [1],
        "steps": [300],
        "parts": [],
        "budget": {"trials": 2},
        "calibration": [
            {
                "task": "Promotion",
                "category": "all",
                "objective": "purchase",
                "error_before": 0.02,
                "error_after": 0.001,
            }
        ],
        "evaluation": {"network": "CrossRank", "draws": 2000, "tasks": {"Search": task}},
    }


def test_the_best_ranking_comes_first_and_differences_carry_their_sign() -> None:
    lines = results_markdown(_results()).splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert rows[0].startswith("| **CrossRank** | .570 [.560, .580] |")
    assert rows[1].startswith("| LightGBM | .550 [.540, .560] |")
    assert rows[1].endswith("| +.020 [+.010, +.030] |")


def test_losses_are_named_beside_wins() -> None:
    text = results_markdown(_results())
    assert "ahead in 1 (pet), **behind in 1** (baby), undecided in the other 1" in text


def test_the_footnote_says_what_was_computed_by_other_code() -> None:
    results = _results()
    now, then = {"finished": "2026-02-03T04:05:06Z"}, {"finished": "2026-01-02T03:04:05Z"}
    results["commit"] += "+changes"
    results["parts"] = [
        {"name": "CrossRank, seed 1", "commit": results["commit"], **now},
        {"name": "LightGBM, Search", "commit": "fedcba9876543210", **then},
    ]
    text = results_markdown(results)
    assert "at commit `0123456789ab` with changes, x86_64" in text
    assert "Kept from earlier calls: LightGBM, Search (at `fedcba987654`, 2026-01-02)." in text
    assert "CrossRank, seed 1" not in text
    assert "Expected calibration error on Promotion: purchase 0.0200 before, 0.0010" in text


def test_only_what_stands_between_the_markers_changes(tmp_path: Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "results.json"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    results.write_text(json.dumps(_results()), encoding="utf-8")
    write_into_readme(readme, results)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text


def test_a_readme_without_markers_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing to replace", encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps(_results()), encoding="utf-8")
    with pytest.raises(ConfigError, match="got no markers"):
        write_into_readme(readme, tmp_path / "results.json")
    assert readme.read_text(encoding="utf-8") == "nothing to replace"


def test_the_readme_shows_the_committed_results() -> None:
    path = ROOT / "tests/benchmarks/results/complete-journey.json"
    expected = results_markdown(json.loads(path.read_text(encoding="utf-8")))
    assert expected in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_guard_is_told_where_there_is_one() -> None:
    results = _results()
    assert "Guard" not in results_markdown(results)
    results["guard_summary"] = ["1 of 2 is served by own trees.", "2 of 2 promises are kept."]
    assert (
        "**Guard.** 1 of 2 is served by own trees. 2 of 2 promises are kept."
        in results_markdown(results)
    )
