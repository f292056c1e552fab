"""The command line of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.demo.errors import DemoSettingsError, PortError
from deploy.demo.settings import DemoSettings, read_settings
from trainer.config import read_config
from trainer.logs.log_config import read_log_config


def test_nothing_given_means_the_defaults():
    assert read_settings([]) == DemoSettings()


def test_every_flag_is_read():
    given = "--elasticsearch http://x:9200 --port 0 --work w --no-serve --sample 7 --config c.toml"
    assert read_settings(given.split()) == DemoSettings(
        elasticsearch="http://x:9200",
        port=0,
        work=Path("w"),
        serve=False,
        sample=7,
        config=Path("c.toml"),
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--port 65536", r"--port: got 65536, want 0 to 65535"),
        ("--port -1", r"--port: got -1, want 0 to 65535"),
        ("--sample 0", r"--sample: got 0, want 1 or more"),
    ],
)
def test_a_value_out_of_range_is_an_error(flags, message):
    with pytest.raises((DemoSettingsError, PortError), match=message):
        read_settings(flags.split())


def test_the_demos_own_configuration_is_one_that_the_trainer_reads():
    config = read_config(DemoSettings().config)
    log = read_log_config(DemoSettings().config.parent / config.log)
    assert log.adapter == "complete_journey"
    assert sum(log.search_pages) < 30_000  # ten minutes on two cores
