"""What the commands of a run share: its options, and the run they name."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config import TrainConfig, read_config

if TYPE_CHECKING:
    from trainer.pipeline import Run

CONFIGS = Path(__file__).parents[1] / "configs"
PLANS = CONFIGS / "plans"  # what is searched, what is left out


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and `--work`."""
    parser.add_argument(
        "--config",
        type=Path,
        default=CONFIGS / "complete_journey.toml",
        help="TOML file of the run (default: %(default)s)",
    )
    add_work_option(parser)
    parser.add_argument(
        "--memory-limit",
        type=float,
        metavar="GIB",
        help="refuse what is forecast to hold more (default: what the machine and its control "
        "groups leave)",
    )


def add_mlflow_option(parser: argparse.ArgumentParser) -> None:
    """Add `--mlflow`."""
    parser.add_argument(
        "--mlflow",
        metavar="URI",
        help="MLflow server, sqlite:///FILE or folder that runs are sent to (default: mlflow of "
        "the configuration)",
    )


def add_work_option(parser: argparse.ArgumentParser) -> None:
    """Add `--work`."""
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("var/trainer"),
        help="folder of everything that is written (default: %(default)s)",
    )


def trained(options: argparse.Namespace, config: TrainConfig | None = None) -> Run:
    """Return the run of the options, trained or read back; `config` takes the file's place."""
    from trainer.pipeline import prepare_and_encode, run_training
    from trainer.training.memory_forecast import check_memory, given_limit, training_forecast
    from trainer.training.train import training_pages

    config = config or read_config(options.config)
    if getattr(options, "mlflow", None):
        config = replace(config, mlflow=options.mlflow)
    limit = given_limit(options.memory_limit)
    log = prepare_and_encode(options.config, config, options.work, progress=True, limit=limit)
    rows = int((log.offsets[1:] - log.offsets[:-1])[training_pages(config, log)].sum())
    check_memory(training_forecast(config, log, rows), limit)
    return run_training(config, log, options.work, progress=True)
