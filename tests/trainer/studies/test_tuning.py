from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import trainer.studies.tuning
from tests.trainer.small_runs import PAGES, linked_work, write_small_config
from trainer.config import read_config, read_toml
from trainer.encoding.log_share import PageLimits
from trainer.pipeline import run_training
from trainer.reports.sheet import sheet_text
from trainer.studies.search_space import read_spaces
from trainer.studies.tuning import Tuning, tune
from trainer.studies.tuning_arms import ArmPlan
from trainer.studies.tuning_report import write_tuning
from trainer.studies.tuning_study import (
    TuningBudget,
    TuningError,
    continue_interrupted,
    interrupted_numbers,
    open_study,
    spent_seconds,
    started_trials,
    study_path,
)

SPACE = """
[space]
learning_rate = { low = 1e-3, high = 1e-2, log = true }
hidden = { choices = [[8], [12, 8]] }
[trees]
num_leaves = { choices = [3, 7] }
learning_rate = { low = 0.05, high = 0.2 }
"""
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "space.toml").write_text(SPACE)
    return write_small_config(folder), folder / "space.toml"


@pytest.fixture(scope="module")
def work(tiny_log, tmp_path_factory):
    return linked_work(tmp_path_factory.mktemp("tuning-work"), tiny_log)


def tuning_of(files, work, arm="network", study="small", trials=3, **more):
    config, space = files
    plan = ArmPlan(
        name=arm,
        config_path=config,
        base={**read_toml(config), "name": "small-tuned"},
        work=work,
        limits=PageLimits(*PAGES),
        categories=more.pop("categories", ()),
        spaces=read_spaces(space),
        threads=1,
    )
    budget = TuningBudget(trials, more.pop("seconds", 0.0))
    return Tuning(plan, study, budget, more.pop("pruner", "median"), seed=1)


@pytest.fixture(scope="module")
def tuned(files, work):
    tuning = tuning_of(files, work)
    return tuning, tune(tuning, workers=1, progress=False)


def test_the_first_trial_is_the_configuration_as_it_is(tuned):
    _, study = tuned
    assert len(study.trials) == 3
    assert study.trials[0].params == {"learning_rate": 5e-3, "hidden": "[8]"}
    assert all(trial.state in {TrialState.COMPLETE, TrialState.PRUNED} for trial in study.trials)
    assert study.trials[0].intermediate_values[1] > 0
    assert spent_seconds(study) > 0


def test_only_the_best_trial_keeps_its_run(tuned):
    tuning, study = tuned
    kept = sorted((tuning.plan.work / "runs").glob("small-tuned-*"))
    assert [str(path) for path in kept] == study.best_trial.user_attrs["folders"]


def test_a_spent_budget_runs_no_trial_and_a_larger_one_goes_on(tuned, files, work, monkeypatch):
    tuning, _ = tuned
    with monkeypatch.context() as patch:
        patch.setattr(trainer.studies.tuning, "_run_trial", None)
        assert len(tune(tuning, workers=1, progress=False).trials) == 3
    more = replace(tuning, budget=TuningBudget(4))
    assert len(tune(more, workers=1, progress=False).trials) == 4


def test_another_space_is_refused_naming_what_differs(tuned, files, work, tmp_path):
    config, _ = files
    (tmp_path / "space.toml").write_text(SPACE.replace("1e-2", "2e-2"))
    other = tuning_of((config, tmp_path / "space.toml"), work)
    with pytest.raises(
        TuningError,
        match=r"study 'small': .*space\.learning_rate\.high is 0\.02, the study has 0\.01;",
    ):
        tune(other, workers=1, progress=False)


def test_another_configuration_or_data_is_refused(tuned):
    tuning, _ = tuned
    changed = replace(tuning.plan, base={**tuning.plan.base, "width": 16}, limits=PageLimits(30))
    with pytest.raises(TuningError) as caught:
        tune(replace(tuning, plan=changed), workers=1, progress=False)
    assert "configuration.width is 16, the study has 8" in str(caught.value)
    assert "data is " in str(caught.value)


def test_the_best_setting_is_a_configuration_whose_run_is_there_already(tuned, tiny_log):
    tuning, study = tuned
    arm = tuning.plan.open(progress=False)
    sheet, page, best = write_tuning(tuning, arm, study)
    config = read_config(best)
    assert config.learning_rate == study.best_trial.params["learning_rate"]
    assert (best.parent / config.log).resolve().name == "log.toml"
    run = run_training(config, arm.log, tuning.plan.work, progress=False)
    assert [str(run.folder)] == study.best_trial.user_attrs["folders"]
    assert run.result.seconds < 5
    assert f"{study.best_value:.4f}" in sheet_text(sheet)
    assert page.read_text().count("<svg") == 2


def test_every_arm_has_its_budget_and_stands_beside_the_others(tuned, files, work):
    trees = tuning_of(files, work, arm="trees", trials=2)
    study = tune(trees, workers=1, progress=False)
    assert len(study.trials) == 2
    assert all(len(t.intermediate_values) == 3 for t in study.trials if t.value is not None)
    single = tuning_of(files, work, arm="single", trials=1, categories=("dairy_eggs",))
    alone = tune(single, workers=1, progress=False)
    assert alone.best_value > 0
    sheet, _, best = write_tuning(trees, trees.plan.open(progress=False), study)
    text = sheet_text(sheet)
    for one in (tuned[1], study, alone):
        assert f"{one.best_value:.4f}" in text
    assert "Not the same number of trials" in text
    assert "[lightgbm]\nnum_leaves = " in best.read_text()


def test_an_interrupted_trial_is_marked_and_queued_again(files, work, monkeypatch):
    tuning = tuning_of(files, work, study="stopped", trials=2)

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainer.studies.tuning_arms.run_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tune(tuning, workers=1, progress=False)
    path = study_path(work, "stopped", "network")
    study = open_study(path, "median", 3, 1)
    assert interrupted_numbers(study) == {0}
    assert started_trials(study) == 0
    drawn = study.trials[0].params
    study = tune(tuning, workers=1, progress=False)
    assert started_trials(study) == 2
    assert study.trials[1].params == drawn
    assert study.trials[1].state is TrialState.COMPLETE


def test_what_looks_as_if_it_ran_was_killed_and_is_queued_once(tmp_path):
    study = open_study(tmp_path / "killed.sqlite", "none", 3, 1)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    for _ in range(2):
        continue_interrupted(study)
    assert interrupted_numbers(study) == {0}
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.ask().suggest_float("x", 0, 1) == trial.params["x"]


def test_a_setting_that_cannot_be_trained_counts_and_is_told(files, work, tmp_path):
    config, _ = files
    (tmp_path / "odd.toml").write_text("[space]\nhidden = { choices = [[7], [8]] }\n")
    tuning = tuning_of((config, tmp_path / "odd.toml"), work, study="odd", trials=4)
    study = tune(tuning, workers=1, progress=False)
    failed = [trial for trial in study.trials if trial.state is TrialState.FAIL]
    assert started_trials(study) == 4
    assert failed
    assert all("heads: got 2" in trial.user_attrs["error"] for trial in failed)
    assert "heads: got 2" in sheet_text(write_tuning(tuning, tuning.plan.open(progress=False),
                                                     study)[0])  # fmt: skip


def test_spent_seconds_end_the_search(files, work, tmp_path):
    (tmp_path / "new.toml").write_text("[space]\nweight_decay = { low = 0.5, high = 0.6 }\n")
    new = (files[0], tmp_path / "new.toml")
    tuning = tuning_of(new, work, study="brief", trials=50, seconds=0.01)
    with pytest.raises(TuningError, match="stopped or pruned"):
        tune(tuning, workers=1, progress=False)
    study = open_study(study_path(work, "brief", "network"), "median", 3, 1)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED]


def test_numbers_out_of_range_and_an_empty_space_are_refused(tuned, files, work):
    tuning, _ = tuned
    for changed, workers, said in (
        (tuning, 0, "workers: got 0"),
        (replace(tuning, budget=TuningBudget(0)), 1, "trials: got 0"),
        (replace(tuning, budget=TuningBudget(1, -1.0)), 1, "seconds: got -1.0"),
    ):
        with pytest.raises(TuningError, match=said):
            tune(changed, workers=workers, progress=False)
    bare = replace(tuning.plan, spaces=replace(tuning.plan.spaces, network={}))
    with pytest.raises(TuningError, match=r"got no \[space\]"):
        tune(replace(tuning, plan=bare), workers=1, progress=False)


def test_a_study_that_another_call_works_on_is_refused(tuned):
    tuning, _ = tuned
    path = study_path(tuning.plan.work, tuning.study, "network").with_suffix(".lock")
    with (
        trainer.studies.tuning._held(path, "small"),
        pytest.raises(TuningError, match="got one that another call works on"),
    ):
        tune(tuning, workers=1, progress=False)


def test_a_trial_that_falls_behind_is_pruned():
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=1)
    )
    for figure, ended in ((0.9, False), (0.1, True)):
        trial = study.ask()
        watch = trainer.studies.tuning._Watch(
            study, trial, TuningBudget(9), lambda: None, time.monotonic()
        )
        if ended:
            with pytest.raises(optuna.TrialPruned):
                watch(1, figure)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            watch(1, figure)
            watch(1, 0.0)  # told before, so not again
            study.tell(trial, figure)
    assert study.trials[0].intermediate_values == {1: 0.9}


def trials_in(path):
    """Count without Optuna, which would make a study where there is none yet."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as database:
        try:
            return database.execute("SELECT count(*) FROM trials").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0


@pytest.mark.slow
def test_several_processes_share_a_budget_and_an_interruption_is_gone_on_from(files, work):
    config, space = files
    command = [
        sys.executable, "-m", "trainer", "tune", "--config", str(config), "--work", str(work),
        "--space", str(space), "--study", "shared", "--trials", "5", "--workers", "2",
        "--pages", str(PAGES[0]), str(PAGES[1]), "--pruner", "none",
    ]  # fmt: skip
    path = study_path(work, "shared", "network")
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if trials_in(path) >= 2:
                break
            time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert started_trials(open_study(path, "none", 3, 1)) < 5
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    study = open_study(path, "none", 3, 1)
    assert started_trials(study) == 5
    states = [t.state for t in study.trials if t.number not in interrupted_numbers(study)]
    assert states == [TrialState.COMPLETE] * 5
