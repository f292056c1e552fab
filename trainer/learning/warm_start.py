"""Goes on from another network's weights: a checkpoint of a run that has made no step yet."""

from __future__ import annotations

from pathlib import Path

import paddle

from trainer.benchmark.kept_parts import Arrays
from trainer.config import TrainConfig
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.training.checkpoint import CHECKPOINT, Progress, save_checkpoint
from trainer.training.network import build_ranker

_LARGEST_KEPT = 1_000_000  # numbers; the word vectors are the same everywhere


def warm_start(
    config: TrainConfig, log: EncodedLog, catalogue: Catalogue, folder: Path, weights: Arrays
) -> None:
    """Write the checkpoint of a run that has made no step yet, with another network's weights.

    A run that has a checkpoint is left alone, so that it goes on where it was.
    """
    if (folder / CHECKPOINT).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with paddle.utils.unique_name.guard():
        ranker = build_ranker(config, log, catalogue)
        for name, value in ranker.state_dict().items():
            if f"weight {name}" in weights:
                value.set_value(weights[f"weight {name}"])
        optimiser = paddle.optimizer.AdamW(
            learning_rate=config.learning_rate,
            parameters=ranker.parameters(),
            weight_decay=config.weight_decay,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
        )
        average = {name: value.numpy().copy() for name, value in ranker.named_parameters()}
        save_checkpoint(folder, ranker, optimiser, average, Progress())


def kept_weights(ranker: paddle.nn.Layer) -> Arrays:
    """Return what `warm_start` takes: every array of the network but the word vectors."""
    return {
        f"weight {name}": value.numpy()
        for name, value in ranker.state_dict().items()
        if value.size <= _LARGEST_KEPT
    }
