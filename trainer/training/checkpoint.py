"""Checkpoints: everything a killed run needs to go on as if it had never been killed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from trainer.errors import TrainingError

CHECKPOINT = "checkpoint.pdparams"
BEST = "best.pdparams"


@dataclass(slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Steps done.
        best: Best validation figure so far.
        best_step: The step it was reached at.
        since_best: Evaluations since then.
    """

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0
    since_best: int = 0


def save_atomically(value: Any, path: Path) -> None:  # noqa: ANN401  paddle saves any tree
    """Write `value` so that a kill leaves the old file or the new one, nothing between."""
    temporary = path.with_suffix(".unfinished")
    paddle.save(value, str(temporary))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def save_checkpoint(
    folder: Path,
    network: paddle.nn.Layer,
    optimiser: paddle.optimizer.Optimizer,
    average: dict[str, np.ndarray],
    progress: Progress,
    balance: paddle.nn.Layer | None = None,
) -> None:
    """Write the state of a run after `progress.step` steps.

    `balance` holds what is learned beside the network: the weights of its losses.
    """
    state = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average,
        "progress": [progress.step, progress.best, progress.best_step, progress.since_best],
    }
    if balance is not None:
        state["balance"] = balance.state_dict()
    save_atomically(state, folder / CHECKPOINT)


def load_checkpoint(
    folder: Path,
    network: paddle.nn.Layer,
    optimiser: paddle.optimizer.Optimizer,
    balance: paddle.nn.Layer | None = None,
) -> tuple[dict[str, np.ndarray], Progress] | None:
    """Bring network, optimiser and balance to the last checkpoint; None when there is none yet.

    Raises:
        TrainingError: When the checkpoint is of another network.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state = paddle.load(str(path))
    _check_shapes(state["network"], network.state_dict(), path)
    network.set_state_dict(state["network"])
    optimiser.set_state_dict(state["optimiser"])
    if balance is not None:
        balance.set_state_dict(state["balance"])
    step, best, best_step, since_best = state["progress"]
    average = {name: np.asarray(value) for name, value in state["average"].items()}
    return average, Progress(int(step), float(best), int(best_step), int(since_best))


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Return the weights in a file by their parameters' names."""
    return {name: np.asarray(value) for name, value in paddle.load(str(path)).items()}


def read_buffers(folder: Path) -> dict[str, np.ndarray]:
    """Return everything of the network in a folder's last checkpoint, constants included.

    Raises:
        TrainingError: When there is no checkpoint.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        raise TrainingError(f"{folder}: got no {CHECKPOINT}, want the folder of a run")
    state = paddle.load(str(path))["network"]
    return {name: np.asarray(value) for name, value in state.items()}


def load_weights(path: Path, network: paddle.nn.Layer) -> None:
    """Set every parameter of `network` from a file of weights by name.

    Raises:
        TrainingError: When the file is of another network.
    """
    weights = read_weights(path)
    parameters = dict(network.named_parameters())
    _check_shapes(weights, parameters, path)
    for name, parameter in parameters.items():
        parameter.set_value(weights[name])


def _check_shapes(got: dict[str, Any], want: dict[str, Any], path: Path) -> None:
    shapes = [{(name, tuple(value.shape)) for name, value in side.items()} for side in (got, want)]
    wrong = sorted({name for name, _ in shapes[0] ^ shapes[1]})
    if wrong:
        raise TrainingError(
            f"{path}: got weights of another network, which differs in "
            f"{', '.join(wrong[:5])}; want those of this one, or no file there"
        )
