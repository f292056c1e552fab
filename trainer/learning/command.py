"""The command line of the learning benchmark: one folder, or every known data set there is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from trainer.evaluation.evaluation_tables import format_tables
from trainer.formats.errors import DataError
from trainer.formats.folder import Reading
from trainer.formats.shopper_pages import ShopperLimits
from trainer.learning.benchmark import LearningStudy, run_learning_benchmark
from trainer.learning.curves import ALL, TENTH
from trainer.learning.data import KnownData, present
from trainer.learning.few_shot import FewShot
from trainer.learning.parts import LearningBudget
from trainer.learning.report import write_learning_page
from trainer.learning.results import RESULTS, network_verdict, write_learning
from trainer.learning.tables import write_learning_section, write_learning_tables


def run_learning(options: argparse.Namespace) -> Iterator[str]:
    """Run the benchmark of the folder, or folders, that the options name; yield what to tell.

    Raises:
        DataError: When an option is out of range.
    """
    _check(options)
    if options.path is not None:
        yield _run_one(options, options.path, options.format, options.test_candidates or 100)
    else:
        for data, there in present(options.all_in):
            if there:
                yield from _run_known(options, data)
            else:
                yield f"{data.name}: skipped, not in {options.all_in}. {data.obtain}."
    if options.readme is not None:
        write_learning_section(options.readme, options.out / RESULTS)
    if (options.out / RESULTS).exists():
        page = write_learning_page(options.out / "learning.html", options.out / RESULTS)
        tables = write_learning_tables(options.out / "learning.md", options.out / RESULTS)
        yield f"page: {page}, as Markdown: {tables}"


def _check(options: argparse.Namespace) -> None:
    """Refuse options out of range."""
    for name in ("seeds", "trials", "threads", "steps", "few_shot_targets"):
        if getattr(options, name) < 1:
            raise DataError(f"{name}: got {getattr(options, name)}, want 1 or more")
    if min(options.pages) < 1:
        raise DataError(f"pages: got {options.pages}, want 1 or more of each split")
    if options.kappa_runs < 0:
        raise DataError(f"kappa-runs: got {options.kappa_runs}, want 0 or more")
    _counts(options.few_shot)


def _run_known(options: argparse.Namespace, data: KnownData) -> Iterator[str]:
    """Run the protocols that a known data set has, within the limits of the options."""
    given = argparse.Namespace(**vars(options))
    given.full = options.full or data.full
    given.kappa_runs = options.kappa_runs or data.kappa_runs
    given.few_shot = options.few_shot or data.few_shot
    if data.source and (options.all_in / data.source).is_dir():
        given.source = options.source or options.all_in / data.source
    count = options.test_candidates or data.test_candidates
    yield _run_one(given, options.all_in / data.name, data.format, count)
    if data.same_day and not options.drop_same_day:
        given.drop_same_day, given.few_shot = True, ""
        yield _run_one(given, options.all_in / data.name, data.format, count)


def _counts(text: str) -> tuple[int, ...]:
    """Return the numbers of pages that `--few-shot` names."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if any(word not in _NAMED and not word.isdigit() for word in words):
        raise DataError(f"few-shot: got {text!r}, want numbers such as 0,10,100, or tenth, all")
    return tuple(_NAMED[word] if word in _NAMED else int(word) for word in words)


_NAMED = {"all": ALL, "tenth": TENTH}


def _run_one(options: argparse.Namespace, folder: Path, word: str, test_candidates: int) -> str:
    limits = ShopperLimits(
        pages=(options.pages[0], options.pages[1], options.pages[2]),
        test_candidates=test_candidates,
        drop_same_day=options.drop_same_day,
        full=options.full,
    )
    reading = Reading(word, limits, source=options.source)
    budget = LearningBudget(
        seeds=options.seeds,
        trials=options.trials,
        epochs=options.epochs,
        steps=options.steps,
        alone=options.alone,
        threads=options.threads,
    )
    study = LearningStudy(
        FewShot(_counts(options.few_shot), options.few_shot_targets),
        options.kappa_runs,
        tuple(options.allow_leaks),
    )
    result = run_learning_benchmark(
        folder, reading, budget, options.work, study=study, progress=sys.stderr.isatty()
    )
    name = folder.resolve().name
    name += f", taught by {options.source.resolve().name}" if options.source else ""
    name += ", without the same day" if options.drop_same_day else ""
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
