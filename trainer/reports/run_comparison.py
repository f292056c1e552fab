"""Two runs beside each other: settings, curves, figures page by page, cost; losses like wins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_server.contract.errors import RerankError
from trainer.evaluation.evaluation_tables import bracketed
from trainer.evaluation.page_figures import PairedDifference, paired_figures, read_figures
from trainer.reports.report import read_training_log
from trainer.reports.run_plots import plot_curves, plot_differences
from trainer.reports.run_report import FIGURES, shown_value
from trainer.reports.sheet import Section, Sheet, Table
from trainer.training.run_facts import CURVES, RunFacts, read_run

ABSENT = "not there"


class RunComparisonError(RerankError):
    """Two runs that cannot be compared."""


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs on the same data.

    Attributes:
        names: What each is called here: its folder's name.
        facts: Of each.
        settings: Settings that differ, with both values.
        tasks: Tasks of both, the first run minus the second.
        left_out: Tasks that only one of them has.
        curves: Lines of each run's training log.
    """

    names: tuple[str, str]
    facts: tuple[RunFacts, RunFacts]
    settings: dict[str, tuple[str, str]]
    tasks: dict[str, PairedDifference]
    left_out: tuple[str, ...]
    curves: tuple[list[dict[str, float]], list[dict[str, float]]]


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compare two runs by what their folders hold.

    Raises:
        RunFolderError: When one holds no run, or other files than the run's.
        RunComparisonError: When they are one run, not of the same data or test pages, or not
            evaluated.
    """
    if first.resolve() == second.resolve():
        raise RunComparisonError(f"runs: got {first} twice, want two")
    folders = (first, second)
    facts = (read_run(first), read_run(second))
    _check_data(facts, folders)
    for folder in folders:
        if not (folder / FIGURES).exists():
            raise RunComparisonError(
                f"{folder}: got no {FIGURES} there, want a run that `evaluate` has compared with "
                "other rankings"
            )
    figures = [read_figures(folder / FIGURES) for folder in folders]
    both = [task for task in figures[0] if task in figures[1]]
    for task in both:
        sizes = [one[task].pages.size for one in figures]
        if not np.array_equal(figures[0][task].pages, figures[1][task].pages):
            raise RunComparisonError(
                f"test pages of {task}: got {sizes[0]:,} and {sizes[1]:,} that are not the same, "
                "want runs of the same pages"
            )
    if not both:
        raise RunComparisonError(
            f"tasks: got {', '.join(figures[0])} and {', '.join(figures[1])}, want one in common"
        )
    return RunComparison(
        names=(first.resolve().name, second.resolve().name),
        facts=facts,
        settings=setting_differences(*facts),
        tasks={task: paired_figures(figures[0][task], figures[1][task]) for task in both},
        left_out=tuple(task for one in figures for task in one if task not in both),
        curves=(read_training_log(first / CURVES), read_training_log(second / CURVES)),
    )


def _check_data(facts: tuple[RunFacts, RunFacts], folders: tuple[Path, Path]) -> None:
    hashes = [one.data.content_hash for one in facts]
    if hashes[0] != hashes[1]:
        raise RunComparisonError(
            f"data: got {folders[0].name} of {hashes[0][:12]} and {folders[1].name} of "
            f"{hashes[1][:12]}, want two runs of the same prepared log; figures of other pages "
            "say nothing of the runs"
        )


def setting_differences(first: RunFacts, second: RunFacts) -> dict[str, tuple[str, str]]:
    """Return the settings that differ, and what else decides a network: features and code."""
    told = {}
    for key in dict.fromkeys([*first.config, *second.config]):
        sides = [
            shown_value(one.config[key]) if key in one.config else ABSENT for one in (first, second)
        ]
        if sides[0] != sides[1]:
            told[key] = (sides[0], sides[1])
    others = {
        "(features of the pages)": [one.data.encoded for one in (first, second)],
        "(code of the network)": [one.calls[-1].code[:12] for one in (first, second)],
    }
    told |= {name: (a, b) for name, (a, b) in others.items() if a != b}
    return told


def comparison_sheet(compared: RunComparison) -> Sheet:
    """Return the comparison as tables and pictures."""
    names = compared.names
    notes = [
        f"First: {names[0]}. Second: {names[1]}. Differences are first minus second: a win is "
        "one of the first, a loss one of the second.",
        "Brackets are 95 % intervals of paired bootstrap draws of shoppers; what another seed "
        "would change is not in them. Under some 50 pages an interval is narrower than the truth.",
    ]
    if compared.left_out:
        notes.append(f"Left out, only one run has it: {', '.join(compared.left_out)}.")
    sections = [
        Section("Settings that differ", *_settings(compared)),
        Section("Figures", tables=(_figures(compared),)),
        Section("Won and lost", text=_verdicts(compared)),
        *(
            Section(
                f"{task} per category",
                tables=(_categories(paired),),
                plots=(plot_differences(paired.by_category, f"{task}: first minus second"),),
            )
            for task, paired in compared.tasks.items()
        ),
        Section("Cost", tables=(_cost(compared),)),
        Section("Curves", plots=(plot_curves(dict(zip(names, compared.curves, strict=True))),)),
    ]
    return Sheet(f"{names[0]} and {names[1]}", tuple(notes), tuple(sections))


def _settings(compared: RunComparison) -> tuple[tuple[str, ...], tuple[Table, ...]]:
    if not compared.settings:
        return ("None.",), ()
    rows = tuple((key, *values) for key, values in compared.settings.items())
    return (), (Table(("setting", "first", "second"), rows),)


def _figures(compared: RunComparison) -> Table:
    rows, verdicts = [], []
    for task, paired in compared.tasks.items():
        for place, value in (("all pages", paired.all), ("macro", paired.macro)):
            whole = place == "all pages"
            rows.append(
                (
                    f"{task}, {place}",
                    bracketed(paired.first) if whole else "",
                    bracketed(paired.second) if whole else "",
                    bracketed(value, signed=True),
                    value.verdict,
                )
            )
            verdicts.append(value.verdict)
    return Table(
        ("NDCG@10", "first", "second", "first minus second", "verdict"),
        tuple(rows),
        tuple(verdicts),
    )


def _categories(paired: PairedDifference) -> Table:
    ordered = sorted(paired.by_category.items(), key=lambda item: -item[1].mean)
    return Table(
        ("category", "pages", "first minus second", "verdict"),
        tuple(
            (
                name,
                f"{paired.category_pages[name]:,.0f}",
                bracketed(value, signed=True),
                value.verdict,
            )
            for name, value in ordered
        ),
        tuple(value.verdict for _, value in ordered),
    )


def _verdicts(compared: RunComparison) -> tuple[str, ...]:
    """Say for each task where the first run wins and where it loses, the one beside the other."""
    told = []
    for task, paired in compared.tasks.items():
        by_verdict: dict[str, list[str]] = {"win": [], "loss": [], "tie": []}
        for name, value in paired.by_category.items():
            by_verdict[value.verdict].append(name)
        won, lost = (", ".join(by_verdict[verdict]) or "none" for verdict in ("win", "loss"))
        told.append(
            f"{task}: the first wins {len(by_verdict['win'])} categories ({won}), loses "
            f"{len(by_verdict['loss'])} ({lost}), {len(by_verdict['tie'])} are undecided."
        )
    return tuple(told)


def _cost(compared: RunComparison) -> Table:
    rows = []
    for name, facts in zip(compared.names, compared.facts, strict=True):
        result = facts.result
        machine = facts.calls[-1].environment.get("machine", "unknown")
        rows.append(
            (
                name,
                f"{facts.seconds:,.0f}",
                f"{result.steps:,}" if result else "not finished",
                f"{result.parameters:,}" if result else "",
                f"{result.peak_mib:,.0f}" if result else "",
                machine,
            )
        )
    return Table(("run", "seconds", "steps", "parameters", "peak MiB", "machine"), tuple(rows))
