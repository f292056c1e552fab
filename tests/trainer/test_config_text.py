from __future__ import annotations

from dataclasses import replace

from trainer.config import TrainConfig, read_config
from trainer.config_text import config_to_toml, toml_value
from trainer.objectives import Objective


def test_what_is_written_is_read_back_as_it_was(tmp_path):
    config = TrainConfig(
        name='a "quoted" näme',
        log="../log.toml",
        hidden=(32, 16),
        learning_rate=1e-4,
        trees=True,
        left_out_modalities=("text",),
        objectives=("purchase",),
        objective_weights=(0.1 + 0.2,),
    )
    path = tmp_path / "run.toml"
    path.write_text(config_to_toml(config, ("of a trial",)), encoding="utf-8")
    assert read_config(path) == config
    assert path.read_text(encoding="utf-8").startswith("# of a trial\nname = ")


def test_settings_as_by_default_are_left_out():
    assert config_to_toml(TrainConfig("shop", "log.toml")) == 'name = "shop"\nlog = "log.toml"\n'


def test_objectives_of_their_own_are_written_as_tables(tmp_path):
    spend = Objective("discount", weight=0.5, given="purchase")
    config = replace(TrainConfig("shop", "log.toml"), objective=(Objective("purchase"), spend))
    path = tmp_path / "run.toml"
    path.write_text(config_to_toml(config), encoding="utf-8")
    assert read_config(path).objective == config.objective


def test_values_are_written_as_toml_has_them():
    assert toml_value([1, 2.5, True, "ä"]) == '[1, 2.5, true, "ä"]'
    assert toml_value({"low": 1e-5, "log": True}) == "{ low = 1e-05, log = true }"
    assert toml_value(float("inf")) == "inf"
