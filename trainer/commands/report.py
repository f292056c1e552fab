"""`report`: the report of a run rebuilt, or two runs compared."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.run_options import add_work_option

NAME = "report"
HELP = "rebuild the report of a run, or compare two runs"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the runs and where the page of a comparison goes."""
    parser.add_argument(
        "first", metavar="RUN", help="folder of a run, or the beginning of its name"
    )
    parser.add_argument(
        "second", metavar="RUN2", nargs="?", help="another run, to compare the first with"
    )
    add_work_option(parser)
    parser.add_argument(
        "--out", type=Path, help="page of a comparison (default: in the first run's folder)"
    )


def run(options: argparse.Namespace) -> int:
    """Rebuild or compare; print the tables and where the page lies."""
    from trainer.reports.run_comparison import compare_runs, comparison_sheet
    from trainer.reports.run_report import REPORT, find_run, rebuild_report
    from trainer.reports.sheet import sheet_text, write_sheet

    first = find_run(options.first, options.work)
    if options.second is None:
        print(rebuild_report(first))
        print(f"\n{first / REPORT}")
        return 0
    second = find_run(options.second, options.work)
    sheet = comparison_sheet(compare_runs(first, second))
    path = options.out or first / f"compared-with-{second.resolve().name}.html"
    write_sheet(path, sheet)
    print(sheet_text(sheet))
    print(f"\n{path}")
    return 0
