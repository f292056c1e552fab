"""`daily`: never training again, from scratch each day and warm starts, day by day."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.run_options import add_run_options

NAME = "daily"
HELP = "compare warm starts day by day with training from scratch and with never training again"

_RESULTS = Path("tests/benchmarks/results/daily.json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, of the days and of the warm start."""
    add_run_options(parser)
    parser.add_argument(
        "--from",
        dest="first",
        metavar="DATE",
        help="first day that is measured, such as 2017-11-13 (default: the first test page's)",
    )
    parser.add_argument(
        "--days", type=int, help="days that are measured (default: up to the log's last)"
    )
    parser.add_argument(
        "--every", type=int, default=1, help="days between trainings (default: %(default)s)"
    )
    parser.add_argument(
        "--window-days",
        type=int,
        default=28,
        help="newest days that a warm start learns (default: %(default)s)",
    )
    parser.add_argument(
        "--replay-share",
        type=float,
        default=0.3,
        help="older pages beside them, as a share of theirs (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=5e-4, help="of warm starts (default: %(default)s)"
    )
    parser.add_argument(
        "--l2-sp",
        type=float,
        default=0.0,
        help="pull of warm starts to the weights they start from (default: %(default)s)",
    )
    parser.add_argument(
        "--page-share",
        type=float,
        default=1.0,
        help="share of all pages that takes part, evenly spread (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=_RESULTS, help="JSON file (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Compare; print the tables and where they lie."""
    from trainer.config import read_config
    from trainer.pipeline import first_test_day, prepare_and_encode
    from trainer.reports.sheet import sheet_text
    from trainer.studies.daily import compare_daily
    from trainer.studies.daily_report import write_daily
    from trainer.studies.daily_windows import DailyPlan, day_of_date, page_days

    config = read_config(options.config)
    asked = None if options.first is None else day_of_date(options.first)
    log = prepare_and_encode(options.config, config, options.work, progress=True)
    first = first_test_day(log.prepared) if asked is None else asked
    days = int(page_days(log).max()) + 1 - first if options.days is None else options.days
    plan = DailyPlan(
        first_day=first,
        days=days,
        every=options.every,
        window_days=options.window_days,
        replay_share=options.replay_share,
        learning_rate=options.learning_rate,
        l2_sp=options.l2_sp,
        page_share=options.page_share,
    )
    daily = compare_daily(config, log, plan, options.work, progress=True)
    sheet = write_daily(options.out, daily)
    print(f"{sheet_text(sheet)}\n\nresults: {options.out}")
    return 0
