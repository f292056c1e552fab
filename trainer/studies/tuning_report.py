"""The outcome of a search: a table and a page of trials, and the best setting as TOML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.atomic_text import write_text
from trainer.config_text import config_to_toml, toml_value
from trainer.reports.run_plots import plot_parameters, plot_trials
from trainer.reports.sheet import Section, Sheet, Table, write_sheet
from trainer.studies.search_space import drawn_from
from trainer.studies.tuning import Tuning
from trainer.studies.tuning_arms import ARMS, Arm
from trainer.studies.tuning_study import (
    SECONDS,
    interrupted_numbers,
    open_study,
    spent_seconds,
    started_trials,
    study_path,
)
from trainer.training.provenance import code_commit, now

_SHOWN = 20


def write_tuning(tuning: Tuning, arm: Arm, study: optuna.Study) -> tuple[Sheet, Path, Path]:
    """Write the page of trials and the best setting beside the study.

    Returns:
        The page, where it lies, and where the best setting lies.
    """
    path = study_path(tuning.plan.work, tuning.study, tuning.plan.name)
    sheet = tuning_sheet(tuning, study)
    page, best = path.with_suffix(".html"), path.with_suffix(".toml")
    write_sheet(page, sheet)
    write_text(best, best_toml(tuning, arm, study, best.parent))
    return sheet, page, best


def best_toml(tuning: Tuning, arm: Arm, study: optuna.Study, folder: Path) -> str:
    """Return the best setting: a file that `train --config` takes, or LightGBM's parameters.

    Args:
        tuning: What was searched.
        arm: Its pages.
        study: Its trials.
        folder: Where the file will lie; its log is named from there.
    """
    trial = study.best_trial
    drawn = drawn_from(tuning.plan.space, trial.params)
    comments = (
        f"Trial {trial.number} of {tuning.study}, arm {tuning.plan.name}: validation NDCG@10 "
        f"{trial.value:.4f}.",
        f"{started_trials(study)} trials, {spent_seconds(study):,.0f} s; written {now()} by code "
        f"at {code_commit()[:12]}.",
    )
    if tuning.plan.name == "trees":
        lines = [*(f"# {line}" for line in comments), "[lightgbm]"]
        return "\n".join([*lines, *(f"{k} = {toml_value(v)}" for k, v in drawn.items())]) + "\n"
    config = arm.configured({**drawn, "log": _log_from(tuning, folder)})
    return config_to_toml(config, comments)


def tuning_sheet(tuning: Tuning, study: optuna.Study) -> Sheet:
    """Return the trials as tables and pictures."""
    trials = study.get_trials(deepcopy=False)
    lost = interrupted_numbers(study)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    figures = {trial.number: float(trial.value or 0.0) for trial in complete}
    pruned = {
        trial.number: float(trial.value)
        for trial in trials
        if trial.state is TrialState.PRUNED and trial.value is not None
    }
    failed = [t for t in trials if t.state is TrialState.FAIL and t.number not in lost]
    names = list(tuning.plan.space)
    drawn = {
        name: {t.number: _plotted(drawn_from(tuning.plan.space, t.params)[name]) for t in complete}
        for name in names
    }
    others = _other_arms(tuning)
    best = study.best_trial
    notes = (
        f"Arm {tuning.plan.name}: {started_trials(study)} trials of {tuning.budget.trials}, "
        f"{len(complete)} finished, {len(pruned)} pruned ({tuning.pruner}), {len(failed)} failed; "
        f"{spent_seconds(study):,.0f} s of all processes together.",
        "Figures are mean NDCG@10 on validation pages, the same pages for every arm but `single`, "
        "which is judged by the mean of its categories. The best of many trials is a little "
        "lucky: test pages tell what it is worth.",
        f"Best: trial {best.number}, {best.value:.4f}.",
    )
    return Sheet(
        f"Trials of {tuning.study}, {tuning.plan.name}",
        notes,
        (
            Section("Arms", _budget_notes(tuning, study, others), (_arms(tuning, study, others),)),
            Section(
                f"Best {min(_SHOWN, len(complete))} trials",
                tables=(_best_trials(tuning, complete),),
                plots=(
                    plot_trials(
                        figures, pruned, {name: other[0] for name, other in others.items()}
                    ),
                    plot_parameters(drawn, figures),
                ),
            ),
            *([Section("Failed", tables=(_failed(failed),))] if failed else []),
        ),
    )


def _best_trials(tuning: Tuning, complete: list[FrozenTrial]) -> Table:
    names = list(tuning.plan.space)
    ordered = sorted(complete, key=lambda trial: -float(trial.value or 0.0))[:_SHOWN]
    rows = []
    for trial in ordered:
        drawn = drawn_from(tuning.plan.space, trial.params)
        rows.append(
            (
                str(trial.number),
                f"{trial.value:.4f}",
                f"{trial.user_attrs.get(SECONDS, 0.0):,.0f}",
                *(_shown(drawn[name]) for name in names),
            )
        )
    return Table(("trial", "NDCG@10", "seconds", *names), tuple(rows))


def _failed(failed: list[FrozenTrial]) -> Table:
    rows = tuple((str(t.number), str(t.user_attrs.get("error", "unknown"))) for t in failed)
    return Table(("trial", "why"), rows)


def _arms(
    tuning: Tuning, study: optuna.Study, others: dict[str, tuple[float, int, float]]
) -> Table:
    own = (float(study.best_value), started_trials(study), spent_seconds(study))
    arms = {tuning.plan.name: own, **others}
    rows = tuple(
        (name, f"{best:.4f}", str(trials), f"{seconds:,.0f}")
        for name, (best, trials, seconds) in arms.items()
    )
    return Table(("arm", "best NDCG@10", "trials", "seconds"), rows)


def _budget_notes(
    tuning: Tuning, study: optuna.Study, others: dict[str, tuple[float, int, float]]
) -> tuple[str, ...]:
    """Say where arms were not given the same."""
    trials = started_trials(study)
    uneven = [name for name, other in others.items() if other[1] != trials]
    if not uneven:
        return ()
    return (
        f"Not the same number of trials: {', '.join(uneven)}; figures of arms compare when each "
        f"has had {tuning.budget.trials}.",
    )


def _other_arms(tuning: Tuning) -> dict[str, tuple[float, int, float]]:
    """Return best figure, trials and seconds of the studies of the same name's other arms."""
    found = {}
    for name in ARMS:
        path = study_path(tuning.plan.work, tuning.study, name)
        if name == tuning.plan.name or not path.exists():
            continue
        study = open_study(path, "none", 1, 0)
        if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            found[name] = (float(study.best_value), started_trials(study), spent_seconds(study))
    return found


def _log_from(tuning: Tuning, folder: Path) -> str:
    """Return the path of the run's log from another folder."""
    log = tuning.plan.config_path.parent / str(tuning.plan.base["log"])
    return os.path.relpath(log.resolve(), folder.resolve())


def _shown(value: Any) -> str:  # noqa: ANN401  any setting
    return f"{value:.4g}" if isinstance(value, float) else toml_value(value)


def _plotted(value: Any) -> float | str:  # noqa: ANN401  any setting
    if isinstance(value, bool) or not isinstance(value, int | float):
        return toml_value(value)
    return value
