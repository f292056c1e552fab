"""What the commands of a run share: its options, and the run they name."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config import TrainConfig, read_config

if TYPE_CHECKING:
    from trainer.encoding.encoded import EncodedLog
    from trainer.pipeline import Run
    from trainer.training.distributed import Team

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


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Add `--processes`."""
    parser.add_argument(
        "--processes",
        type=_count,
        default=1,
        metavar="N",
        help="train in so many processes of this machine, each with its share of every batch; "
        "the network comes out the same (default: %(default)s)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, want 1 or more")
    return int(text)


def trained(
    options: argparse.Namespace, config: TrainConfig | None = None, team: Team | None = None
) -> Run:
    """Return the run of the options, trained or read back; `config` takes the file's place.

    `team` is what this process leads, where others train with it.
    """
    from trainer.pipeline import run_training
    from trainer.training.distributed import ALONE

    config = config or read_config(options.config)
    if getattr(options, "mlflow", None):
        config = replace(config, mlflow=options.mlflow)
    team = team or ALONE
    log = _encoded(options, config, team)
    return run_training(config, log, options.work, progress=True, team=team)


def trained_by_lead(options: argparse.Namespace, team: Team) -> None:
    """Take this process's share of the run that the team's leading process trains."""
    from trainer.pipeline import share_training

    config = read_config(options.config)
    share_training(config, _encoded(options, config, team), options.work, team)


def _encoded(options: argparse.Namespace, config: TrainConfig, team: Team) -> EncodedLog:
    """Return the run's encoded log; the leading process of a team writes it."""
    from trainer.pipeline import prepare_and_encode
    from trainer.training.memory_forecast import check_memory, given_limit, training_forecast
    from trainer.training.run_pages import training_pages

    limit = given_limit(options.memory_limit)
    with team.lead_first():
        log = prepare_and_encode(
            options.config, config, options.work, progress=team.leads, limit=limit
        )
        if team.leads:
            rows = int((log.offsets[1:] - log.offsets[:-1])[training_pages(config, log)].sum())
            here = getattr(options, "processes", 1)
            check_memory(training_forecast(config, log, rows, here), limit)
    return log
