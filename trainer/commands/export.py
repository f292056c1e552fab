"""`export`: the bundle and the catalogue snapshot of a run."""

from __future__ import annotations

import argparse

from trainer.commands.run_options import add_run_options, trained

NAME = "export"
HELP = "write the bundle and the catalogue snapshot"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run."""
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    """Export; print where bundle and snapshot lie."""
    from trainer.pipeline import export_run, first_test_day
    from trainer.reports.run_report import read_evaluation
    from trainer.training.memory_forecast import check_memory, export_forecast, given_limit

    done = trained(options)
    check_memory(export_forecast(done.config, done.log), given_limit(options.memory_limit))
    evaluation = read_evaluation(done.folder)
    bundle = export_run(done, evaluation, options.work, first_test_day(done.log.prepared))
    print(
        f"{options.work / 'bundle'}: bundle {bundle.manifest.bundle_id[:12]}\n"
        f"{options.work / 'snapshot'}: {len(done.catalogue.records)} products"
    )
    return 0
