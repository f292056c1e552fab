"""`prepare`: from the log to encoded pages."""

from __future__ import annotations

import argparse

from trainer.commands.run_options import add_run_options
from trainer.config import read_config

NAME = "prepare"
HELP = "clean the log, retrieve pages and encode them"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, and where its log is read."""
    add_run_options(parser)
    parser.add_argument(
        "--engine",
        choices=("polars", "spark"),
        default="polars",
        help="what reads and cleans the log's lines; both give the same rows (default: polars)",
    )
    parser.add_argument(
        "--spark-master",
        metavar="MASTER",
        default="local[*]",
        help="where --engine spark runs, such as local[2] or spark://HOST:7077 (default: "
        "%(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Prepare and encode; tell what was cleaned and where it lies."""
    from trainer.logs.clean import report_from_json
    from trainer.logs.prepare import prepare
    from trainer.pipeline import prepare_and_encode
    from trainer.training.memory_forecast import given_limit

    config = read_config(options.config)
    limit = given_limit(options.memory_limit)
    if options.engine == "spark":  # what follows then finds the folder
        prepare(
            options.config.parent / config.log,
            options.work,
            progress=True,
            limit=limit,
            spark_master=options.spark_master,
        )
    log = prepare_and_encode(options.config, config, options.work, progress=True, limit=limit)
    print(report_from_json(log.prepared.manifest["cleaning"]).to_table())
    print(f"\n{log.prepared.path}\n{log.folder}")
    return 0
