"""Networks with one thing changed, each against the full one on the same pages.

Every network has the same pages, seeds and passes. Each training is kept once it is done, and one
that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from trainer.benchmark.kept_parts import Arrays, FinishedPart, Origin, Part, compute_parts
from trainer.config import TrainConfig, run_objectives
from trainer.encoding.encoded import EncodedLog, with_objectives
from trainer.encoding.log_share import share_of_log
from trainer.encoding.pageset import encoded_pages
from trainer.evaluation.bootstrap import LEVEL, Interval
from trainer.evaluation.comparison import surface_logits
from trainer.evaluation.page_figures import (
    PairedDifference,
    TaskFigures,
    figures_from_arrays,
    figures_to_arrays,
    mean_figures,
    paired_figures,
    task_figures,
)
from trainer.pipeline import Run, prepare_and_encode, run_training
from trainer.studies.ablation_plan import FULL, AblationPlan, config_key
from trainer.tasks import log_tasks, served_scores
from trainer.training.provenance import NETWORK_CODE, code_hash
from trainer.training.run_facts import read_run

KEEP, USELESS, BETTER, MIXED = "keep", "useless within noise", "better without", "mixed"


@dataclass(frozen=True, slots=True)
class AblatedPart:
    """What one change costs or gains.

    Attributes:
        name: Of the change, or `full`.
        changed: What it sets, as the plan has it.
        differences: By task, the full network minus this one; empty for the full one.
        seed_figures: By task, mean NDCG@10 of each training.
        parameters: Numbers that are trained.
        seconds: Wall time of its trainings together.
    """

    name: str
    changed: dict[str, Any]
    differences: dict[str, PairedDifference]
    seed_figures: dict[str, tuple[float, ...]]
    parameters: int
    seconds: float

    @property
    def verdict(self) -> str:
        """What the intervals of the tasks, over all their pages, say together."""
        verdicts = {difference.all.verdict for difference in self.differences.values()}
        if {"win", "loss"} <= verdicts:
            return MIXED
        if "win" in verdicts:
            return KEEP
        return BETTER if "loss" in verdicts else USELESS


@dataclass(frozen=True, slots=True)
class Ablation:
    """The outcome of a plan.

    Attributes:
        plan: What was asked.
        parts: The full network first, then each change.
        figures: By task, the full network's figures, mean over the seeds.
        seed_deviation: By task, the standard deviation over seeds of a difference to the full
            network, pooled over the changes; NaN with one seed.
        origins: Where each training comes from.
        data: Name of the encoded pages.
        pages: Training pages of each surface.
    """

    plan: AblationPlan
    parts: tuple[AblatedPart, ...]
    figures: dict[str, TaskFigures]
    seed_deviation: dict[str, float]
    origins: tuple[Origin, ...]
    data: str
    pages: dict[str, int]


def run_ablation(plan: AblationPlan, work: Path, *, progress: bool) -> Ablation:
    """Train and compare all that a plan names, or what of it is not kept from an earlier call.

    Args:
        plan: From `read_plan`.
        work: Where prepared data, runs and finished trainings are kept.
        progress: Whether to draw progress bars and tell each part's cost.

    Raises:
        EvaluationError: When no surface has a page of the compared split.
    """
    whole = prepare_and_encode(plan.config_path, plan.full, work, progress=progress)
    log = with_objectives(share_of_log(whole, plan.limits), run_objectives(plan.full))
    parts = list(_parts(plan, log, work, progress=progress))
    finished = compute_parts(parts, work / "ablation", progress=progress)
    surfaces = {s: int(log.pages_of("train", s).size) for s in plan.full.surfaces}
    return _assemble(plan, finished, log.folder.name, surfaces)


def _parts(plan: AblationPlan, log: EncodedLog, work: Path, *, progress: bool) -> Iterator[Part]:
    """Yield a part for each configuration and seed, seed by seed: a first table comes early."""
    code = code_hash(NETWORK_CODE)
    for seed in _seeds(plan):
        for name, config in plan.configs().items():
            seeded = replace(config, seed=seed, name=_run_name(plan.full, name))
            made_from = [log.folder.name, config_key(seeded), plan.split, code]
            compute = partial(_train, seeded, plan.split, log, work, progress=progress)
            yield Part(part_name(name, seed), made_from, compute)


def _train(
    config: TrainConfig, split: str, log: EncodedLog, work: Path, *, progress: bool
) -> tuple[Arrays, dict[str, Any]]:
    run = run_training(config, log, work, progress=progress)
    return figures_to_arrays(run_figures(run, split)), {
        "parameters": sum(int(np.prod(p.shape)) for p in run.ranker.parameters()),
        "steps": run.result.progress.step,
        "seconds": round(read_run(run.folder).seconds, 1),
        "folder": str(run.folder.relative_to(work)),
    }


def run_figures(run: Run, split: str) -> dict[str, TaskFigures]:
    """Return what a run reaches on the pages of a split, by task."""
    log = run.log
    figures = {}
    for task, surface in log_tasks(log, run.config.surfaces).items():
        pages = encoded_pages(log, split, surface)
        scores = served_scores(
            surface_logits(run, surface, split),
            pages.categories,
            run.calibration,
            run.objective_weights[surface],
            run.outputs,
        )
        of_log = log.selection.pages[log.pages_of(split, surface)]
        figures[task] = task_figures(pages, scores, of_log, log.schema.categories)
    return figures


def part_name(name: str, seed: int) -> str:
    """Return the name of the part that trains a configuration with a seed."""
    return f"{name}, seed {seed}"


def _seeds(plan: AblationPlan) -> range:
    return range(plan.full.seed, plan.full.seed + plan.seeds)


def _run_name(full: TrainConfig, name: str) -> str:
    """Return a name that a run's folder can have."""
    return f"{full.name}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"


def _assemble(
    plan: AblationPlan, finished: dict[str, FinishedPart], data: str, pages: dict[str, int]
) -> Ablation:
    by_name = {
        name: [finished[part_name(name, seed)] for seed in _seeds(plan)] for name in plan.configs()
    }
    seeded = {
        name: [figures_from_arrays(part.arrays) for part in parts]
        for name, parts in by_name.items()
    }
    tasks = list(seeded[FULL][0])
    means = {
        name: {task: mean_figures([one[task] for one in figures]) for task in tasks}
        for name, figures in seeded.items()
    }
    deviation = {task: _seed_deviation(seeded, task) for task in tasks}
    # all differences share the full network's seeds, so there are no more degrees of freedom
    freedom = plan.seeds - 1
    parts = []
    for name, kept in by_name.items():
        differences = {}
        if name != FULL:
            differences = {
                task: _widened(
                    paired_figures(means[FULL][task], means[name][task]),
                    deviation[task],
                    plan.seeds,
                    freedom,
                )
                for task in tasks
            }
        parts.append(
            AblatedPart(
                name=name,
                changed=plan.overrides.get(name, {}),
                differences=differences,
                seed_figures={
                    task: tuple(float(np.nanmean(one[task].ndcg_at_10)) for one in seeded[name])
                    for task in tasks
                },
                parameters=kept[0].facts["parameters"],
                seconds=round(sum(part.facts["seconds"] for part in kept), 1),
            )
        )
    origins = tuple(part.origin for kept in by_name.values() for part in kept)
    return Ablation(plan, tuple(parts), means[FULL], deviation, origins, data, pages)


def _seed_deviation(seeded: dict[str, list[dict[str, TaskFigures]]], task: str) -> float:
    """Return the standard deviation over seeds of a difference to the full network, pooled."""
    figures = {
        name: np.array([np.nanmean(one[task].ndcg_at_10) for one in trainings])
        for name, trainings in seeded.items()
    }
    full = figures.pop(FULL)
    if full.size < 2 or not figures:  # noqa: PLR2004  one seed tells nothing of others
        return float("nan")
    variances = [np.var(full - figure, ddof=1) for figure in figures.values()]
    return float(np.sqrt(np.mean(variances)))


def _widened(
    paired: PairedDifference, deviation: float, seeds: int, freedom: int
) -> PairedDifference:
    """Add to the intervals over all pages what other seeds would change."""
    if seeds < 2:  # noqa: PLR2004
        return paired
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * deviation / np.sqrt(seeds)
    return replace(paired, all=widened(paired.all, reach), macro=widened(paired.macro, reach))


def widened(value: Interval, reach: float) -> Interval:
    """Return an interval that holds another, independent cause: half widths add as squares."""
    low = value.mean - float(np.hypot(value.mean - value.low, reach))
    high = value.mean + float(np.hypot(value.high - value.mean, reach))
    return Interval(value.mean, low, high)


def seed_range(figures: Sequence[float]) -> str:
    """Return the smallest and largest of several figures as text; one alone as it is."""
    shown = [f"{figure:.4f}" for figure in (min(figures), max(figures))]
    return shown[0] if len(figures) == 1 else " to ".join(shown)
