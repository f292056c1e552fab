"""The few-shot table: transfer to each target from none, few and many of its pages, against alone.

Each part, an adaptation or a training alone, is kept once it is done, so a call that was stopped
goes on where it was, and one that asks for more computes only what is new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.atomic_text import write_text
from trainer.baselines.gbdt import GbdtBudget
from trainer.baselines.trees import surface_trees
from trainer.benchmark.kept_parts import Arrays, FinishedPart, Part, compute_parts
from trainer.benchmark.readme_section import replace_section
from trainer.encoding.page_draws import category_row, pages_with_positive, without_categories
from trainer.encoding.pageset import PageSet
from trainer.errors import TrainingError, TransferError
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.comparison import baseline_scores
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluation import Evaluation, to_json
from trainer.evaluation.evaluation_tables import bracketed
from trainer.reports.sheet import Section, Sheet, Table, table_markdown, write_sheet
from trainer.studies.adaptation import (
    Setting,
    adapt,
    alone_scores,
    alone_tree_scores,
    pretrain,
    shared_scores,
    target_scores,
)
from trainer.studies.transfer_comparison import (
    ALONE,
    ALONE_TREES,
    TRANSFER,
    ZERO_SHOT,
    target_page_set,
)
from trainer.studies.transfer_plots import plot_few_shot
from trainer.training.provenance import NETWORK_CODE, code_hash, command_line, describe_environment

SOURCE_TREES = "LightGBM, no page of it"
BEGIN = "<!-- few-shot: begin, written by `python -m trainer few-shot --readme` -->"
END = "<!-- few-shot: end -->"
_SCORES = "scores"
_ALL_TARGETS = "macro over targets"
_CODE = (*NETWORK_CODE, "studies/adaptation", "encoding/page_draws")


@dataclass(frozen=True, slots=True)
class FewShotBudget:
    """What the table may spend.

    Attributes:
        counts: Numbers of pages, 0 for none.
        draws: Draws of the pages, each with a training; a page's figure is their mean.
        trials: Settings that LightGBM tries.
        tree_every: The sources' trees learn from every so many-th page.
    """

    counts: tuple[int, ...] = (0, 10, 100, 1000)
    draws: int = 1
    trials: int = 4
    tree_every: int = 1


def few_shot_evaluation(setting: Setting, budget: FewShotBudget) -> Evaluation:
    """Compute every part, and evaluate: a task for each number of pages.

    A target with fewer pages than a number takes no part in that number's task.

    Raises:
        TransferError: When a number is negative or no target has so many pages.
    """
    if min(budget.counts) < 0:
        raise TransferError(f"pages: got {min(budget.counts)}, want 0 or more")
    source, _ = pretrain(setting)
    parts = list(_parts(setting, budget, source))
    finished = compute_parts(parts, setting.work / "few-shot", progress=setting.progress)
    page_sets: dict[str, PageSet] = {}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for count in budget.counts:
        targets = targets_with(setting, count)
        if not targets:
            raise TransferError(f"pages: got {count}, which no target has, want fewer")
        task, pages = task_name(count), target_page_set(setting, targets)
        page_sets[task] = pages
        for ranking, by_target in _assembled(finished, count, targets).items():
            scores.setdefault(ranking, {})[task] = scores_by_page(setting, pages, by_target)
    for ranking, by_task in baseline_scores(page_sets).items():
        scores[ranking] = dict(by_task)
    return evaluate(
        page_sets, scores, category_names=setting.log.schema.categories, network=TRANSFER
    )


def task_name(count: int) -> str:
    """Return what the table calls a number of pages."""
    return f"{count:,} pages"


def targets_with(setting: Setting, count: int) -> list[str]:
    """Return the targets that have so many training pages with a positive."""
    return [
        name
        for name in setting.config.held_out
        if pages_with_positive(
            setting.log, category_row(setting.log, name), "train", setting.surface
        ).size
        >= count
    ]


def _parts(setting: Setting, budget: FewShotBudget, source: Path) -> Iterator[Part]:
    """Yield every part, cheap ones first."""
    for target in setting.config.held_out:
        yield _shared_part(setting, source, target)
    yield _source_trees(setting, budget)
    for count in filter(None, budget.counts):
        for target in targets_with(setting, count):
            for draw in range(budget.draws):
                drawn = _with_seed(setting, draw)
                yield from _learned_parts(drawn, budget, source, target, count)


def _shared_part(setting: Setting, source: Path, target: str) -> Part:
    return _part(setting, ZERO_SHOT, [target], lambda: shared_scores(setting, source, target))


def _with_seed(setting: Setting, draw: int) -> Setting:
    return replace(setting, config=replace(setting.config, seed=setting.config.seed + draw))


def _learned_parts(
    setting: Setting, budget: FewShotBudget, source: Path, target: str, count: int
) -> Iterator[Part]:
    seed, trees = setting.config.seed, GbdtBudget(trials=budget.trials, threads=1)
    key = [target, count, seed]

    def transfer() -> np.ndarray:
        return target_scores(
            setting, adapt(setting, source, target, count, "random")[1].ranker, target
        )

    yield _part(setting, ALONE_TREES, [*key, budget.trials],
                lambda: alone_tree_scores(setting, target, count, "random", trees))  # fmt: skip
    yield _part(setting, TRANSFER, [*key, source.name], transfer)
    yield _part(setting, ALONE, key, lambda: _alone(setting, target, count))


def _alone(setting: Setting, target: str, count: int) -> np.ndarray | None:
    try:
        return alone_scores(setting, target, count, "random")
    except TrainingError:
        return None  # so few pages may give a loss that is no number


def _part(
    setting: Setting, ranking: str, key: list[Any], score: Callable[[], np.ndarray | None]
) -> Part:
    def compute() -> tuple[Arrays, dict[str, Any]]:
        scores = score()
        return ({} if scores is None else {_SCORES: scores}), {"untrained": scores is None}

    name = f"{ranking}, {', '.join(map(str, key))}"
    made_from = [key, setting.log.folder.name, asdict(setting.config), code_hash(_CODE)]
    return Part(name, made_from, compute)


def _source_trees(setting: Setting, budget: FewShotBudget) -> Part:
    """LightGBM of the sources' pages: what trees carry over without a page of the target."""

    def score() -> tuple[Arrays, dict[str, Any]]:
        log = without_categories(setting.log, setting.config.held_out)
        spend = GbdtBudget(trials=1, threads=1)
        trees = surface_trees(log, setting.surface, spend, every=budget.tree_every)
        pages = {name: target_page_set(setting, [name]) for name in setting.config.held_out}
        return {name: trees(of_target) for name, of_target in pages.items()}, {}

    made_from = [
        setting.log.folder.name,
        asdict(setting.config),
        budget.tree_every,
        code_hash(_CODE),
    ]
    return Part(SOURCE_TREES, made_from, score)


def _assembled(
    finished: Mapping[str, FinishedPart], count: int, targets: Sequence[str]
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Return ranking -> target -> scores of each draw, for one number of pages."""
    shared = {t: [finished[f"{ZERO_SHOT}, {t}"].arrays[_SCORES]] for t in targets}
    trees = {t: [finished[SOURCE_TREES].arrays[t]] for t in targets}
    rankings = {TRANSFER: shared, SOURCE_TREES: trees}
    if count == 0:
        return rankings
    rankings[ZERO_SHOT] = shared
    for ranking in (TRANSFER, ALONE, ALONE_TREES):
        rankings[ranking] = {t: _drawn(finished, ranking, t, count) for t in targets}
    return rankings


def _drawn(
    finished: Mapping[str, FinishedPart], ranking: str, target: str, count: int
) -> list[np.ndarray]:
    """Return the scores of each draw; 0 for all, so retrieval order, where nothing was learned."""
    start = f"{ranking}, {target}, {count}, "
    return [
        part.arrays.get(_SCORES, np.zeros(1))
        for name, part in finished.items()
        if name.startswith(start)
    ]


def scores_by_page(
    setting: Setting, pages: PageSet, by_target: Mapping[str, Sequence[np.ndarray]]
) -> np.ndarray:
    """Return scores of all targets' pages together, shape (draws, rows)."""
    draws = max(len(scores) for scores in by_target.values())
    together = np.zeros((draws, pages.candidates))
    first = pages.categories[pages.offsets[:-1]][pages.page_of_row]
    for target, scores in by_target.items():
        inside = first == category_row(setting.log, target)
        for draw in range(draws):
            together[draw, inside] = scores[draw % len(scores)]
    return together


def few_shot_sheet(setting: Setting, evaluation: Evaluation, notes: Sequence[str]) -> Sheet:
    """Return the table and the curves, over all targets and for each."""
    counts = {int(task.split()[0].replace(",", "")): task for task in evaluation.tasks}
    groups = [_ALL_TARGETS, *setting.config.held_out]
    curves: dict[str, dict[str, dict[int, Interval]]] = {group: {} for group in groups}
    for count, task in counts.items():
        for ranking, result in evaluation.tasks[task].rankings.items():
            if ranking in _SHOWN:
                values = {groups[0]: result.macro, **result.by_category}
                for group in groups:
                    if group in values:
                        curves[group].setdefault(ranking, {})[count] = values[group]
    sections = [
        Section(
            group,
            tables=(_table(evaluation, counts, group),),
            plots=(plot_few_shot(curves[group], group),),
        )
        for group in groups
        if curves[group]
    ]
    return Sheet("Few-shot transfer", tuple(notes), tuple(sections))


_SHOWN = (TRANSFER, ALONE, ALONE_TREES, SOURCE_TREES, "own repeat", "retrieval order")


def _table(evaluation: Evaluation, counts: Mapping[int, str], group: str) -> Table:
    """Return a row for each number of pages and ranking, with transfer minus it.

    A target has no row for more pages than it has; the rows of all say how many targets they are
    the mean of where these are not all.
    """
    rows, verdicts = [], []
    most = max(len(_categories(evaluation, task)) for task in counts.values())
    for count, task in counts.items():
        result, measured = evaluation.tasks[task], _categories(evaluation, task)
        told_count = f"{count:,}"
        if group == _ALL_TARGETS and len(measured) < most:
            told_count += f" ({len(measured)} of {most})"
        elif group != _ALL_TARGETS and group not in measured:
            continue
        for ranking in (name for name in _SHOWN if name in result.rankings):
            own, difference = result.rankings[ranking], result.differences.get(ranking)
            value = own.by_category.get(group, own.macro)
            told, verdict = "", ""
            if difference is not None:
                minus = difference.by_category.get(group, difference.macro)
                told, verdict = bracketed(minus, signed=True), minus.verdict
            rows.append((told_count, ranking, bracketed(value), told))
            verdicts.append(verdict)
    head = ("pages", "ranking", "NDCG@10", f"{TRANSFER} minus it")
    return Table(head, tuple(rows), tuple(verdicts))


def _categories(evaluation: Evaluation, task: str) -> Collection[str]:
    return evaluation.tasks[task].rankings[TRANSFER].by_category


def write_few_shot(
    path: Path, setting: Setting, budget: FewShotBudget, evaluation: Evaluation
) -> Sheet:
    """Write the figures as JSON, and beside them the sheet as HTML; return the sheet."""
    training = without_categories(setting.log, setting.config.held_out)
    count = training.pages_of("train", setting.surface).size
    learned = min(count, setting.config.max_pages or count)
    times = "once" if budget.draws == 1 else f"{budget.draws} times"
    notes = (
        f"{len(setting.sources)} source categories, {learned:,} of their {count:,} training pages "
        f"of {setting.surface}; pages of a target drawn at random {times}, as many "
        "validation pages to stop by.",
        command_line(),
    )
    sheet = few_shot_sheet(setting, evaluation, notes)
    told = {
        "command": command_line(),
        "config": asdict(setting.config),
        "budget": asdict(budget),
        "targets": list(setting.config.held_out),
        "source_pages": {"learned": learned, "all": count},
        "environment": describe_environment(),
        "evaluation": to_json(evaluation),
    }
    write_text(path, json.dumps(told, indent=1) + "\n")
    write_sheet(path.with_suffix(".html"), sheet)
    return sheet


def write_few_shot_section(readme: Path, sheet: Sheet) -> None:
    """Replace what stands between the markers of `readme` by the table over all targets.

    Raises:
        ConfigError: When the markers are not there.
    """
    all_targets = sheet.sections[0]
    told = [*sheet.notes[:-1], f"`{sheet.notes[-1]}`"]
    parts = [table_markdown(all_targets.tables[0]), f"Mean over targets. {' '.join(told)}"]
    replace_section(readme, BEGIN, END, "\n\n".join(parts))
