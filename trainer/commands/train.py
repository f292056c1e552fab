"""`train`: one network, from the start or from its last checkpoint."""

from __future__ import annotations

import argparse

from trainer.commands.run_options import add_mlflow_option, add_run_options, trained

NAME = "train"
HELP = "train the network, or go on from its last checkpoint"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run."""
    add_run_options(parser)
    add_mlflow_option(parser)


def run(options: argparse.Namespace) -> int:
    """Train; tell the best figure and when it was reached."""
    done = trained(options)
    state = done.result.progress
    print(
        f"{done.folder}: step {state.step}, best validation NDCG@10 {state.best:.4f}"
        f" at step {state.best_step}, {done.result.seconds:.0f} s"
    )
    return 0
