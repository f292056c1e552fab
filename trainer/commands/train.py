"""`train`: one network, from the start or from its last checkpoint."""

from __future__ import annotations

import argparse
import os
import sys

from trainer.commands.run_options import (
    add_mlflow_option,
    add_processes_option,
    add_run_options,
    trained,
    trained_by_lead,
)
from trainer.errors import TeamError

NAME = "train"
HELP = "train the network, or go on from its last checkpoint"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run."""
    add_run_options(parser)
    add_mlflow_option(parser)
    add_processes_option(parser)


def run(options: argparse.Namespace) -> int:
    """Train; tell the best figure and when it was reached.

    One of several processes leaves with a status of its own when it has lost another.
    """
    from trainer.training.processes import (
        LOST_ANOTHER,
        end_with_starter,
        run_together,
        starts_others,
    )

    if starts_others(options.processes, os.environ):
        return run_together([sys.executable, *sys.orig_argv[1:]], options.processes, os.environ)
    end_with_starter(os.environ)
    try:
        return _train(options)
    except TeamError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return LOST_ANOTHER


def _train(options: argparse.Namespace) -> int:
    from trainer.training.distributed import joined_team

    team = joined_team(os.environ)
    if not team.leads:
        trained_by_lead(options, team)
        return 0
    done = trained(options, team=team)
    state = done.result.progress
    print(
        f"{done.folder}: step {state.step}, best validation NDCG@10 {state.best:.4f}"
        f" at step {state.best_step}, {done.result.seconds:.0f} s"
    )
    return 0
