"""An ablation as text, as one HTML page and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.atomic_text import write_text
from trainer.config_text import toml_value
from trainer.evaluation.bootstrap import DRAWS, Interval
from trainer.evaluation.evaluation import plain_json
from trainer.evaluation.evaluation_tables import bracketed
from trainer.reports.run_plots import plot_differences, plot_matrix
from trainer.reports.sheet import Section, Sheet, Table, write_sheet
from trainer.studies.ablation import BETTER, KEEP, AblatedPart, Ablation, seed_range
from trainer.studies.ablation_plan import FULL
from trainer.training.provenance import code_commit, command_line, describe_environment, now

_COLOURS = {KEEP: "win", BETTER: "loss"}


def write_ablation(out: Path, ablation: Ablation) -> tuple[Path, Path]:
    """Write `<out>/<name>.json` and `<out>/<name>.html`, each whole or not at all."""
    name = ablation.plan.name
    paths = out / f"{name}.json", out / f"{name}.html"
    write_text(paths[0], json.dumps(ablation_json(ablation), indent=1) + "\n")
    write_sheet(paths[1], ablation_sheet(ablation))
    return paths


def ablation_json(ablation: Ablation) -> dict[str, Any]:
    """Return plain JSON values; NaN as null."""
    plan = ablation.plan
    value = {
        "command": command_line(),
        "commit": code_commit(),
        "evaluated": now(),
        "environment": describe_environment(),
        "config": asdict(plan.full),
        "seeds": plan.seeds,
        "split": plan.split,
        "limits": asdict(plan.limits),
        "training_pages": ablation.pages,
        "data": ablation.data,
        "compared_pages": {task: int(one.pages.size) for task, one in ablation.figures.items()},
        "draws": DRAWS,
        "seed_deviation": ablation.seed_deviation,
        "limits_of_it": list(limits_of(ablation)),
        "parts": [
            {**asdict(part), "verdict": part.verdict if part.differences else None}
            for part in ablation.parts
        ],
        "origins": [asdict(origin) for origin in ablation.origins],
    }
    plain: dict[str, Any] = plain_json(value)
    return plain


def ablation_sheet(ablation: Ablation) -> Sheet:
    """Return the tables and pictures."""
    tasks = list(ablation.figures)
    full, *changed = ablation.parts
    verdicts = [_COLOURS.get(part.verdict, "tie") for part in changed]
    head = ("left out or changed", "set", "parameters", "seconds", *tasks, "verdict")
    rows = [_row(full, tasks), *(_row(part, tasks) for part in changed)]
    macro = [
        (part.name, *(bracketed(part.differences[task].macro, signed=True) for task in tasks))
        for part in changed
    ]
    sections = [
        Section(
            "What each part adds",
            (
                "The first row is NDCG@10 of the full network, the others are the full network "
                "minus the changed one: above zero the part helps.",
            ),
            (Table(head, tuple(rows), ("", *verdicts)),),
            tuple(
                plot_differences(
                    {part.name: part.differences[task].all for part in changed},
                    f"{task}: NDCG@10 of the full network minus the changed one",
                )
                for task in tasks
            ),
        ),
        Section(
            "Mean over categories",
            ("Every category counts the same, however few pages it has.",),
            (Table(("left out or changed", *tasks), tuple(macro)),),
        ),
        Section(
            "Per category",
            ("Bold where the interval of pages leaves zero out; blue helps, red hurts.",),
            (),
            tuple(
                plot_matrix(
                    {part.name: part.differences[task].by_category for part in changed},
                    f"{task}: full minus changed",
                )
                for task in tasks
            ),
        ),
    ]
    return Sheet(f"Ablation of {ablation.plan.full.name}", limits_of(ablation), tuple(sections))


def limits_of(ablation: Ablation) -> tuple[str, ...]:
    """Return what the figures rest on, and what they cannot say."""
    plan = ablation.plan
    pages = ", ".join(f"{surface} {count:,}" for surface, count in ablation.pages.items())
    compared = ", ".join(f"{task} {one.pages.size:,}" for task, one in ablation.figures.items())
    notes = [
        f"Training pages: {pages}. Compared on {plan.split} pages: {compared}. Seeds: "
        f"{plan.seeds}. Every network, and the trees beside it, had the same pages and passes.",
        f"Brackets are 95 % intervals of {DRAWS:,} paired bootstrap draws of shoppers.",
    ]
    if plan.seeds == 1:
        notes.append(
            "With one seed the intervals hold what other shoppers would change, not what another "
            "seed would: a small difference may be luck of the training."
        )
    else:
        spread = ", ".join(f"{task} {value:.4f}" for task, value in ablation.seed_deviation.items())
        notes.append(
            "Intervals over all pages and macro are widened by what other seeds would change; "
            f"standard deviation of a difference over seeds: {spread}."
        )
    if plan.limits.train:
        notes.append(
            "A share of the training pages: a part that needs many pages to learn shows less "
            "here than it would on all of them."
        )
    if plan.split == "test":
        notes.append("Test pages: figures for a reader; who chooses by them chooses on test pages.")
    return tuple(notes)


def _row(part: AblatedPart, tasks: list[str]) -> tuple[str, ...]:
    changed = ", ".join(f"{key} = {toml_value(value)}" for key, value in part.changed.items())
    figures = (
        [seed_range(part.seed_figures[task]) for task in tasks]
        if part.name == FULL
        else [_difference(part.differences[task].all) for task in tasks]
    )
    return (
        part.name,
        changed,
        f"{part.parameters:,}",
        f"{part.seconds:,.0f}",
        *figures,
        part.verdict if part.differences else "",
    )


def _difference(value: Interval) -> str:
    return bracketed(value, signed=True)
