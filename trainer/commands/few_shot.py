"""`few-shot`: the table of transfer to each target from none, few and many of its pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.pretrain import add_targets, setting_of
from trainer.commands.run_options import add_run_options

NAME = "few-shot"
HELP = "measure transfer to each target from none, few and many of its pages, against alone"

_RESULTS = Path("tests/benchmarks/results/few-shot.json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, of the targets and of a budget."""
    add_run_options(parser)
    add_targets(parser)
    parser.add_argument(
        "--pages",
        type=int,
        nargs="+",
        default=[0, 10, 100, 1000],
        metavar="COUNT",
        help="numbers of a target's pages (default: 0 10 100 1000)",
    )
    parser.add_argument(
        "--draws", type=int, default=1, help="draws of these pages (default: %(default)s)"
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=4,
        help="settings that LightGBM tries on a target's pages (default: %(default)s)",
    )
    parser.add_argument(
        "--tree-every",
        type=int,
        default=1,
        help="the sources' LightGBM learns from every so many-th page (default: %(default)s)",
    )
    parser.add_argument(
        "--readme", type=Path, help="Markdown file whose few-shot table is replaced by this one"
    )
    parser.add_argument(
        "--out", type=Path, default=_RESULTS, help="JSON file (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Measure; print the table and where it lies."""
    from trainer.errors import TransferError
    from trainer.reports.sheet import sheet_text
    from trainer.studies.few_shot import (
        FewShotBudget,
        few_shot_evaluation,
        write_few_shot,
        write_few_shot_section,
    )

    for name in ("draws", "trials", "tree_every"):
        if getattr(options, name) < 1:
            raise TransferError(f"{name}: got {getattr(options, name)}, want 1 or more")
    setting = setting_of(options)
    counts = tuple(dict.fromkeys(options.pages))
    budget = FewShotBudget(counts, options.draws, options.trials, options.tree_every)
    evaluation = few_shot_evaluation(setting, budget)
    sheet = write_few_shot(options.out, setting, budget, evaluation)
    if options.readme is not None:
        write_few_shot_section(options.readme, sheet)
    print(f"{sheet_text(sheet)}\n\nresults: {options.out}")
    return 0
