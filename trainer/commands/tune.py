"""`tune`: settings searched within a budget, by one process or several."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.run_options import PLANS, add_mlflow_option, add_run_options
from trainer.config import read_config, read_toml

if TYPE_CHECKING:
    from trainer.studies.tuning import Tuning

NAME = "tune"
HELP = "search settings within a budget, or go on with a search"

_ARMS = ("network", "trees", "single")
_PRUNERS = ("median", "hyperband", "none")
_SPLITS = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, the space, the budget and the pages."""
    add_run_options(parser)
    add_mlflow_option(parser)
    parser.add_argument(
        "--space",
        type=Path,
        default=PLANS / "search_space.toml",
        help="TOML file of what is searched (default: %(default)s)",
    )
    parser.add_argument(
        "--arm",
        choices=_ARMS,
        default="network",
        help="what is tuned: the network, LightGBM, or a network of each single category "
        "(default: %(default)s)",
    )
    parser.add_argument("--study", help="names the study (default: the run's name)")
    parser.add_argument(
        "--trials", type=int, default=30, help="of all calls together (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        help="of all calls and processes together; 0 sets no limit (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes at once (default: %(default)s)"
    )
    parser.add_argument(
        "--pruner",
        choices=_PRUNERS,
        default="median",
        help="ends trials that fall behind (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument(
        "--pages",
        type=int,
        nargs=_SPLITS,
        default=[0, 0],
        metavar=("TRAIN", "VALIDATION"),
        help="most pages of each surface; 0 takes all (default: 0 0)",
    )
    parser.add_argument(
        "--category",
        action="append",
        default=[],
        help="of the arm single: a category learned alone; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Search; print the trials and where the page and the best setting lie."""
    cores = len(os.sched_getaffinity(0))
    threads = max(cores // max(options.workers, 1), 1)
    if options.workers > 1:  # read by the processes when they start
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from trainer.reports.sheet import sheet_text
    from trainer.studies.tuning import tune
    from trainer.studies.tuning_report import write_tuning

    tuning = _tuning(options, threads)
    study = tune(tuning, workers=options.workers, progress=True)
    sheet, page, best = write_tuning(tuning, tuning.plan.open(progress=False), study)
    print(sheet_text(sheet))
    print(f"\n{page}\n{best}")
    return 0


def _tuning(options: argparse.Namespace, threads: int) -> Tuning:
    """Return what the options ask for.

    Raises:
        TuningError: When categories and arm do not fit together.
    """
    from trainer.encoding.log_share import PageLimits
    from trainer.studies.search_space import read_spaces
    from trainer.studies.tuning import Tuning
    from trainer.studies.tuning_arms import ArmPlan
    from trainer.studies.tuning_study import TuningBudget, TuningError

    config = read_config(options.config)
    if (options.arm == "single") != bool(options.category):
        got = ", ".join(options.category) or "none"
        raise TuningError(
            f"category: got {got} with arm {options.arm}, want --category with --arm single, "
            "and only there"
        )
    if min(options.pages) < 0:
        raise TuningError(f"pages: got {options.pages}, want 0 (all) or more of each split")
    base = {**read_toml(options.config), "name": f"{config.name}-{options.study or 'tuned'}"}
    if options.mlflow:
        base["mlflow"] = options.mlflow
    plan = ArmPlan(
        name=options.arm,
        config_path=options.config,
        base=base,
        work=options.work,
        limits=PageLimits(train=options.pages[0], validation=options.pages[1]),
        categories=tuple(options.category),
        spaces=read_spaces(options.space),
        threads=threads,
    )
    return Tuning(
        plan=plan,
        study=options.study or config.name,
        budget=TuningBudget(options.trials, options.seconds),
        pruner=options.pruner,
        seed=options.seed,
    )
