"""Studies of `tune`: where they lie, what makes two the same, what has been spent on them."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from rerank_server.contract.errors import RerankError

DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
PRUNERS = ("median", "hyperband", "none")
_TOLD, _QUEUED = "search", "queued again"
SECONDS, INTERRUPTED = "seconds", "interrupted"  # attributes of trials
_STARTUP_TRIALS = 5
_LOCK_SECONDS = 60


class TuningError(RerankError):
    """A search that cannot begin, or that found nothing."""


@dataclass(frozen=True, slots=True)
class TuningBudget:
    """What all calls that work on a study may spend together.

    Attributes:
        trials: That begin; pruned and failed ones count, interrupted ones do not.
        seconds: Of all processes together; 0 sets no limit.
    """

    trials: int
    seconds: float = 0.0


def study_path(work: Path, study: str, arm: str) -> Path:
    """Return where the study of an arm lies."""
    return work / "tuning" / f"{study}-{arm}.sqlite"


def open_study(path: Path, pruner: str, evaluations: int, seed: int) -> optuna.Study:
    """Return the study at `path`, made when there is none.

    Args:
        path: Of the SQLite file.
        pruner: One of `PRUNERS`.
        evaluations: Reports of a trial at most.
        seed: With the number of trials so far, of what is drawn: a study that is gone on with
            does not draw again what it drew at first.

    Raises:
        TuningError: When the file is no study.
    """
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": _LOCK_SECONDS}}
        )
        study = optuna.create_study(
            storage=storage, study_name=path.stem, direction="maximize", load_if_exists=True
        )
    except Exception as error:
        if path.exists() and not _is_sqlite(path):
            raise TuningError(f"{path}: got a file that is no study, want one of `tune`") from error
        raise
    drawn = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed + 1_000 * drawn, constant_liar=True)
    study.pruner = _pruner(pruner, evaluations)
    return study


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock while the block runs; wait for it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pruner(name: str, evaluations: int) -> optuna.pruners.BasePruner:
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=1, max_resource=max(evaluations, 2), reduction_factor=2
        )
    if name == "none":
        return optuna.pruners.NopPruner()
    # the first evaluation comes while the rate still rises, and says little
    return optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=1)


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"


def same_study(study: optuna.Study, told: dict[str, Any], name: str) -> None:
    """Keep what a search is, or check that it is what the study was begun with.

    Raises:
        TuningError: Naming all that differs.
    """
    kept = study.user_attrs.get(_TOLD)
    if kept is None:
        study.set_user_attr(_TOLD, told)
        return
    differing = _differences(json.loads(json.dumps(told)), kept, "")
    if differing:
        raise TuningError(
            f"study {name!r}: got another search than it was begun with: {'; '.join(differing)}; "
            "want the same, or another --study"
        )


def _differences(got: Any, kept: Any, where: str) -> list[str]:  # noqa: ANN401  JSON values
    if isinstance(got, dict) and isinstance(kept, dict):
        return [
            told
            for key in dict.fromkeys([*got, *kept])
            for told in _differences(
                got.get(key), kept.get(key), f"{where}.{key}" if where else key
            )
        ]
    if got == kept:
        return []
    shown = ["nothing" if value is None else json.dumps(value) for value in (got, kept)]
    return [f"{where} is {shown[0]}, the study has {shown[1]}"]


def continue_interrupted(study: optuna.Study) -> None:
    """Queue again what was stopped in the midst of a trial; its runs go on from checkpoints.

    To be called while nobody works on the study: what still looks as if it ran was killed.
    """
    killed = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    lost = [*study.user_attrs.get(INTERRUPTED, []), *(trial.number for trial in killed)]
    study.set_user_attr(INTERRUPTED, lost)
    for trial in killed:
        study.tell(trial.number, state=TrialState.FAIL)
    queued = set(study.user_attrs.get(_QUEUED, []))
    for number in sorted(interrupted_numbers(study) - queued):
        parameters = study.get_trials(deepcopy=False)[number].params
        if parameters:
            study.enqueue_trial(parameters)
        queued.add(number)
    study.set_user_attr(_QUEUED, sorted(queued))


def interrupted_numbers(study: optuna.Study) -> set[int]:
    """Return the numbers of the trials that were stopped from outside or killed."""
    marked = {
        trial.number
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs.get(INTERRUPTED, False)
    }
    return marked | set(study.user_attrs.get(INTERRUPTED, []))


def started_trials(study: optuna.Study) -> int:
    """Return how many trials have begun, those that were interrupted not counted."""
    lost = interrupted_numbers(study)
    trials = study.get_trials(deepcopy=False)
    return sum(t.state is not TrialState.WAITING and t.number not in lost for t in trials)


def spent_seconds(study: optuna.Study) -> float:
    """Return the seconds that all trials took, those that were interrupted included."""
    trials = study.get_trials(deepcopy=False)
    return float(sum(trial.user_attrs.get(SECONDS, 0.0) for trial in trials))
