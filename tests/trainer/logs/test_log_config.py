from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import LogConfigError
from trainer.logs.log_config import parse_log_config, read_log_config

CONFIGS = sorted(Path("trainer/configs").glob("*_log.toml"))


def values(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "adapter": "tables",
        "interactions_file": "ratings.tsv",
        "train_from": datetime(2017, 1, 1, tzinfo=UTC),
        "validation_from": datetime(2017, 2, 1, tzinfo=UTC),
        "test_from": datetime(2017, 3, 1, tzinfo=UTC),
    }
    return base | changes


def test_the_committed_configurations_are_found():
    assert {path.name for path in CONFIGS} >= {"complete_journey_log.toml", "ratings_log.toml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_committed_configuration_can_be_read(path):
    assert read_log_config(path).split_times[0] > 0


def test_split_times_are_unix_seconds():
    config = parse_log_config(values())
    assert config.split_times == (1_483_228_800, 1_485_907_200, 1_488_326_400)


def test_an_unknown_key_is_refused_and_the_nearest_known_one_is_named():
    with pytest.raises(LogConfigError, match=r"interactions_shoper.*nearest: interactions_shopper"):
        parse_log_config(values(interactions_shoper="user"))


def test_all_findings_are_named_at_once():
    with pytest.raises(LogConfigError) as caught:
        parse_log_config(values(sead=1, decay_days="long"))
    assert "sead" in str(caught.value)
    assert "decay_days" in str(caught.value)


def test_a_missing_key_is_refused():
    incomplete = values()
    del incomplete["test_from"]
    with pytest.raises(LogConfigError, match="test_from: got no value"):
        parse_log_config(incomplete)


def test_a_wrong_time_format_is_refused_and_the_nearest_is_named():
    with pytest.raises(LogConfigError, match=r"'second'.*nearest: seconds"):
        parse_log_config(values(time_format="second"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"products_text": "title"}, "products_text"),
        ({"search_pages": [1, 2]}, "three counts"),
        ({"home_pages": [1, 2, -3]}, "three counts"),
        ({"decay_days": 0}, "decay_days"),
        ({"validation_from": datetime(2016, 1, 1, tzinfo=UTC)}, "ascending"),
        ({"train_from": datetime(2016, 1, 1)}, "UTC offset"),
        ({"interactions_file": ""}, "want a table"),
        ({"searches_file": "searches.tsv"}, "want both or none"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(LogConfigError, match=message):
        parse_log_config(values(**changes))


def test_text_that_is_not_toml_is_refused(tmp_path):
    path = tmp_path / "log.toml"
    path.write_text("adapter = ", encoding="utf-8")
    with pytest.raises(LogConfigError, match="not TOML"):
        read_log_config(path)


def test_a_missing_configuration_is_refused(tmp_path):
    with pytest.raises(LogConfigError, match="got no file"):
        read_log_config(tmp_path / "log.toml")
