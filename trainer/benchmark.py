"""The measured table: every ranking on every task, from one run, with its command and machine."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.atomic_text import write_text
from trainer.baselines import BASELINES
from trainer.calibration import BeforeAfter, compare_calibration
from trainer.config import TrainConfig, read_config
from trainer.encoded import EncodedLog
from trainer.errors import TrainingError
from trainer.evaluate import evaluate
from trainer.evaluation import Evaluation, to_json
from trainer.export import trainer_commit
from trainer.gbdt import GbdtBudget, sample_settings, train_gbdt, train_single_category
from trainer.network import score_pages
from trainer.pageset import PageSet, encoded_pages
from trainer.pipeline import Run, prepare_and_encode, run_training
from trainer.report import describe_environment, read_training_log, write_report
from trainer.tasks import TASKS, best_weights, served_scores
from trainer.train import LOG
from trainer.trees import surface_trees

NETWORK = "CrossRank"
TREES = "LightGBM"
SINGLE = "CrossRank, single category"
SINGLE_TREES = "LightGBM, single category"
SMALL_CATEGORIES = 6
_SINGLE_EPOCHS = 4  # a category's pages are few; more passes, stopped early


@dataclass(frozen=True, slots=True)
class BenchmarkBudget:
    """What a benchmark may spend.

    Attributes:
        seeds: Trainings of the network; a page's figure is their mean.
        trials: Settings that LightGBM tries on each task.
        single_category: Whether to train trees per category, and networks for the smallest
            categories, as well.
    """

    seeds: int = 1
    trials: int = 2
    single_category: bool = True


def run_benchmark(
    config_path: Path, work: Path, out: Path, budget: BenchmarkBudget, *, progress: bool
) -> Evaluation:
    """Train and evaluate everything, and write `<out>/<name>.json` and the HTML report.

    What is trained is kept under `work`, so a run that was stopped goes on where it was.

    Args:
        config_path: The run's TOML.
        work: Where prepared data, runs and scores are kept.
        out: Where the results go.
        budget: What it may spend.
        progress: Whether to draw progress bars.
    """
    config = read_config(config_path)
    log = prepare_and_encode(config_path, config, work, progress=progress)
    tasks = {task: name for task, name in TASKS.items() if name in config.surfaces}
    page_sets = {task: encoded_pages(log, "test", name) for task, name in tasks.items()}
    page_sets = {task: pages for task, pages in page_sets.items() if pages.pages}
    seeds = [replace(config, seed=config.seed + number) for number in range(budget.seeds)]
    runs = [run_training(seeded, log, work, progress=progress) for seeded in seeds]
    kept = _Kept(runs[0].folder / "scores")
    scores: dict[str, dict[str, np.ndarray]] = {NETWORK: {}}
    for task in list(page_sets):
        surface = tasks[task]
        scores[NETWORK][task] = np.stack([_network_scores(run, log, surface) for run in runs])
        for name, ranking in BASELINES.items():
            scores.setdefault(name, {})[task] = ranking(page_sets[task])
        for name, values in _tree_scores(log, surface, page_sets[task], budget, kept).items():
            scores.setdefault(name, {})[task] = values
    if "Promotion" in page_sets:
        _add_never_bought(page_sets, scores, runs, log, budget, kept)
    if budget.single_category and "Search" in page_sets:
        _add_small_categories(page_sets, scores, config, log, work, progress=progress)
    evaluation = evaluate(page_sets, scores, category_names=log.schema.categories, network=NETWORK)
    calibration = _calibration(runs[0], log, tasks)
    _write(config, config_path, runs, evaluation, calibration, budget, out)
    return evaluation


def _network_scores(run: Run, log: EncodedLog, surface: str) -> np.ndarray:
    pages = log.pages_of("test", surface)
    logits = score_pages(run.ranker, run.catalogue, log, pages)
    categories = encoded_pages(log, "test", surface).categories
    return served_scores(logits, categories, run.calibration, run.objective_weights[surface])


def _add_never_bought(
    page_sets: dict[str, PageSet],
    scores: dict[str, dict[str, np.ndarray]],
    runs: list[Run],
    log: EncodedLog,
    budget: BenchmarkBudget,
    kept: _Kept,
) -> None:
    """Add the task of promotion pages without what the shopper bought before.

    Trees are trained anew on such pages; the network is the same, with the weights of its
    heads chosen on such validation pages.
    """
    whole = page_sets["Promotion"]
    flags, name = whole.discovery_rows(), "Promotion, never bought"
    page_sets[name] = whole.discovery()
    for ranking, by_task in scores.items():
        if "Promotion" in by_task and ranking not in {NETWORK, TREES}:
            by_task[name] = by_task["Promotion"][flags]
    scores[NETWORK][name] = np.stack([_never_bought_scores(run, log)[flags] for run in runs])

    def compute() -> dict[str, np.ndarray]:
        train, held = (
            encoded_pages(log, split, "promotion").discovery() for split in ("train", "validation")
        )
        spend = GbdtBudget(trials=budget.trials, threads=len(os.sched_getaffinity(0)))
        return {TREES: train_gbdt(train, held, log.schema.objectives[0], spend)(page_sets[name])}

    trees = kept.get(f"trees-never-bought-{budget.trials}", compute)
    scores[TREES][name] = trees[TREES]


def _never_bought_scores(run: Run, log: EncodedLog) -> np.ndarray:
    """Return scores of the test promotion pages with weights chosen for never-bought products."""
    held = encoded_pages(log, "validation", "promotion")
    flags = held.discovery_rows()
    pages = log.pages_of("validation", "promotion")
    logits = score_pages(run.ranker, run.catalogue, log, pages)[flags]
    weights = best_weights(logits, held.discovery(), run.calibration)
    test = encoded_pages(log, "test", "promotion")
    logits = score_pages(run.ranker, run.catalogue, log, log.pages_of("test", "promotion"))
    return served_scores(logits, test.categories, run.calibration, weights)


class _Kept:
    """Scores on disk, computed once."""

    def __init__(self, folder: Path) -> None:
        """Keep scores in `folder`."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays kept as `name`, computing them the first time."""
        path = self._folder / f"{name}.npz"
        if not path.exists():
            temporary = path.with_suffix(".unfinished.npz")
            np.savez(temporary, allow_pickle=False, **compute())
            temporary.replace(path)
        with np.load(path) as arrays:
            return dict(arrays.items())


def _tree_scores(
    log: EncodedLog, surface: str, test: PageSet, budget: BenchmarkBudget, kept: _Kept
) -> dict[str, np.ndarray]:
    """Return LightGBM's scores: over all categories, and one model per category."""
    spend = GbdtBudget(trials=budget.trials, threads=len(os.sched_getaffinity(0)))

    def pooled() -> dict[str, np.ndarray]:
        return {TREES: surface_trees(log, surface, spend)(test)}

    def single() -> dict[str, np.ndarray]:
        model = train_single_category(
            encoded_pages(log, "train", surface),
            encoded_pages(log, "validation", surface),
            log.schema.objectives[0],
            spend,
            sample_settings(1, spend.seed)[0],
        )
        return {SINGLE_TREES: model(test)}

    scores = kept.get(f"trees-{surface}-{budget.trials}", pooled)
    if budget.single_category and surface != "promotion":  # its pages mix categories
        scores |= kept.get(f"trees-{surface}-single", single)
    return scores


def _add_small_categories(
    page_sets: dict[str, PageSet],
    scores: dict[str, dict[str, np.ndarray]],
    config: TrainConfig,
    log: EncodedLog,
    work: Path,
    *,
    progress: bool,
) -> None:
    """Add the task of the smallest categories' search pages, with a network for each alone.

    Small is a category with few training pages: there a network of its own has least to learn
    from, and the shared one most to give.
    """
    train = log.pages_of("train", "search")
    counts = np.bincount(log.categories[log.offsets[train]], minlength=len(log.schema.categories))
    present = np.flatnonzero(counts)
    small = present[np.argsort(counts[present], kind="stable")][:SMALL_CATEGORIES]
    search = page_sets["Search"]
    pages = np.isin(search.page_categories(), small)
    rows = pages[search.page_of_row]
    name = "Search, small categories"
    page_sets[name] = search.select(pages)
    for by_task in scores.values():
        if "Search" in by_task:
            by_task[name] = by_task["Search"][..., rows]
    alone = np.zeros(search.candidates)
    for row in small:
        category = log.schema.categories[row]
        single = replace(
            config,
            name=f"{config.name}-{category}",
            categories=(category,),
            surfaces=tuple(surface for surface in config.surfaces if surface != "promotion"),
            epochs=_SINGLE_EPOCHS,
            evaluations_per_epoch=1,
            patience=2,
        )
        try:
            run = run_training(single, log, work, progress=progress)
        except TrainingError:
            continue  # no page to learn from or to stop by: it keeps retrieval order
        inside = search.categories == row
        alone[inside] = _network_scores(run, log, "search")[inside]
    scores[SINGLE] = {name: alone[rows]}


def _calibration(run: Run, log: EncodedLog, tasks: dict[str, str]) -> list[BeforeAfter]:
    """Return calibration on the pages that mix categories, or on all when none do."""
    surface = "promotion" if "promotion" in tasks.values() else next(iter(tasks.values()))
    pages = log.pages_of("test", surface)
    test = encoded_pages(log, "test", surface)
    return compare_calibration(
        score_pages(run.ranker, run.catalogue, log, pages),
        test.labels,
        test.categories,
        run.calibration,
        category_names=log.schema.categories,
        objectives=log.schema.objectives,
    )


def _write(
    config: TrainConfig,
    config_path: Path,
    runs: list[Run],
    evaluation: Evaluation,
    calibration: list[BeforeAfter],
    budget: BenchmarkBudget,
    out: Path,
) -> None:
    environment = {
        **describe_environment(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
    }
    command = f"python -m trainer benchmark --config {config_path.name}"
    command += f" --seeds {budget.seeds} --trials {budget.trials}"
    command += "" if budget.single_category else " --pooled-only"
    value: dict[str, Any] = {
        "command": command,
        "commit": trainer_commit(),
        "environment": environment,
        "config": asdict(config),
        "budget": asdict(budget),
        "steps": [run.result.progress.step for run in runs],
        "seeds": [run.config.seed for run in runs],
        "objective_weights": runs[0].objective_weights,
        "parameters": sum(int(np.prod(item.shape)) for item in runs[0].ranker.parameters()),
        "cleaning": runs[0].log.prepared.manifest["cleaning"],
        "pages": runs[0].log.prepared.manifest["pages"],
        "calibration": [_calibration_line(row) for row in calibration],
        "evaluation": to_json(evaluation),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"{config.name}.json", json.dumps(value, indent=1) + "\n")
    write_report(
        runs[0].folder / "report.html",
        evaluation,
        title=f"CrossRank: {config.name}",
        command=" ".join(["python", "-m", "trainer", *sys.argv[1:]]),
        environment=environment,
        training=read_training_log(runs[0].folder / LOG),
        calibration=calibration,
    )


def _calibration_line(row: BeforeAfter) -> dict[str, Any]:
    return {
        "category": row.category,
        "objective": row.objective,
        "candidates": row.before.rows,
        "positives": row.before.positives,
        "error_before": row.before.error,
        "error_after": row.after.error,
    }
