from __future__ import annotations

from pathlib import Path

import pytest

import trainer
from trainer.config import TrainConfig, read_config, run_objectives
from trainer.errors import ConfigError
from trainer.logs.log_config import read_log_config

CONFIGS = sorted((Path(trainer.__path__[0]) / "configs").glob("*.toml"))
NEEDED = 'name = "run"\nlog = "log.toml"\n'


def config_of(tmp_path, text) -> TrainConfig:
    path = tmp_path / "run.toml"
    path.write_text(NEEDED + text, encoding="utf-8")
    return read_config(path)


def refusal(tmp_path, text) -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(tmp_path, text)
    return str(caught.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_committed_configuration_loads(path):
    if path.stem.endswith("_log"):
        read_log_config(path)
    else:
        config = read_config(path)
        read_log_config(path.parent / config.log)


def test_there_are_committed_configurations():
    assert {"tiny", "complete_journey", "complete_journey_log"} <= {path.stem for path in CONFIGS}


def test_values_take_the_declared_types(tmp_path):
    config = config_of(tmp_path, "hidden = [32, 16]\ndropout = 0\nobjective_weights = [1, 2, 3]\n")
    assert config.hidden == (32, 16)
    assert isinstance(config.dropout, float)
    assert config.objective_weights == (1.0, 2.0, 3.0)
    assert config.log == "log.toml"


def test_an_unknown_key_is_refused_and_the_nearest_is_named(tmp_path):
    message = refusal(tmp_path, "learning_rat = 0.1\n")
    assert "learning_rat: got an unknown key" in message
    assert "(nearest: learning_rate)" in message


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('epoch = 1\nwidth = "64"\nseed = 1.5\nrank = true\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    message = str(caught.value)
    for part in (
        "epoch: got an unknown key",
        "name: got nothing",
        "log: got nothing",
        "width: got '64', want int",
        "seed: got 1.5, want int",
        "rank: got True, want int",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hidden = 64", "hidden: got 64, want tuple"),
        ('hidden = ["64"]', "hidden: got ['64']"),
        ("surfaces = 'search'", "surfaces: got 'search'"),
        ("hidden = []", "hidden: got none"),
        ("surfaces = []", "surfaces: got none"),
        ("heads = 0", "heads: got 0, want at least 1"),
        ("heads = 3", "heads: got 3, want a divisor of width 64"),
        ("hidden = [128, 30]", "the last hidden width 30"),
        ("hidden = [0, 64]", "hidden: got 0, want at least 1"),
        ("pages_per_batch = 0", "pages_per_batch: got 0"),
        ("validation_pages = 0", "validation_pages: got 0"),
        ("patience = 0", "patience: got 0"),
        ("refit_days = 0", "refit_days: got 0"),
        ("max_pages = -1", "max_pages: got -1"),
        ("seed = -1", "seed: got -1, want 0 to"),
        ("dropout = 1.0", "dropout: got 1.0, want 0 to less than 1"),
        ("learning_rate = 0", "learning_rate: got 0.0, want a number above 0"),
        ("learning_rate = nan", "learning_rate: got nan"),
        ("weight_decay = inf", "weight_decay: got inf"),
        ("category_power = nan", "category_power: got nan"),
        ("objective_weights = [1.0]", "want one for each of the 3 objectives"),
        ('objectives = ["purchase", "purchase", "trial"]', "want each once"),
        ('surfaces = ["serch"]', "(nearest: search)"),
        ('gate = "mmo"', "gate: got 'mmo', want one of shared, mmoe, ple (nearest: mmoe)"),
        ("experts = 0", "experts: got 0, want at least 1"),
        ('adapter = "starr"', "adapter: got 'starr', want one of low_rank, star (nearest: star)"),
        ('sequence = "grru"', "sequence: got 'grru', want one of attention, gru, lstm, tran"),
        ('sequence = "grru"', "(nearest: gru)"),
        ('[[objective]]\nname = "a"\n[[objective]]\nname = "a"', "'a': got it twice"),
        ('[[objective]]\nname = "a"\nwait = 1', "wait: got an unknown key"),
        ('[[objective]]\nname = "a"\nwait = 1', "(nearest: weight)"),
        ('[[objective]]\nname = "a"\namong = "never bought"', "(nearest: never_bought)"),
        ('[[objective]]\nname = "a"\nweight = -1', "weight: got -1.0, want a number >= 0"),
        ('[[objective]]\nname = "a"\nspace = "whole"', "space: got 'whole' without given"),
        ('[[objective]]\nname = "a"\ngiven = "a"', "given: got 'a' itself"),
        ('[[objective]]\nname = "a"\ngiven = "b"', "given: got 'b', want one of"),
        ('[[objective]]\nname = "a"\nmetric = "ndcg"', "metric: got 'ndcg', want one of ndcg@K"),
        ('objectives = ["a"]\n[[objective]]\nname = "a"', "objectives: got it beside"),
    ],
)
def test_values_that_cannot_be_used_are_refused(tmp_path, text, part):
    assert part in refusal(tmp_path, text + "\n")


def test_a_name_that_leads_out_of_the_work_folder_is_refused(tmp_path):
    for name in ("../run", "a/b", "..", ""):
        path = tmp_path / "run.toml"
        path.write_text(f'name = "{name}"\nlog = "log.toml"\n', encoding="utf-8")
        with pytest.raises(ConfigError, match="want a name that a folder can have"):
            read_config(path)


def test_what_is_no_toml_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="got no file"):
        read_config(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="want a readable file"):
        read_config(tmp_path)
    path = tmp_path / "run.toml"
    path.write_bytes(b"name = ")
    with pytest.raises(ConfigError, match="want TOML"):
        read_config(path)
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="want TOML"):
        read_config(path)


def test_tables_of_objectives_say_what_the_lists_say_and_more(tmp_path):
    path = tmp_path / "run.toml"
    head = 'name = "x"\nlog = "log.toml"\n'
    path.write_text(
        head + '[[objective]]\nname = "click"\n[[objective]]\nname = "trial"\nweight = 2\n',
        encoding="utf-8",
    )
    config = read_config(path)
    assert config.objectives == ("click", "trial")
    assert config.objective_weights == (1.0, 2.0)
    assert [objective.among for objective in run_objectives(config)] == ["all", "never_bought"]
    path.write_text(head, encoding="utf-8")
    usual = run_objectives(read_config(path))
    assert [(o.name, o.weight, o.among) for o in usual] == [
        ("purchase", 1.0, "all"), ("trial", 0.5, "never_bought"), ("discount", 0.2, "all")
    ]  # fmt: skip
