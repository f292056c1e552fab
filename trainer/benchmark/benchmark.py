"""The measured table: every ranking on every task, from one command.

Each part is kept once it is done, so a benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from trainer.baselines.single_category import trained_categories
from trainer.benchmark.kept_parts import FinishedPart, compute_parts
from trainer.benchmark.parts import (
    ITEM_KNN,
    BenchmarkBudget,
    BenchmarkParts,
    network_part,
    single_network_part,
    single_trees_part,
    without_guard,
)
from trainer.benchmark.results import write_results
from trainer.config import read_config, run_objectives
from trainer.encoding.encoded import with_objectives
from trainer.encoding.pageset import PageSet
from trainer.evaluation.comparison import NETWORK, TREES, baseline_scores
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluation import Evaluation
from trainer.guard.guard import guard_from_json
from trainer.guard.report import GuardFigures, guard_effects, single_category_promises
from trainer.pipeline import prepare_and_encode

SINGLE = "CrossRank, single category"
SINGLE_TREES = "LightGBM, single category"


def run_benchmark(
    config_path: Path, work: Path, out: Path, budget: BenchmarkBudget, *, progress: bool
) -> Evaluation:
    """Train and evaluate everything, and write `<out>/<name>.json` and the HTML report.

    Args:
        config_path: The run's TOML.
        work: Where prepared data, runs and finished parts are kept.
        out: Where the results go.
        budget: What it may spend.
        progress: Whether to draw progress bars and name each part.

    Raises:
        EvaluationError: When no surface of the run has a test page.
    """
    config = read_config(config_path)
    whole = prepare_and_encode(config_path, config, work, progress=progress)
    log = with_objectives(whole, run_objectives(config))
    benchmark = BenchmarkParts.of(config, log, work, budget, progress=progress)
    finished = compute_parts(benchmark.parts(), work / "benchmark", progress=progress)
    page_sets, scores = _assemble(benchmark, finished)
    evaluation = evaluate(page_sets, scores, category_names=log.schema.categories, network=NETWORK)
    guard = _guard_figures(benchmark, finished, page_sets, scores[NETWORK], evaluation)
    write_results(
        out,
        config_path,
        config,
        asdict(budget),
        evaluation,
        guard=guard,
        finished=list(finished.values()),
        manifest=log.prepared.manifest,
        work=work,
    )
    return evaluation


def _assemble(
    benchmark: BenchmarkParts, finished: Mapping[str, FinishedPart]
) -> tuple[dict[str, PageSet], dict[str, dict[str, np.ndarray]]]:
    """Return the pages of every task, and the scores of every ranking on them."""
    page_sets = dict(benchmark.page_sets)
    networks = [finished[network_part(seed)].arrays for seed in benchmark.seeds]
    scores: dict[str, dict[str, np.ndarray]] = {
        NETWORK: {task: np.stack([arrays[task] for arrays in networks]) for task in page_sets},
        **baseline_scores(page_sets),
        ITEM_KNN: {},
        TREES: {},
    }
    for task in benchmark.tasks:
        scores[ITEM_KNN] |= finished[f"{ITEM_KNN}, {task}"].arrays
    for task in page_sets:
        scores[TREES] |= finished[f"{TREES}, {task}"].arrays
    if benchmark.budget.single_category:
        _add_single_trees(benchmark, scores, finished)
        _add_small_categories(benchmark, page_sets, scores, finished)
    return page_sets, scores


def _guard_figures(
    benchmark: BenchmarkParts,
    finished: Mapping[str, FinishedPart],
    page_sets: Mapping[str, PageSet],
    served: Mapping[str, np.ndarray],
    evaluation: Evaluation,
) -> GuardFigures:
    """Return the choices of the first seed, and what the guards of all seeds did on test pages."""
    networks = [finished[network_part(seed)] for seed in benchmark.seeds]
    guards = [guard_from_json(part.facts["guard"]) for part in networks]
    default, switched = {}, {}
    for task, surface in benchmark.tasks.items():
        switched[task] = frozenset(
            choice.category
            for choices in guards
            for choice in choices
            if choice.switched and choice.surface == surface
        )
        if switched[task]:
            default[task] = np.stack(
                [
                    part.arrays.get(without_guard(task), served[task][seed])
                    for seed, part in enumerate(networks)
                ]
            )
    effects = guard_effects(page_sets, served, default, switched, benchmark.log.schema.categories)
    promises = single_category_promises(evaluation, (SINGLE_TREES, SINGLE))
    return GuardFigures(tuple(guards[0]), tuple(effects), tuple(promises))


def _add_single_trees(
    benchmark: BenchmarkParts,
    scores: dict[str, dict[str, np.ndarray]],
    finished: Mapping[str, FinishedPart],
) -> None:
    """Put the trees of single categories together; without trees retrieval order stays."""
    for task, surface in benchmark.tasks.items():
        if surface in benchmark.mixed:
            continue
        pages = benchmark.page_sets[task]
        of_rows = benchmark.of_pages[benchmark.log.pages_of("test", surface)][pages.page_of_row]
        together = np.zeros(pages.candidates)
        for row in trained_categories(benchmark.log, surface, benchmark.of_pages).tolist():
            kept = finished[single_trees_part(task, benchmark.name(row))].arrays
            if task in kept:
                together[of_rows == row] = kept[task]
        scores.setdefault(SINGLE_TREES, {})[task] = together


def _add_small_categories(
    benchmark: BenchmarkParts,
    page_sets: dict[str, PageSet],
    scores: dict[str, dict[str, np.ndarray]],
    finished: Mapping[str, FinishedPart],
) -> None:
    """Add the task of the smallest categories' pages, with a network for each alone."""
    small, task = benchmark.small(), benchmark.single_task
    if task is None or not small:
        return
    pages, name = page_sets[task], f"{task}, small categories"
    of_pages = benchmark.of_pages[benchmark.log.pages_of("test", benchmark.tasks[task])]
    chosen = np.isin(of_pages, small)
    if not chosen.any():
        return
    inside = chosen[pages.page_of_row]
    page_sets[name] = pages.select(chosen)
    for by_task in scores.values():
        if task in by_task:
            by_task[name] = by_task[task][..., inside]
    of_rows = of_pages[pages.page_of_row][inside]
    alone = np.zeros((benchmark.budget.seeds, of_rows.size))
    for number, seed in enumerate(benchmark.seeds):
        for row in small:
            kept = finished[single_network_part(benchmark.name(row), seed)].arrays
            alone[number, of_rows == row] = kept[task]
    scores[SINGLE] = {name: alone}
