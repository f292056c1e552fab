"""Searches settings with Optuna (Akiba et al. 2019): resumable, pruned, by several processes.

A study lies in SQLite beside a lock. Its budget, in trials and in seconds of all processes
together, counts what earlier calls spent, so every arm can be given the same.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState
from tqdm import tqdm

from rerank_server.contract.errors import RerankError
from trainer.baselines.gbdt import GbdtError
from trainer.errors import ConfigError, TrainingError
from trainer.studies.search_space import as_parameters, draw, space_to_json
from trainer.studies.tuning_arms import Arm, ArmPlan
from trainer.studies.tuning_study import (
    DONE,
    INTERRUPTED,
    SECONDS,
    TuningBudget,
    TuningError,
    continue_interrupted,
    interrupted_numbers,
    locked,
    open_study,
    same_study,
    spent_seconds,
    started_trials,
    study_path,
)

_POLL_SECONDS = 1.0
_HEARD_SECONDS, _GRACE_SECONDS = 3.0, 20.0
_FOLDERS, _ERROR = "folders", "error"


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search as every process that works on it is told.

    Attributes:
        plan: What a trial trains.
        study: Names the study; its file is of this name and the arm's.
        budget: What all calls together may spend.
        pruner: `median`, `hyperband` or `none`.
        seed: Of what is drawn.
    """

    plan: ArmPlan
    study: str
    budget: TuningBudget
    pruner: str
    seed: int


def tune(tuning: Tuning, *, workers: int, progress: bool) -> optuna.Study:
    """Run the trials that the budget leaves, or none; return the study.

    Raises:
        TuningError: When another call works on the study, it is of another search, a number is
            out of range, or no trial could be trained.
        RerankError: What keeps any trial from being trained.
    """
    _check(tuning, workers)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = study_path(tuning.plan.work, tuning.study, tuning.plan.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held(path.with_suffix(".lock"), tuning.study):
        arm = tuning.plan.open(progress=progress)
        study = open_study(path, tuning.pruner, arm.evaluations, tuning.seed)
        same_study(study, _told(tuning, arm), tuning.study)
        continue_interrupted(study)
        first = as_parameters(tuning.plan.space, arm.present(tuning.plan.space))
        if first is not None and not study.get_trials(deepcopy=False):
            study.enqueue_trial(first)
        with tqdm(total=tuning.budget.trials, unit="trial", disable=not progress) as bar:
            changed = _bar_of(bar, study)
            changed()
            if workers == 1:
                work_on(tuning, arm, study, changed)
            else:
                _work_in_processes(tuning, workers, changed)
            changed()
    _check_outcome(study)
    return study


def work_on(
    tuning: Tuning, arm: Arm, study: optuna.Study, changed: Callable[[], None] = lambda: None
) -> None:
    """Run trials in this process until the budget is spent."""
    path = study_path(tuning.plan.work, tuning.study, tuning.plan.name)
    while True:
        with locked(path.with_suffix(".ask")):
            if not _left(study, tuning.budget):
                return
            trial = study.ask()
        _run_trial(tuning, arm, study, trial, changed)
        changed()


@dataclass(slots=True)
class _Watch:
    """Reports a trial's figures, and ends it when it is pruned or the seconds are spent."""

    study: optuna.Study
    trial: Trial
    budget: TuningBudget
    changed: Callable[[], None]
    began: float
    reported: int = 0

    def __call__(self, number: int, figure: float) -> None:
        if number <= self.reported:
            return
        self.reported = number
        self.trial.report(figure, number)
        self.trial.set_user_attr(SECONDS, round(time.monotonic() - self.began, 1))
        self.changed()
        if self.budget.seconds and spent_seconds(self.study) >= self.budget.seconds:
            self.trial.set_user_attr("stopped", "the seconds are spent")
            raise optuna.TrialPruned
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _run_trial(
    tuning: Tuning, arm: Arm, study: optuna.Study, trial: Trial, changed: Callable[[], None]
) -> None:
    watch = _Watch(study, trial, tuning.budget, changed, time.monotonic())
    value, state = None, TrialState.FAIL
    try:
        drawn = draw(tuning.plan.space, trial)
        value, folders = arm.judge(drawn, watch)
        state = TrialState.COMPLETE
        trial.set_user_attr(_FOLDERS, [str(folder) for folder in folders])
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (ConfigError, TrainingError, GbdtError) as error:  # of what was drawn: it counts
        trial.set_user_attr(_ERROR, str(error))
    except BaseException:
        trial.set_user_attr(INTERRUPTED, True)  # noqa: FBT003  a value
        raise
    finally:
        trial.set_user_attr(SECONDS, round(time.monotonic() - watch.began, 1))
        study.tell(trial, value if state is TrialState.COMPLETE else None, state)
    if state is TrialState.COMPLETE:
        path = study_path(tuning.plan.work, tuning.study, tuning.plan.name)
        with locked(path.with_suffix(".ask")):
            _keep_best(study)


def _keep_best(study: optuna.Study) -> None:
    """Remove the runs of trials that a better one has beaten; they take much room."""
    best = study.best_trial
    kept = set(best.user_attrs.get(_FOLDERS, []))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        for folder in trial.user_attrs.get(_FOLDERS, []):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _left(study: optuna.Study, budget: TuningBudget) -> bool:
    """Tell whether another trial may begin."""
    if budget.seconds and spent_seconds(study) >= budget.seconds:
        return False
    return started_trials(study) < budget.trials


def _told(tuning: Tuning, arm: Arm) -> dict[str, Any]:
    """Return all that makes two searches the same."""
    space = tuning.plan.space
    base = {
        key: value
        for key, value in arm.base.items()
        if key not in {"name", "log", "mlflow"} and (arm.name == "trees" or key not in space)
    }
    return {
        "space": space_to_json(space),
        "configuration": base,
        "data": arm.log.folder.name,
        "categories": list(arm.categories),
        "pruner": tuning.pruner,
    }


def _work_in_processes(tuning: Tuning, workers: int, changed: Callable[[], None]) -> None:
    """Work on the study in processes of their own; the first error of one ends them all."""
    context = multiprocessing.get_context("spawn")  # Paddle does not survive a fork
    errors = context.SimpleQueue()
    processes = [
        context.Process(target=_worker, args=(tuning, number, errors), name=f"tune-{number}")
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes) and errors.empty():
            time.sleep(_POLL_SECONDS)
            changed()
    finally:
        _end(processes)
    if not errors.empty():
        raise errors.get()
    lost = [p.exitcode for p in processes if p.exitcode not in {0, -signal.SIGINT}]
    if lost:
        raise TuningError(f"workers: got exit status {lost[0]} of one, want 0; run it again")


def _worker(tuning: Tuning, number: int, errors: Any) -> None:  # noqa: ANN401  a queue
    """Work on a study in a process of its own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = study_path(tuning.plan.work, tuning.study, tuning.plan.name)
    try:
        arm = tuning.plan.open(progress=False)
        study = open_study(path, tuning.pruner, arm.evaluations, tuning.seed + number)
        work_on(tuning, arm, study)
    except RerankError as error:
        errors.put(TuningError(str(error)))
    except KeyboardInterrupt:
        os._exit(0)  # the main process tells it


def _end(processes: list[Any]) -> None:
    """Interrupt what still runs, so that its trials are marked; end what does not listen.

    A terminal has interrupted them with the main process, and a second time would be too much.
    """
    deadline = time.monotonic() + _HEARD_SECONDS
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.0))
    running = [process for process in processes if process.is_alive()]
    for process in running:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in running:
        process.join(max(deadline - time.monotonic(), 0.0))
        if process.is_alive():
            process.terminate()
            process.join()


def _bar_of(bar: Any, study: optuna.Study) -> Callable[[], None]:  # noqa: ANN401  tqdm has no types
    shown: tuple[int, str, int] | None = None

    def changed() -> None:
        nonlocal shown
        trials = study.get_trials(deepcopy=False)
        lost = interrupted_numbers(study)
        finished = sum(t.state in DONE and t.number not in lost for t in trials)
        values = [t.value for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
        pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
        told = (finished, f"{max(values):.4f}" if values else "-", pruned)
        if told != shown:  # asked every second; a file would fill with lines that are alike
            shown, bar.n = told, finished
            bar.set_postfix(best=told[1], pruned=pruned)

    return changed


def _check(tuning: Tuning, workers: int) -> None:
    if workers < 1:
        raise TuningError(f"workers: got {workers}, want 1 or more")
    if tuning.budget.trials < 1:
        raise TuningError(f"trials: got {tuning.budget.trials}, want 1 or more")
    if tuning.budget.seconds < 0:
        raise TuningError(f"seconds: got {tuning.budget.seconds}, want 0 (no limit) or more")
    if not tuning.plan.space:
        table = "trees" if tuning.plan.name == "trees" else "space"
        raise TuningError(f"search space: got no [{table}], want one for arm {tuning.plan.name}")


def _check_outcome(study: optuna.Study) -> None:
    trials = study.get_trials(deepcopy=False)
    if any(trial.state is TrialState.COMPLETE for trial in trials):
        return
    errors = [t.user_attrs[_ERROR] for t in trials if _ERROR in t.user_attrs]
    said = f"; the first said: {errors[0]}" if errors else "; they were stopped or pruned"
    raise TuningError(f"trials: got {len(trials)} and none that finished{said}")


@contextmanager
def _held(path: Path, study: str) -> Iterator[None]:
    """Hold a study while the block runs.

    Raises:
        TuningError: When another call holds it.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TuningError(
                f"study {study!r}: got one that another call works on, want to wait for it, or "
                "one call with more --workers"
            ) from error
        yield
