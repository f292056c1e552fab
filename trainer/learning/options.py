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
    folder.add_argument(
        "--steps", type=int, default=400, help="of a network, about (default: %(default)s)"
    )
    folder.add_argument(
        "--full",
        action="store_true",
        help="rank the whole category: reorder what is retrieved out of it, misses count as 0",
    )
    folder.add_argument(
        "--source",
        type=Path,
        help="folder of another data set that is learned from beside, in every fold",
    )
    folder.add_argument(
        "--few-shot",
        default="",
        metavar="0,10,100",
        help="draw curves of categories learned from so many of their pages, with the others and "
        "alone; `tenth` and `all` are of what they have (default: none)",
    )
    folder.add_argument(
        "--few-shot-targets",
        type=int,
        default=2,
        help="categories with a curve, those of fewest pages first (default: %(default)s)",
    )
    folder.add_argument(
        "--kappa-runs",
        type=int,
        default=0,
        help="deal judged rows to three folds so many times and report the quadratic weighted "
        "kappa of their grades (default: not)",
    )
    folder.add_argument(
        "--allow-leaks",
        action="append",
        default=[],
        metavar="FEATURE",
        help="take a feature as it is that alone tells positives apart; may be repeated",
    )
