"""The training loop: batch, forward, loss, backward, step, log."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.compat.proto.event_pb2 import Event
from tqdm import tqdm

from trainer.batches import Batch, epoch_order, make_batch
from trainer.catalogue import Catalogue
from trainer.checkpoint import BEST, Progress, load_checkpoint, save_atomically, save_checkpoint
from trainer.config import TrainConfig
from trainer.encoded import EncodedLog
from trainer.errors import TrainingError
from trainer.losses import listwise_softmax_loss, pointwise_loss
from trainer.metrics import ndcg_at_k
from trainer.model.ranker import Ranker
from trainer.network import build_ranker, page_batch, score_pages

LOG = "training.jsonl"
_LAST_RATE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run leaves.

    Attributes:
        ranker: The network with the averaged weights of its best evaluation.
        progress: Where it stopped.
        seconds: Wall time of this call.
    """

    ranker: Ranker
    progress: Progress
    seconds: float


def train(
    config: TrainConfig, log: EncodedLog, catalogue: Catalogue, folder: Path, *, progress: bool
) -> TrainResult:
    """Train, or go on from the folder's checkpoint; a finished run is read back.

    A step's batch, dropout and learning rate depend on the seed and the step's number alone, so
    a run that was killed and resumed equals one that was not.

    Raises:
        TrainingError: When a loss is not a number; names the batch.
    """
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    ranker = build_ranker(config, log, catalogue)
    pages = training_pages(config, log)
    steps_per_epoch = math.ceil(pages.size / config.pages_per_batch)
    total = steps_per_epoch * config.epochs
    optimiser = paddle.optimizer.AdamW(
        learning_rate=config.learning_rate,
        parameters=ranker.parameters(),
        weight_decay=config.weight_decay,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
    )
    loaded = load_checkpoint(folder, ranker, optimiser)
    average, state = loaded or (_weights(ranker), Progress())
    journal = _Journal(folder, state.step)
    every = max(steps_per_epoch // config.evaluations_per_epoch, 1)
    bar = tqdm(total=total, initial=state.step, desc="Training", unit="step", disable=not progress)
    order: list[np.ndarray] = []
    order_epoch = -1
    while state.step < total and state.since_best < config.patience:
        epoch = state.step // steps_per_epoch
        if epoch != order_epoch:
            order = epoch_order(
                log, pages, config.pages_per_batch, config.category_power, (config.seed, epoch)
            )
            order_epoch = epoch
        paddle.seed(config.seed * 1_000_003 + state.step)
        optimiser.set_lr(learning_rate(config, state.step, total))
        ranker.train()
        batch = make_batch(log, order[state.step % steps_per_epoch])
        losses = batch_losses(config, ranker.scorer(page_batch(ranker, catalogue, batch)), batch)
        loss = losses["loss"]
        loss.backward()
        values = {name: float(value) for name, value in losses.items()}
        if not math.isfinite(values["loss"]):
            raise TrainingError(_describe(values, batch, log, state.step))
        optimiser.step()
        optimiser.clear_grad()
        state.step += 1
        _move_average(average, ranker, config.average_decay, state.step)
        bar.update()
        bar.set_postfix(loss=f"{values['loss']:.4f}", best=f"{state.best:.4f}", refresh=False)
        journal.write(state.step, {**values, "learning_rate": optimiser.get_lr()})
        if state.step % every == 0 or state.step == total:
            figures = validate(config, ranker, average, catalogue, log)
            _judge(state, figures["validation_ndcg_at_10"], folder, average)
            journal.write(state.step, figures)
            journal.flush()
            save_checkpoint(folder, ranker, optimiser, average, state)
    bar.close()
    journal.close()
    ranker.set_state_dict(paddle.load(str(folder / BEST)))
    ranker.eval()
    return TrainResult(ranker, state, time.monotonic() - begun)


def training_pages(config: TrainConfig, log: EncodedLog) -> np.ndarray:
    """Return the training pages of every surface, at most `max_pages` of each.

    The latest pages are kept when there are more: they are nearest to what comes.
    """
    parts = []
    for surface in config.surfaces:
        pages = log.pages_of("train", surface)
        parts.append(pages[-config.max_pages :] if config.max_pages else pages)
    return np.concatenate(parts)


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Return the rate of a step: a linear rise, then half a cosine (Loshchilov 2017, eq. 5)."""
    warmup = max(int(total * config.warmup_share), 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(total - warmup, 1)
    low = _LAST_RATE_SHARE
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))


def batch_losses(config: TrainConfig, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the loss and its parts.

    `trial` is taken over the candidates that the shopper never bought, since only they can be
    tried; the others over the whole page.
    """
    labels = paddle.to_tensor(batch.labels)
    mask = paddle.to_tensor(batch.mask)
    fresh = paddle.to_tensor(batch.fresh)
    parts: dict[str, Tensor] = {}
    loss = paddle.zeros([])
    weights = zip(config.objectives, config.objective_weights, strict=True)
    for index, (name, weight) in enumerate(weights):
        inside = fresh if name == "trial" else mask
        listwise = listwise_softmax_loss(labels[:, :, index], logits[:, :, index], inside)
        pointwise = pointwise_loss(labels[:, :, index], logits[:, :, index], inside)
        parts[f"{name}_listwise"], parts[f"{name}_pointwise"] = listwise, pointwise
        loss = loss + weight * (listwise + config.pointwise_weight * pointwise)
    return {"loss": loss, **parts}


def validate(
    config: TrainConfig,
    ranker: Ranker,
    average: dict[str, np.ndarray],
    catalogue: Catalogue,
    log: EncodedLog,
) -> dict[str, float]:
    """Return validation NDCG@10 of the averaged weights per surface, and their mean."""
    kept = _weights(ranker)
    _set_weights(ranker, average)
    figures: dict[str, float] = {}
    for surface in config.surfaces:
        pages = log.pages_of("validation", surface)
        pages = pages[:: max(pages.size // config.validation_pages, 1)]
        scores = score_pages(ranker, catalogue, log, pages)
        sizes = np.diff(log.offsets)[pages]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.concatenate(
            [np.arange(log.offsets[page], log.offsets[page + 1]) for page in pages]
        )
        gains = log.labels[rows, 0].astype(np.float64)
        ndcg = ndcg_at_k(gains, scores[:, 0].astype(np.float64), offsets, 10)
        figures[f"validation_{surface}_ndcg_at_10"] = float(np.nanmean(ndcg))
    _set_weights(ranker, kept)
    figures["validation_ndcg_at_10"] = float(np.mean(list(figures.values())))
    return figures


def _judge(state: Progress, figure: float, folder: Path, average: dict[str, np.ndarray]) -> None:
    if figure > state.best:
        state.best, state.best_step, state.since_best = figure, state.step, 0
        save_atomically(average, folder / BEST)
    else:
        state.since_best += 1


def _weights(ranker: Ranker) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in ranker.named_parameters()}


def _set_weights(ranker: Ranker, weights: dict[str, np.ndarray]) -> None:
    for name, value in ranker.named_parameters():
        value.set_value(weights[name])


def _move_average(
    average: dict[str, np.ndarray], ranker: Ranker, decay: float, step: int
) -> None:
    """Move the average towards the weights; faster at first, when it has seen little."""
    keep = min(decay, (1 + step) / (10 + step))
    for name, value in ranker.named_parameters():
        average[name] *= keep
        average[name] += (1 - keep) * value.numpy()


def _describe(values: dict[str, float], batch: Batch, log: EncodedLog, step: int) -> str:
    dense = np.isfinite(batch.dense).all(axis=(0, 1))
    wrong = [name for name, fine in zip(log.schema.feature_names, dense, strict=True) if not fine]
    return (
        f"loss at step {step}: got {values}, want finite numbers; the batch held pages "
        f"{batch.pages.tolist()} of {log.folder.name}; features that are not finite: "
        f"{', '.join(wrong) or 'none'}; try a lower learning_rate if none is"
    )


class _Journal:
    """The log of a run, as JSON lines and as TensorBoard events."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open for appending after `step`; lines of later steps were lost work and go."""
        path = folder / LOG
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._events = EventFileWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one line and one event."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._events.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Make what was written visible to a reader."""
        self._file.flush()
        self._events.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        self._events.close()
