"""`evaluate`: the network against other rankings, as figures and as a report."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from trainer.commands.run_options import add_mlflow_option, add_run_options, trained
from trainer.training.provenance import command_line

if TYPE_CHECKING:
    from trainer.evaluation.comparison import Comparison
    from trainer.evaluation.trade_off import TradeOff
    from trainer.pipeline import Run

NAME = "evaluate"
HELP = "compare the network with other rankings, write a report"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, and the pair of a trade-off."""
    add_run_options(parser)
    add_mlflow_option(parser)
    parser.add_argument(
        "--trade-off",
        nargs=2,
        action="append",
        default=[],
        metavar=("FIRST", "SECOND"),
        help="draw what one objective costs the other as weight goes over; may be repeated",
    )
    parser.add_argument(
        "--baselines",
        default="",
        metavar="NAMES",
        help="more rankings to compare with, separated by commas: item-knn, user-knn, "
        "session-knn, decayed-popularity",
    )


def run(options: argparse.Namespace) -> int:
    """Evaluate; print the tables and where the report lies."""
    from trainer.baselines.log_rankings import chosen_rankings
    from trainer.calibration.calibration import format_calibration
    from trainer.evaluation.evaluation_tables import format_tables
    from trainer.evaluation.objective_figures import format_figures
    from trainer.evaluation.trade_off import format_trade_offs, trade_offs

    baselines = [name.strip() for name in options.baselines.split(",") if name.strip()]
    chosen_rankings(baselines)  # a name that is wrong is told before the training, not after
    done = trained(options)
    curves = [curve for pair in options.trade_off for curve in trade_offs(done, pair)]
    compared = _compared(done, curves, baselines)
    print(format_tables(compared.evaluation))
    print(f"\n{format_calibration(compared.calibration)}")
    print(f"\n{format_figures(compared.objectives)}")
    if curves:
        print(f"\n{format_trade_offs(curves)}")
    print(f"\nreport: {done.folder / 'report.html'}")
    return 0


def _compared(done: Run, curves: list[TradeOff], baselines: list[str]) -> Comparison:
    """Compare the run with other rankings; write the figures and the report into its folder."""
    from trainer.baselines.gbdt import GbdtBudget
    from trainer.evaluation.comparison import compare_rankings
    from trainer.reports.mlflow_sink import send_run
    from trainer.reports.run_report import write_comparison

    budget = GbdtBudget(threads=len(os.sched_getaffinity(0)))
    compared = compare_rankings(done, budget, baselines=baselines, progress=True)
    write_comparison(done.folder, done.config.name, compared, command_line(), curves)
    if done.config.mlflow:
        send_run(done.folder, done.config.mlflow)
    return compared
