"""The command line of the learning benchmark: one folder, or every known data set there is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from trainer.evaluation_tables import format_tables
from trainer.formats.errors import DataError
from trainer.formats.folder import Reading
from trainer.formats.shopper_pages import ShopperLimits
from trainer.learning_benchmark import run_learning_benchmark
from trainer.learning_data import present
from trainer.learning_parts import LearningBudget
from trainer.learning_results import network_verdict, write_learning, write_learning_section


def run_learning(options: argparse.Namespace) -> Iterator[str]:
    """Run the benchmark of the folder, or folders, that the options name; yield what to tell.

    Raises:
        DataError: When an option is out of range.
    """
    for name in ("seeds", "trials", "threads"):
        if getattr(options, name) < 1:
            raise DataError(f"{name}: got {getattr(options, name)}, want 1 or more")
    if min(options.pages) < 1:
        raise DataError(f"pages: got {options.pages}, want 1 or more of each split")
    if options.path is not None:
        yield _run_one(options, options.path, options.format, options.test_candidates or 100)
    else:
        for data, there in present(options.all_in):
            if there:
                count = options.test_candidates or data.test_candidates
                yield _run_one(options, options.all_in / data.name, data.format, count)
            else:
                yield f"{data.name}: skipped, not in {options.all_in}. {data.obtain}."
    if options.readme is not None:
        write_learning_section(options.readme, options.out / "learning.json")


def _run_one(options: argparse.Namespace, folder: Path, word: str, test_candidates: int) -> str:
    limits = ShopperLimits(
        pages=(options.pages[0], options.pages[1], options.pages[2]),
        test_candidates=test_candidates,
        drop_same_day=options.drop_same_day,
    )
    reading = Reading(word, limits)
    budget = LearningBudget(
        seeds=options.seeds,
        trials=options.trials,
        epochs=options.epochs,
        alone=options.alone,
        threads=options.threads,
    )
    result = run_learning_benchmark(
        folder, reading, budget, options.work, progress=sys.stderr.isatty()
    )
    name = folder.resolve().name + (", without the same day" if options.drop_same_day else "")
    path = write_learning(options.out, name, result, reading, budget)
    costs = [
        f"{ranking}: {cost['seconds']:.0f} s, peak {cost['peak_mib']:,.0f} MiB"
        for ranking, cost in result.costs.items()
    ]
    told = [
        f"{name}: {result.pages.protocol}\n",
        format_tables(result.evaluation),
        *costs,
        network_verdict(result),
        str(path),
    ]
    return "\n".join(told) + "\n"
