from __future__ import annotations

import optuna
import pytest

from trainer.baselines.gbdt import sample_settings
from trainer.commands.run_options import PLANS
from trainer.config import read_config
from trainer.errors import ConfigError
from trainer.studies.search_space import (
    Choices,
    Range,
    SearchSpaceError,
    as_parameters,
    draw,
    drawn_from,
    read_spaces,
    space_to_json,
)

SPACE = """
[space]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
rank = { low = 0, high = 4 }
dropout = { low = 0.0, high = 0.4, step = 0.1 }
hidden = { choices = [[16], [32, 16]] }

[trees]
num_leaves = { choices = [7, 15] }
"""


def written(folder, text):
    path = folder / "space.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def spaces(tmp_path):
    return read_spaces(written(tmp_path, SPACE))


def test_what_is_drawn_lies_in_its_range_and_has_its_kind(spaces):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        drawn = draw(spaces.network, trial)
        assert 1e-4 <= drawn["learning_rate"] <= 1e-2
        assert isinstance(drawn["rank"], int)
        assert 0 <= drawn["rank"] <= 4
        assert round(drawn["dropout"] * 10) == pytest.approx(drawn["dropout"] * 10)
        assert drawn["hidden"] in ([16], [32, 16])
        assert drawn_from(spaces.network, trial.params) == drawn
        study.tell(trial, 0.0)


def test_a_study_keeps_lists_as_json(spaces):
    values = {"learning_rate": 1e-3, "rank": 2, "dropout": 0.3, "hidden": [32, 16]}
    parameters = as_parameters(spaces.network, values)
    assert parameters == {**values, "hidden": "[32, 16]"}
    assert drawn_from(spaces.network, parameters) == values


@pytest.mark.parametrize(
    "outside", [{"rank": 5}, {"rank": 1.5}, {"hidden": [64]}, {"dropout": 0.25}, {"rank": True}]
)
def test_values_that_could_not_be_drawn_are_no_parameters(spaces, outside):
    inside = {"learning_rate": 1e-3, "rank": 2, "dropout": 0.3, "hidden": [16]}
    assert as_parameters(spaces.network, {**inside, **outside}) is None
    assert as_parameters(spaces.network, {k: v for k, v in inside.items() if k != "rank"}) is None


def test_a_space_is_told_apart_by_plain_values(spaces):
    assert space_to_json(spaces.network)["rank"] == {"low": 0, "high": 4, "log": False}
    assert space_to_json(spaces.trees) == {"num_leaves": {"choices": [7, 15]}}
    assert spaces.network["rank"] == Range(0, 4)
    assert spaces.trees["num_leaves"] == Choices((7, 15))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("learning_rat = { low = 1, high = 2 }", r"learning_rat: .*nearest: learning_rate"),
        ("seed = { low = 1, high = 2 }", "seed: got a key that trials cannot choose"),
        ("rank = 3", "rank: got 3, want { low"),
        ("rank = { low = 3 }", "rank: got low, want"),
        ("rank = { low = 3, high = 3 }", "want low below high"),
        ("dropout = { low = 0.0, high = 1.0, log = true }", "low: got 0.0 with log"),
        ("dropout = { low = 0.1, high = 0.4, step = 0.5 }", "step: got 0.5"),
        ("rank = { low = 1, high = 4, step = 0.5 }", "want a whole one"),
        ('rank = { low = "1", high = 4 }', "want numbers"),
        ("hidden = { choices = [] }", "want a list of at least one"),
        ("hidden = { choices = [[1], [1]] }", "want each once"),
    ],
)
def test_an_entry_that_cannot_be_searched_is_named(tmp_path, entry, said):
    with pytest.raises(SearchSpaceError, match=said):
        read_spaces(written(tmp_path, f"[space]\n{entry}\n"))


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    text = "[space]\nrank = 3\n[trees]\nleaves = { low = 1, high = 2 }\n[spice]\n"
    with pytest.raises(SearchSpaceError) as caught:
        read_spaces(written(tmp_path, text))
    for part in ("space.rank", "trees.leaves", "spice", "nearest: space"):
        assert part in str(caught.value)


def test_the_space_that_is_shipped_holds_the_settings_that_are_shipped():
    spaces = read_spaces(PLANS / "search_space.toml")
    config = read_config(PLANS.parent / "complete_journey.toml")
    present = {
        key: list(value) if isinstance(value, tuple) else value
        for key in spaces.network
        for value in [getattr(config, key)]
    }
    assert as_parameters(spaces.network, present) is not None
    assert as_parameters(spaces.trees, sample_settings(1, 0)[0]) is not None


def test_a_space_without_keys_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(SearchSpaceError, match="got no table with keys"):
        read_spaces(written(tmp_path, ""))
    with pytest.raises(ConfigError, match="got no file"):
        read_spaces(tmp_path / "no.toml")
