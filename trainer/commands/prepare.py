"""`prepare`: from the log to encoded pages."""

from __future__ import annotations

import argparse

from trainer.commands.run_options import add_run_options
from trainer.config import read_config

NAME = "prepare"
HELP = "clean the log, retrieve pages and encode them"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run."""
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prepare and encode; tell what was cleaned and where it lies."""
    from trainer.logs.clean import report_from_json
    from trainer.pipeline import prepare_and_encode
    from trainer.training.memory_forecast import given_limit

    log = prepare_and_encode(
        options.config,
        read_config(options.config),
        options.work,
        progress=True,
        limit=given_limit(options.memory_limit),
    )
    print(report_from_json(log.prepared.manifest["cleaning"]).to_table())
    print(f"\n{log.prepared.path}\n{log.folder}")
    return 0
