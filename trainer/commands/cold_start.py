"""`cold-start`: what is reached where little is known of a product or of a shopper."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.run_options import add_run_options, trained

NAME = "cold-start"
HELP = "tell what is reached for new products and new shoppers, beside the obvious simple rules"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, and where the figures go."""
    add_run_options(parser)
    parser.add_argument(
        "--out", type=Path, help="JSON file; the page lies beside it (default: in the run's folder)"
    )


def run(options: argparse.Namespace) -> int:
    """Measure; print the tables and where they lie."""
    from trainer.reports.sheet import sheet_text, write_sheet
    from trainer.studies.cold_start import cold_start_sheet, measure_cold_start, write_cold_start

    done = trained(options)
    found = measure_cold_start(done)
    path = options.out or done.folder / "cold-start.json"
    sheet = cold_start_sheet(done.config.name, found)
    write_cold_start(path, found)
    write_sheet(path.with_suffix(".html"), sheet)
    print(f"{sheet_text(sheet)}\n\nresults: {path}")
    return 0
