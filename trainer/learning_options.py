"""The command-line options of the learning benchmark, apart so that they import nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

_SPLITS = 3


def add_learning_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a data folder to the benchmark's."""
    folder = parser.add_argument_group("a data folder of a known format, instead of --config")
    folder.add_argument("--path", type=Path, help="folder of the data set")
    folder.add_argument(
        "--format",
        default="",
        help="ratings, interactions, pairs, judgments or run (default: what its columns show)",
    )
    folder.add_argument(
        "--all-in", type=Path, help="folder that has the known public data sets in folders"
    )
    folder.add_argument(
        "--pages",
        type=int,
        nargs=_SPLITS,
        default=[6_000, 1_000, 2_000],
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="most pages of shoppers per split (default: 6000 1000 2000)",
    )
    folder.add_argument(
        "--test-candidates",
        type=int,
        help="candidates of a test page of a shopper (default: as published, else 100)",
    )
    folder.add_argument(
        "--drop-same-day", action="store_true", help="leave the asked event's own day out"
    )
    folder.add_argument(
        "--epochs", type=int, default=0, help="most passes of a network (default: by size)"
    )
    folder.add_argument(
        "--alone", type=int, default=6, help="categories also learned alone (default: 6)"
    )
    folder.add_argument("--threads", type=int, default=1, help="of LightGBM (default: 1)")
