from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import trainer.studies.ablation
from tests.trainer.small_runs import PAGES, linked_work, write_small_config
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.page_figures import PairedDifference
from trainer.pipeline import run_training
from trainer.reports.sheet import sheet_text
from trainer.studies.ablation import (
    BETTER,
    KEEP,
    MIXED,
    USELESS,
    AblatedPart,
    run_ablation,
    seed_range,
    widened,
)
from trainer.studies.ablation_plan import FULL, read_plan
from trainer.studies.ablation_report import ablation_sheet, write_ablation

PLAN = f"""
config = "small.toml"
seeds = 2
split = "test"
train_pages = {PAGES[0]}
validation_pages = {PAGES[1]}
test_pages = {PAGES[2]}
[changes."category adapters"]
rank = 0
[changes."shopper sequence"]
shopper_sequence = false
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    write_small_config(folder)
    (folder / "parts.toml").write_text(PLAN)
    return read_plan(folder / "parts.toml")


@pytest.fixture(scope="module")
def work(tiny_log, tmp_path_factory):
    return linked_work(tmp_path_factory.mktemp("ablation-work"), tiny_log)


@pytest.fixture(scope="module")
def ablation(plan, work):
    return run_ablation(plan, work, progress=False)


def test_every_part_is_trained_with_every_seed_on_the_same_pages(ablation, plan):
    assert [part.name for part in ablation.parts] == [FULL, *plan.changes]
    assert len(ablation.origins) == 6
    assert ablation.pages["search"] == PAGES[0]
    assert set(ablation.figures) == {"Search", "Discovery", "Promotion"}
    assert ablation.figures["Search"].pages.size == PAGES[2]
    for part in ablation.parts:
        assert len(part.seed_figures["Search"]) == 2
        assert all(0 < figure < 1 for figure in part.seed_figures["Search"])
    full, adapters, _ = ablation.parts
    assert adapters.parameters < full.parameters
    assert adapters.changed == {"rank": 0}


def test_a_difference_is_that_of_the_means_over_seeds(ablation):
    full, *changed = ablation.parts
    for part in changed:
        paired = part.differences["Search"]
        wanted = np.mean(full.seed_figures["Search"]) - np.mean(part.seed_figures["Search"])
        assert paired.all.mean == pytest.approx(wanted)
        assert paired.all.low <= paired.all.mean <= paired.all.high
        assert part.verdict in {KEEP, USELESS, BETTER, MIXED}
    differences = [
        np.subtract(full.seed_figures["Search"], part.seed_figures["Search"]) for part in changed
    ]
    pooled = np.sqrt(np.mean([np.var(values, ddof=1) for values in differences]))
    assert ablation.seed_deviation["Search"] == pytest.approx(pooled)


def test_a_second_call_trains_nothing_anew(ablation, plan, work, monkeypatch):
    def never(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr(trainer.studies.ablation, "run_training", never)
    again = run_ablation(plan, work, progress=False)
    assert again.parts == ablation.parts


def test_a_stopped_call_goes_on_with_the_part_that_is_missing(plan, work, ablation, monkeypatch):
    asked = []
    train = run_training

    def counting(config, *arguments, **options):
        asked.append((config.name, config.seed))
        return train(config, *arguments, **options)

    monkeypatch.setattr(trainer.studies.ablation, "run_training", counting)
    (missing,) = (work / "ablation").glob("category-adapters-seed-2-*.npz")
    missing.unlink()
    again = run_ablation(plan, work, progress=False)
    assert asked == [("small-category-adapters", 2)]
    assert again.parts[1].seed_figures == ablation.parts[1].seed_figures


def test_table_json_and_page_say_the_same(ablation, tmp_path):
    data, page = write_ablation(tmp_path, ablation)
    value = json.loads(data.read_text())
    text = sheet_text(ablation_sheet(ablation))
    for part in value["parts"][1:]:
        assert part["name"] in text
        assert part["verdict"] in text
        assert f"{part['differences']['Search']['all']['mean']:+.3f}".replace("0.", ".", 1) in text
    assert value["seeds"] == 2
    assert value["compared_pages"]["Search"] == PAGES[2]
    assert page.read_text().count("<svg") == 6
    assert "widened by what other seeds would change" in text


def test_one_seed_is_said_to_know_nothing_of_others(ablation):
    alone = replace(ablation, plan=replace(ablation.plan, seeds=1))
    assert "not what another seed would" in sheet_text(ablation_sheet(alone))


def part_of(**intervals):
    paired = {
        task: PairedDifference(value, value, value, value, {}, {})
        for task, value in intervals.items()
    }
    return AblatedPart("a", {}, paired, {}, 1, 1.0)


def test_the_verdict_weighs_all_tasks():
    win, loss, tie = Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01), Interval(0, -1, 1)
    assert part_of(Search=win, Promotion=tie).verdict == KEEP
    assert part_of(Search=tie, Promotion=tie).verdict == USELESS
    assert part_of(Search=tie, Promotion=loss).verdict == BETTER
    assert part_of(Search=win, Promotion=loss).verdict == MIXED


def test_independent_causes_add_as_squares():
    value = widened(Interval(0.0, -3.0, 3.0), 4.0)
    assert (value.mean, value.low, value.high) == (0.0, -5.0, 5.0)


def test_figures_of_seeds_are_told_as_a_range():
    assert seed_range((0.5, 0.25)) == "0.2500 to 0.5000"
    assert seed_range((0.5,)) == "0.5000"
