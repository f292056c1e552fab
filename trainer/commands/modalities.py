"""`modalities`: what each modality of products adds, served without it and trained without it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainer.commands.run_options import add_run_options, trained

NAME = "modalities"
HELP = "tell what text, category, vectors and the like add, and what is lost without each"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, and what may be spent."""
    add_run_options(parser)
    parser.add_argument(
        "--out", type=Path, help="folder of the JSON and the page (default: the run's folder)"
    )
    parser.add_argument(
        "--test-pages",
        type=int,
        default=2000,
        help="test pages of each surface at most, 0 for all (default: %(default)s)",
    )
    parser.add_argument(
        "--retrain",
        type=int,
        default=0,
        metavar="PAGES",
        help="also train without each modality, on so many pages of each surface (default: none)",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of each (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Measure; print the table and where it lies."""
    from trainer.encoding.log_share import PageLimits
    from trainer.errors import ConfigError
    from trainer.reports.sheet import sheet_text
    from trainer.studies.modality_report import (
        measure_modalities,
        modality_sheet,
        run_left_out,
        write_modalities,
    )

    for name in ("test_pages", "retrain"):
        if getattr(options, name) < 0:
            raise ConfigError(f"{name}: got {getattr(options, name)}, want 0 or more")
    if options.seeds < 1:
        raise ConfigError(f"seeds: got {options.seeds}, want 1 or more")
    shown = sys.stderr.isatty()
    done = trained(options)
    left_out = None
    if options.retrain:
        left_out = run_left_out(
            options.config,
            done.config,
            tuple(vector.name for vector in done.catalogue.vectors),
            PageLimits(options.retrain, options.test_pages, options.test_pages),
            options.work,
            seeds=options.seeds,
            progress=shown,
        )
    limits = PageLimits(test=options.test_pages)
    result = measure_modalities(done, limits, left_out, progress=shown)
    paths = write_modalities(options.out or done.folder, done.config.name, result)
    print(sheet_text(modality_sheet(done.config.name, result)))
    print("\n" + "\n".join(map(str, paths)))
    return 0
