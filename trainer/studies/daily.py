"""Keeping up with time: never training again, from scratch each day, or on from the last weights.

A step is a day, or some days. At each, every way has learned from pages of earlier days alone and
is measured on the pages of that step. All ways share the network of the first step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from rerank_server.contract.page import SECONDS_PER_DAY
from trainer.atomic_text import write_text
from trainer.benchmark.kept_parts import Arrays, FinishedPart, Part, compute_parts
from trainer.config import TrainConfig, run_objectives
from trainer.encoding.catalogue import Catalogue, read_catalogue
from trainer.encoding.encoded import EncodedLog, with_objectives
from trainer.encoding.pageset import Doubles, encoded_pages
from trainer.evaluation.bootstrap import Interval, Membership, resample_means
from trainer.evaluation.metrics import ndcg_at_k
from trainer.pipeline import run_data, run_folder, seeds_of
from trainer.studies.daily_windows import (
    DailyPlan,
    check_plan,
    date_of_day,
    everything_until,
    newest_and_replayed,
    thinned,
)
from trainer.tasks import log_tasks
from trainer.training.network import score_pages
from trainer.training.provenance import NETWORK_CODE, code_hash
from trainer.training.run_facts import begin_run, read_run
from trainer.training.run_pages import training_pages
from trainer.training.train import train

NEVER, SCRATCH, WARM = "never again", "from scratch", "warm start"
WAYS = (NEVER, SCRATCH, WARM)
RETRIEVAL = "retrieval order"
_CODE = (*NETWORK_CODE, "studies/daily", "studies/daily_windows", "encoding/log_share")


@dataclass(frozen=True, slots=True)
class DailyTask:
    """What the ways reach on the pages of one surface.

    Attributes:
        pages: Pages with a positive of each step.
        by_step: NDCG@10 of each way, and of retrieval order, at each step.
        after: The same over all steps after the first, where the ways differ.
        differences: Warm start minus each other way over these steps, paired.
    """

    pages: list[int]
    by_step: dict[str, list[Interval]]
    after: dict[str, Interval]
    differences: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Daily:
    """The ways beside each other.

    Attributes:
        plan: What was compared.
        config: Of the trainings.
        pages: Pages that took part.
        start_seconds: Of training the network that all ways share.
        seconds: Wall time of training at each step of each way; 0 at the first.
        learned: Training pages at each step of each way.
        tasks: By name.
    """

    plan: DailyPlan
    config: TrainConfig
    pages: int
    start_seconds: float
    seconds: dict[str, list[float]]
    learned: dict[str, list[int]]
    tasks: dict[str, DailyTask]


def compare_daily(
    config: TrainConfig, log: EncodedLog, plan: DailyPlan, work: Path, *, progress: bool
) -> Daily:
    """Train and measure all ways at all steps; what an equal earlier call has done is read back.

    Args:
        config: Of the trainings; teacher and trees are left out, which all ways would need anew.
        log: The encoded log.
        plan: What is compared.
        work: Where runs and parts are kept.
        progress: Whether to draw bars.

    Raises:
        DailyError: As `check_plan`.
        TrainingError: When the pages before the first day cannot be learned from.
    """
    check_plan(plan, log)
    log = thinned(with_objectives(log, run_objectives(config)), plan.page_share)
    config = replace(config, teacher_share=0.0, trees=False)
    with threadpool_limits(1, "blas"):
        catalogue = read_catalogue(log.prepared)
    steps = list(_steps(config, log, plan, work))
    parts = [_part(step, catalogue, progress=progress) for step in steps]
    finished = compute_parts(parts, work / "daily", progress=progress)
    return _compared(plan, config, log, {name: finished[name] for name in finished})


@dataclass(frozen=True, slots=True)
class _Step:
    """One way at one step: the run whose network it is, and the pages it is measured on."""

    way: str
    day: int
    config: TrainConfig
    learned: EncodedLog
    measured: EncodedLog
    folder: Path
    work: Path

    @property
    def name(self) -> str:
        return _part_name(self.way, self.day)


def _part_name(way: str, day: int) -> str:
    return f"{way}, {date_of_day(day)}"


def _steps(config: TrainConfig, log: EncodedLog, plan: DailyPlan, work: Path) -> Iterator[_Step]:
    """Yield every part in an order in which each finds the run it starts from."""
    bounds = [*pairwise([*plan.starts, plan.end])]
    first: _Step | None = None
    last = work
    for day, until in bounds:
        whole = everything_until(log, day, until, plan)
        scratch = replace(config, name=f"{config.name}-until")
        folder = run_folder(scratch, whole, work)
        step = _Step(SCRATCH, day, scratch, whole, whole, folder, work)
        if first is None:
            first, last = step, folder
            yield step
            continue
        yield replace(first, way=NEVER, day=day, measured=whole)
        yield step
        warm = replace(
            config,
            name=f"{config.name}-warm",
            start_from=last.name,
            learning_rate=plan.learning_rate,
            l2_sp=plan.l2_sp,
        )
        newest = newest_and_replayed(log, day, until, plan, config.seed)
        last = run_folder(warm, newest, work)
        yield _Step(WARM, day, warm, newest, whole, last, work)


def _part(step: _Step, catalogue: Catalogue, *, progress: bool) -> Part:
    def compute() -> tuple[Arrays, dict[str, Any]]:
        config, folder = step.config, step.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.json", json.dumps(asdict(config), indent=1))
        data = run_data(config, step.learned)
        record = begin_run(folder, config.name, asdict(config), seeds_of(config), data)
        result = train(
            config,
            step.learned,
            catalogue,
            folder,
            progress=progress,
            on_evaluation=None if record is None else lambda _step, _figure: record.tick(),
        )
        if record is not None:
            record.finish(
                steps=result.progress.step,
                best=result.progress.best,
                best_step=result.progress.best_step,
                parameters=sum(int(np.prod(p.shape)) for p in result.ranker.parameters()),
                objective_weights={},
            )
        log = step.measured
        scores = {
            surface: score_pages(result.ranker, catalogue, log, log.pages_of("test", surface))[:, 0]
            for surface in config.surfaces
        }
        facts = {
            "seconds": read_run(folder).seconds,
            "learned": int(training_pages(config, step.learned).size),
        }
        return scores, facts

    made_from = [
        asdict(step.config),
        step.learned.folder.name,
        step.measured.folder.name,
        code_hash(_CODE),
    ]
    return Part(step.name, made_from, compute)


def _compared(
    plan: DailyPlan, config: TrainConfig, log: EncodedLog, finished: Mapping[str, FinishedPart]
) -> Daily:
    first = finished[_part_name(SCRATCH, plan.first_day)]
    seconds = {way: [0.0] for way in WAYS}
    learned: dict[str, list[int]] = {way: [int(first.facts["learned"])] for way in WAYS}
    for day in plan.starts[1:]:
        for way in WAYS:
            facts = finished[_part_name(way, day)].facts
            trained = way != NEVER
            seconds[way].append(float(facts["seconds"]) if trained else 0.0)
            learned[way].append(int(facts["learned"]) if trained else 0)
    whole = everything_until(log, plan.first_day, plan.end, plan)
    tasks = {
        task: _task(plan, whole, surface, finished)
        for task, surface in log_tasks(whole, config.surfaces).items()
    }
    return Daily(
        plan=plan,
        config=config,
        pages=int(log.splits.size),
        start_seconds=float(first.facts["seconds"]),
        seconds=seconds,
        learned=learned,
        tasks=tasks,
    )


def _task(
    plan: DailyPlan, log: EncodedLog, surface: str, finished: Mapping[str, FinishedPart]
) -> DailyTask:
    """Return the figures of one surface; the pages of all steps in order of time."""
    pages = encoded_pages(log, "test", surface)
    gains = pages.objective(pages.objectives[0])
    first = finished[_part_name(SCRATCH, plan.first_day)]
    scores: dict[str, Doubles] = {}
    for way in WAYS:
        parts = [first, *(finished[_part_name(way, day)] for day in plan.starts[1:])]
        scores[way] = np.concatenate([p.arrays[surface] for p in parts]).astype(np.float64)
    scores[RETRIEVAL] = -pages.position.astype(np.float64)
    ndcg = np.stack([ndcg_at_k(gains, values, pages.offsets, 10) for values in scores.values()])
    step = (pages.time // SECONDS_PER_DAY - plan.first_day) // plan.every
    steps, later = len(plan.starts), np.flatnonzero(step > 0)
    membership = Membership(
        page=np.concatenate([np.arange(pages.pages), later]),
        group=np.concatenate([step, np.full(later.size, steps)]).astype(np.int64),
        weight=np.ones(pages.pages + later.size),
        names=(*map(date_of_day, plan.starts), "after the first"),
    )
    resampled = resample_means(ndcg, pages.shopper, membership)
    scored = ~np.isnan(ndcg[0])
    rankings = list(scores)
    warm = rankings.index(WARM)
    return DailyTask(
        pages=np.bincount(step[scored], minlength=steps).tolist(),
        by_step={
            name: [resampled.interval(row, group) for group in range(steps)]
            for row, name in enumerate(rankings)
        },
        after={name: resampled.interval(row, steps) for row, name in enumerate(rankings)},
        differences={
            name: resampled.difference(warm, row, steps)
            for row, name in enumerate(rankings)
            if row != warm
        },
    )
