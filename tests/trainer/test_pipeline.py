from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rerank_server.contract.page import SECONDS_PER_DAY
from tests.trainer.conftest import TINY_CONFIG
from trainer.errors import ConfigError
from trainer.pipeline import first_test_day, prepare_and_encode, run_training, table_at


def test_a_second_call_prepares_and_encodes_nothing_anew(tiny_config, tiny_log, tiny_work):
    before = sorted(path.name for path in tiny_work.iterdir())
    again = prepare_and_encode(TINY_CONFIG, tiny_config, tiny_work, progress=False)
    assert again.folder == tiny_log.folder
    assert sorted(path.name for path in tiny_work.iterdir()) == before
    assert all(name.split("-")[0] in {"prepared", "encoded", "trees", "runs", "bundle", "snapshot",
                                      "products"} for name in before)  # fmt: skip


def test_a_run_has_its_own_folder_by_configuration_and_is_read_back(
    tiny_config, tiny_log, tiny_run, tiny_work
):
    assert tiny_run.folder.parent == tiny_work / "runs"
    assert tiny_run.folder.name.startswith("tiny-")
    written = json.loads((tiny_run.folder / "config.json").read_text(encoding="utf-8"))
    assert written["epochs"] == tiny_config.epochs
    again = run_training(tiny_config, tiny_log, tiny_work, progress=False)
    assert again.folder == tiny_run.folder
    assert again.result.progress == tiny_run.result.progress
    np.testing.assert_array_equal(again.calibration.scale, tiny_run.calibration.scale)
    assert again.objective_weights == tiny_run.objective_weights


def test_a_run_of_one_objective_carries_that_one_through_to_the_schema(
    tiny_config, tiny_log, tmp_path
):
    config = replace(tiny_config, objectives=("purchase",), objective_weights=(1.0,), epochs=1)
    run = run_training(config, tiny_log, tmp_path, progress=False)
    assert run.log.schema.objectives == ("purchase",)
    assert run.calibration.scale.shape[1] == 1
    assert run.objective_weights["search"] == {"purchase": 1.0}


def test_an_objective_that_the_log_lacks_is_refused_before_anything_is_written(
    tiny_config, tiny_log, tmp_path
):
    config = replace(tiny_config, objectives=("click",), objective_weights=(1.0,))
    with pytest.raises(ConfigError, match="objectives: got 'click'"):
        run_training(config, tiny_log, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_first_test_day_holds_a_test_page_and_none_is_earlier(tiny_log):
    prepared = tiny_log.prepared
    day = first_test_day(prepared)
    days = prepared.page_times[prepared.page_splits == 2] // SECONDS_PER_DAY
    assert day == days.min()


def test_the_table_of_a_day_knows_nothing_of_it(tiny_log):
    prepared = tiny_log.prepared
    day = first_test_day(prepared)
    table = table_at(prepared, day)
    future = prepared.interaction_times >= day * SECONDS_PER_DAY
    rows = np.array(prepared.interaction_rows)
    prices = np.array(prepared.interaction_prices)
    rows[future], prices[future] = 0, 999.0
    other = table_at(replace(prepared, interaction_rows=rows, interaction_prices=prices), day)
    for name in ("stats", "neighbours", "neighbour_weights", "factors", "gram"):
        np.testing.assert_array_equal(getattr(table, name), getattr(other, name), name)
    assert table.as_of_day == day
    assert np.isnan(table.stats[-1]).all()
