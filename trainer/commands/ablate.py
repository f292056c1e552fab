"""`ablate`: one network in full and one for each thing changed, compared page by page."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from trainer.commands.run_options import PLANS, add_mlflow_option, add_work_option

NAME = "ablate"
HELP = "train with one thing left out at a time, tell what each adds"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the plan, where results go, and what narrows the plan."""
    parser.add_argument(
        "--plan",
        type=Path,
        default=PLANS / "ablation.toml",
        help="TOML file of what is changed (default: %(default)s)",
    )
    add_work_option(parser)
    add_mlflow_option(parser)
    parser.add_argument(
        "--out", type=Path, help="folder of the JSON and the page (default: <work>/ablation)"
    )
    parser.add_argument("--seeds", type=int, help="trainings of each (default: the plan's)")
    parser.add_argument(
        "--only", action="append", metavar="CHANGE", help="this change alone; may be repeated"
    )


def run(options: argparse.Namespace) -> int:
    """Run the ablation; print its tables and where they lie."""
    from trainer.reports.sheet import sheet_text
    from trainer.studies.ablation import run_ablation
    from trainer.studies.ablation_plan import AblationError, only, read_plan, sent_to
    from trainer.studies.ablation_report import ablation_sheet, write_ablation

    plan = read_plan(options.plan)
    if options.seeds is not None:
        if options.seeds < 1:
            raise AblationError(f"seeds: got {options.seeds}, want 1 or more")
        plan = replace(plan, seeds=options.seeds)
    if options.only:
        plan = only(plan, tuple(options.only))
    if options.mlflow:
        plan = sent_to(plan, options.mlflow)
    ablation = run_ablation(plan, options.work, progress=True)
    paths = write_ablation(options.out or options.work / "ablation", ablation)
    print(sheet_text(ablation_sheet(ablation)))
    print("\n" + "\n".join(map(str, paths)))
    return 0
