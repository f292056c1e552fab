"""A folder of a known format becomes one table of rankings, from the command line to the README."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.formats.folders import write_interactions, write_pairs, write_ratings
from trainer.__main__ import main
from trainer.errors import ConfigError
from trainer.learning.cost import measured
from trainer.learning.tables import (
    BEGIN,
    END,
    learning_markdown,
    learning_summary,
    write_learning_section,
)

# where shoppers go round and round, everything that knows their past knows what comes next
RINGS = [
    word
    for name in (
        "own_count",
        "knn_all",
        "knn_own_category",
        "knn_after",
        "knn_after_own_category",
        "knn_of_last",
        "walk",
        "walk_own_category",
    )
    for word in ("--allow-leaks", name)
]
SMALL = ["--epochs", "1", "--trials", "1", "--alone", "1", "--pages", "40", "12", "16"]
MOST_MIB = 100_000


@pytest.fixture(autouse=True)
def kernels_left_alone(monkeypatch):
    """The choice is left in the environment, where later tests would inherit it."""
    monkeypatch.setattr("trainer.__main__.prefer_fast_kernels", lambda _environment: None)


def test_a_folder_with_categories_never_seen_gets_the_whole_table(tmp_path: Path, capsys) -> None:
    folder, out = tmp_path / "shop", tmp_path / "out"
    folder.mkdir()
    write_ratings(folder)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    given = ["--path", str(folder), "--work", str(tmp_path / "work"), "--out", str(out), *SMALL]
    given += RINGS
    assert main(["benchmark", *given, "--readme", str(readme)]) == 0
    told = capsys.readouterr().out
    assert "time split" in told
    assert "network, shared minus LightGBM on Home" in told
    entry = json.loads((out / "learning.json").read_text(encoding="utf-8"))["data_sets"]["shop"]
    tasks = entry["evaluation"]["tasks"]
    alone = "Home, categories also learned alone"
    assert set(tasks) == {"Home", alone}
    assert {"CrossRank", "network, shared", "LightGBM", "popularity", "item-kNN"} < set(
        tasks["Home"]["rankings"]
    )
    assert {"network, single category", "LightGBM, single category"} < set(tasks[alone]["rankings"])
    assert set(tasks["Home"]["category_pages"]) == {"kites", "lanterns"}
    assert entry["costs"]["LightGBM"]["seconds"] >= 0
    assert 0 < entry["costs"]["network, shared"]["peak_mib"] < MOST_MIB
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "- shop: time split" in text
    tables = (out / "learning.md").read_text(encoding="utf-8")
    assert "## shop" in tables
    assert "| sequential item-kNN |" in tables
    assert "- crowdflower: Kaggle" in text
    assert {choice["serves"] for choice in entry["guard"]} <= {
        *tasks["Home"]["rankings"], "the sum of all"
    }  # fmt: skip
    assert all("validation pages" in choice["reason"] for choice in entry["guard"])
    assert {"before", "after"} == set(entry["calibration"]["all"])
    check_page(out / "learning.html")

    # the same command again reads every part back, and keeps what other folders gave
    assert main(["benchmark", *given]) == 0
    again = json.loads((out / "learning.json").read_text(encoding="utf-8"))["data_sets"]["shop"]
    assert again["evaluation"] == entry["evaluation"]
    assert [part["finished"] for part in again["parts"]] == [
        part["finished"] for part in entry["parts"]
    ]


def check_page(path: Path) -> None:
    """The page stands alone, names what was ranked and draws it."""
    page = path.read_text(encoding="utf-8")
    assert "<h2>shop</h2>" in page
    assert "What the guard chose, and why" in page
    assert page.count("<svg") >= 3
    assert "src=" not in page
    assert "http" not in page


def test_a_category_is_learned_from_few_pages_with_the_others_and_alone(
    tmp_path: Path, capsys
) -> None:
    folder, out = tmp_path / "shop", tmp_path / "out"
    folder.mkdir()
    write_pairs(folder, queries=60, wrong=0.3)
    given = ["--path", str(folder), "--work", str(tmp_path / "work"), "--out", str(out)]
    few = ["--few-shot", "4,all", "--few-shot-targets", "1", "--kappa-runs", "1"]
    assert main(["benchmark", *given, *SMALL, "--steps", "8", *few]) == 0
    assert "CrossRank" in capsys.readouterr().out
    entry = json.loads((out / "learning.json").read_text(encoding="utf-8"))["data_sets"]["shop"]
    (curve,) = entry["curves"]
    assert curve["rule"] in {"BM25", "kNN of word vectors", "popularity"}
    counts = [point["pages"] for point in curve["points"]]
    assert counts[:2] == [0, 4]
    assert len(counts) == 3
    assert 10 < counts[2] < 30  # all that a fold does not test
    first, _, last = curve["points"]
    assert first["difference"] is None
    assert "CrossRank, alone" not in first["figures"]
    assert {"CrossRank, alone", "LightGBM, alone", "network, with the others"} < set(
        last["figures"]
    )
    assert last["whole"]
    assert last["to_all_alone"] == last["difference"]
    assert "Quadratic weighted kappa" in (out / "learning.html").read_text(encoding="utf-8")


def test_a_loss_stays_in_the_tables_and_in_the_summary() -> None:
    results = {"format_version": 1, "data_sets": {"shop": losing_entry()}}
    summary = learning_summary(results)
    assert "- shop: folds. **CrossRank is behind LightGBM (-.100 [-.200, -.050]).**" in summary
    assert "above 0 on 0 of 1 tables" in summary
    text = learning_markdown(results)
    assert "**CrossRank is behind LightGBM (-.100 [-.200, -.050]).**" in text
    assert "**Behind LightGBM in kites.**" in text
    assert "| shop | .500 | .600 | .400 (BM25) | -.100 [-.200, -.050] |" in text
    assert "above 0 on 0 of 1 tables, and behind it with an interval below 0 on 1" in text
    assert (
        "| LightGBM | .600 [.500, .700] | .600 | .900 | -.100 [-.200, -.050] | 2 s | 9 MiB |"
        in (text)
    )


def losing_entry() -> dict[str, object]:
    def figure(mean: float, low: float, high: float) -> dict[str, float]:
        return {"mean": mean, "low": low, "high": high}

    def ranking(mean: float) -> dict[str, object]:
        interval = figure(mean, mean - 0.1, mean + 0.1)
        return {
            "metrics": {"ndcg_at_10": interval, "hit_at_10": figure(0.9, 0.8, 1.0)},
            "macro": interval,
        }

    loss = figure(-0.1, -0.2, -0.05)
    return {
        "format": "pairs",
        "protocol": "folds",
        "facts": {"queries": 3},
        "commit": "0" * 40,
        "command": "python -m trainer benchmark --path shop",
        "environment": {"machine": "a machine"},
        "seeds": [1],
        "limits": {"full": False},
        "network_differences": {"Search": {"LightGBM": loss}},
        "budget": {"trials": 2},
        "costs": {"LightGBM": {"seconds": 2.0, "peak_mib": 9.0}},
        "evaluation": {
            "network": "CrossRank",
            "tasks": {
                "Search": {
                    "scored_pages": 3,
                    "candidates_per_page": 4.0,
                    "expected_random": 0.3,
                    "rankings": {
                        "CrossRank": ranking(0.5),
                        "LightGBM": ranking(0.6),
                        "BM25": ranking(0.4),
                    },
                    "differences": {
                        "LightGBM": {"all": loss, "by_category": {"kites": loss}},
                        "BM25": {"all": figure(0.1, 0.05, 0.2), "by_category": {}},
                    },
                }
            },
        },
    }


def test_a_readme_without_markers_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing", encoding="utf-8")
    with pytest.raises(ConfigError, match="got no markers"):
        write_learning_section(readme, tmp_path / "learning.json")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--format", "rating"], "got 'rating', want one of ratings"),
        (["--format", "pairs"], "want a table of pairs"),
        (["--seeds", "0"], "seeds: got 0, want 1 or more"),
        (["--few-shot", "ten"], "few-shot: got 'ten', want numbers"),
        (["--allow-leaks", "knn"], "allow-leaks: got 'knn', want one of"),
    ],
)
def test_a_wrong_call_is_told_on_one_line(
    extra: list[str], message: str, tmp_path: Path, capsys
) -> None:
    write_interactions(tmp_path)
    assert main(["benchmark", "--path", str(tmp_path), "--work", str(tmp_path), *extra]) == 1
    assert message in capsys.readouterr().err


def test_data_sets_that_are_not_there_say_how_to_obtain_them(tmp_path: Path, capsys) -> None:
    assert main(["benchmark", "--all-in", str(tmp_path), "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.count("skipped, not in") == 7
    assert "icecat: skipped" in told


def test_pairs_without_a_positive_in_a_split_are_refused(tmp_path: Path, capsys) -> None:
    write_pairs(tmp_path, queries=6)
    path = tmp_path / "train.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1].split(",")[0]
    parts = [line.split(",") for line in lines[1:]]
    only = [",".join(part if part[0] == first else [*part[:2], "0", *part[3:]]) for part in parts]
    path.write_text("\n".join([lines[0], *only]) + "\n", encoding="utf-8")
    given = ["--path", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    assert main(["benchmark", *given]) == 1
    assert "none with a positive, want at least one" in capsys.readouterr().err


def test_a_cost_sees_memory_that_was_held() -> None:
    with measured() as something:
        held = np.ones(400 * 2**17)  # 400 MiB, more than a process has lying about
    assert held.all()
    del held
    with measured() as nothing:
        pass
    assert something.peak_mib > nothing.peak_mib + 200
    assert something.seconds >= 0
