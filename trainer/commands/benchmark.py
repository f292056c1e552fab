"""`benchmark`: train on all data and write results, of a run or of a data folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.run_options import add_run_options
from trainer.config import read_config
from trainer.learning.options import add_learning_options

NAME = "benchmark"
HELP = "train on all data and write the results"

_RESULTS = Path("tests/benchmarks/results")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, of a budget and of a data folder."""
    add_run_options(parser)
    parser.add_argument(
        "--out", type=Path, default=_RESULTS, help="where results go (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of the network (default: %(default)s)"
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=2,
        help="settings that LightGBM tries on each task (default: %(default)s)",
    )
    parser.add_argument(
        "--readme", type=Path, help="Markdown file whose table is replaced by the results"
    )
    parser.add_argument(
        "--pooled-only",
        action="store_true",
        help="leave out the networks and trees of single categories",
    )
    add_learning_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the benchmark; print its tables."""
    if options.path is not None or options.all_in is not None:
        from trainer.learning.command import run_learning

        for told in run_learning(options):
            print(told)
        return 0
    from trainer.benchmark.benchmark import run_benchmark
    from trainer.benchmark.parts import BenchmarkBudget
    from trainer.benchmark.results_table import write_into_readme
    from trainer.evaluation.evaluation_tables import format_tables

    budget = BenchmarkBudget(options.seeds, options.trials, not options.pooled_only)
    evaluation = run_benchmark(options.config, options.work, options.out, budget, progress=True)
    print(format_tables(evaluation))
    if options.readme is not None:
        results = options.out / f"{read_config(options.config).name}.json"
        write_into_readme(options.readme, results)
    return 0
