"""The training loop: batch, forward, loss, backward, step, log."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tqdm import tqdm

from rerank_server.contract.schema import index_of
from trainer.atomic_text import write_text
from trainer.batches import Batch, epoch_order, make_batch, rows_of
from trainer.catalogue import Catalogue
from trainer.checkpoint import (
    BEST,
    Progress,
    load_checkpoint,
    load_weights,
    save_atomically,
    save_checkpoint,
)
from trainer.config import TrainConfig
from trainer.encoded import EncodedLog
from trainer.errors import ConfigError, TrainingError
from trainer.losses import listwise_softmax_loss, pointwise_loss
from trainer.metrics import ndcg_at_k
from trainer.model.ranker import Ranker
from trainer.network import build_ranker, page_batch, score_pages
from trainer.teacher import teacher_logits

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
        ConfigError: When the log has other objectives.
        TrainingError: When there is nothing to learn, or a loss is not a number; names the batch.
    """
    begun = time.monotonic()
    check_pages(config, log)
    folder.mkdir(parents=True, exist_ok=True)
    teacher = teacher_logits(config, log, folder) if config.teacher_share > 0 else None
    # an optimiser's state goes by the names of parameters, which Paddle numbers through the
    # whole process; in here they start anew, so that a resumed run finds its own
    with paddle.utils.unique_name.guard():
        ranker = build_ranker(config, log, catalogue)
        optimiser = paddle.optimizer.AdamW(
            learning_rate=config.learning_rate,
            parameters=ranker.parameters(),
            weight_decay=config.weight_decay,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
        )
        loaded = load_checkpoint(folder, ranker, optimiser)
        average, state = loaded or (_weights(ranker), Progress())
        training = _Training(
            config, log, catalogue, folder, ranker, optimiser, average, state, teacher
        )
        _take_steps(training, progress=progress)
    load_weights(folder / BEST, ranker)
    ranker.eval()
    return TrainResult(ranker, state, time.monotonic() - begun)


@dataclass(frozen=True, slots=True)
class _Training:
    """Everything a step reads and changes."""

    config: TrainConfig
    log: EncodedLog
    catalogue: Catalogue
    folder: Path
    ranker: Ranker
    optimiser: paddle.optimizer.Optimizer
    average: dict[str, np.ndarray]
    state: Progress
    teacher: np.ndarray | None


def _take_steps(training: _Training, *, progress: bool) -> None:
    """Go on from the present state to the last step, or until patience is at its end."""
    config, log, state = training.config, training.log, training.state
    pages = training_pages(config, log)
    steps_per_epoch = math.ceil(pages.size / config.pages_per_batch)
    total = steps_per_epoch * config.epochs
    every = max(steps_per_epoch // config.evaluations_per_epoch, 1)
    order: list[np.ndarray] = []
    order_epoch = -1
    with (
        closing(_Journal(training.folder, state.step)) as journal,
        tqdm(
            total=total, initial=state.step, desc="Training", unit="step", disable=not progress
        ) as bar,
    ):
        while state.step < total and state.since_best < config.patience:
            epoch = state.step // steps_per_epoch
            if epoch != order_epoch:
                order = epoch_order(
                    log, pages, config.pages_per_batch, config.category_power, (config.seed, epoch)
                )
                order_epoch = epoch
            rate = learning_rate(config, state.step, total)
            values = _take_step(training, order[state.step % steps_per_epoch], rate)
            bar.update()
            bar.set_postfix(loss=f"{values['loss']:.4f}", best=f"{state.best:.4f}", refresh=False)
            journal.write(state.step, {**values, "learning_rate": rate})
            if state.step % every == 0 or state.step == total:
                figures = validate(
                    config, training.ranker, training.average, training.catalogue, log
                )
                _judge(training, figures["validation_ndcg_at_10"])
                journal.write(state.step, figures)
                journal.flush()
                save_checkpoint(
                    training.folder, training.ranker, training.optimiser, training.average, state
                )


def _take_step(training: _Training, pages: np.ndarray, rate: float) -> dict[str, float]:
    """Batch, forward, loss, backward, step; return the losses."""
    config, ranker, state = training.config, training.ranker, training.state
    paddle.seed(config.seed * 1_000_003 + state.step)
    training.optimiser.set_lr(rate)
    ranker.train()
    batch = make_batch(
        training.log,
        pages,
        most=config.candidates_per_page,
        random=np.random.default_rng((config.seed, state.step)),
        teacher=training.teacher,
        teacher_share=config.teacher_share,
    )
    logits = ranker.scorer(page_batch(ranker, training.catalogue, batch))
    losses = batch_losses(config, logits, batch)
    losses["loss"].backward()
    values = {name: float(value) for name, value in losses.items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingError(_describe(values, batch, training))
    training.optimiser.step()
    training.optimiser.clear_grad()
    state.step += 1
    _move_average(training.average, ranker, config.average_decay, state.step)
    return values


def check_pages(config: TrainConfig, log: EncodedLog) -> None:
    """Refuse a log that cannot train what the configuration names.

    Raises:
        ConfigError: When the log's objectives are others.
        TrainingError: When there is nothing to train on or to evaluate.
    """
    known = log.schema.objectives
    if known[: len(config.objectives)] != config.objectives:
        raise ConfigError(
            f"objectives: got {', '.join(config.objectives)}, want the log's first in their "
            f"order: {', '.join(known)}"
        )
    evaluated = [
        _of_categories(config, log, log.pages_of("validation", s)) for s in config.surfaces
    ]
    for what, pages in (
        ("training", training_pages(config, log)),
        ("validation", np.concatenate(evaluated)),
    ):
        rows = rows_of(log, pages)
        if not log.labels[rows, 0].any():
            raise TrainingError(
                f"pages: got {pages.size} {what} pages of {', '.join(config.surfaces)}, none "
                f"with a positive, want at least one"
            )


def training_pages(config: TrainConfig, log: EncodedLog) -> np.ndarray:
    """Return the training pages of every surface, at most `max_pages` of each.

    The latest pages are kept when there are more: they are nearest to what comes.
    """
    parts = []
    for surface in config.surfaces:
        pages = _of_categories(config, log, log.pages_of("train", surface))
        parts.append(pages[-config.max_pages :] if config.max_pages else pages)
    return np.concatenate(parts)


def _of_categories(config: TrainConfig, log: EncodedLog, pages: np.ndarray) -> np.ndarray:
    """Keep the pages whose first candidate is of a category that the run is limited to."""
    if not config.categories:
        return pages
    wanted = [index_of(name, log.schema.categories, "categories") for name in config.categories]
    return pages[np.isin(log.categories[log.offsets[pages]], wanted)]


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
    targets = paddle.to_tensor(batch.targets)
    mask = paddle.to_tensor(batch.mask)
    fresh = paddle.to_tensor(batch.fresh)
    parts: dict[str, Tensor] = {}
    loss = paddle.zeros([])
    weights = zip(config.objectives, config.objective_weights, strict=True)
    for index, (name, weight) in enumerate(weights):
        inside = fresh if name == "trial" else mask
        wanted = targets if index == 0 else labels[:, :, index]
        listwise = listwise_softmax_loss(wanted, logits[:, :, index], inside)
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
        pages = _of_categories(config, log, log.pages_of("validation", surface))
        if pages.size == 0:
            continue
        count = min(config.validation_pages, pages.size)
        pages = pages[np.arange(count) * pages.size // count]
        scores = score_pages(ranker, catalogue, log, pages)
        sizes = np.diff(log.offsets)[pages]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = rows_of(log, pages)
        gains = log.labels[rows, 0].astype(np.float64)
        if not gains.any():
            continue
        ndcg = ndcg_at_k(gains, scores[:, 0].astype(np.float64), offsets, 10)
        figures[f"validation_{surface}_ndcg_at_10"] = float(np.nanmean(ndcg))
    _set_weights(ranker, kept)
    figures["validation_ndcg_at_10"] = float(np.mean(list(figures.values())))
    return figures


def _judge(training: _Training, figure: float) -> None:
    state = training.state
    if figure > state.best:
        state.best, state.best_step, state.since_best = figure, state.step, 0
        save_atomically(training.average, training.folder / BEST)
    else:
        state.since_best += 1


def _weights(ranker: Ranker) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in ranker.named_parameters()}


def _set_weights(ranker: Ranker, weights: dict[str, np.ndarray]) -> None:
    for name, value in ranker.named_parameters():
        value.set_value(weights[name])


def _move_average(average: dict[str, np.ndarray], ranker: Ranker, decay: float, step: int) -> None:
    """Move the average towards the weights; faster at first, when it has seen little."""
    keep = min(decay, (1 + step) / (10 + step))
    for name, value in ranker.named_parameters():
        average[name] *= keep
        average[name] += (1 - keep) * value.numpy()


def _describe(values: dict[str, float], batch: Batch, training: _Training) -> str:
    """Name the batch whose loss is not a number, and what in it is not finite."""
    by_page = {name: getattr(batch, name) for name in ("dense", "labels", "sequence_features")}
    wrong = []
    for name, values_of_pages in by_page.items():
        finite = np.isfinite(values_of_pages).all(axis=(1, 2))
        if not finite.all():
            wrong.append(f"{name} of pages {batch.pages[~finite].tolist()}")
    for name in ("text", "factors"):
        finite = np.isfinite(getattr(training.catalogue, name)[batch.products]).all(axis=1)
        if not finite.all():
            wrong.append(f"{name} of products {batch.products[~finite].tolist()}")
    return (
        f"loss at step {training.state.step}: got {values}, want finite numbers; the batch held "
        f"pages {batch.pages.tolist()} of {training.log.folder.name}; not finite in it: "
        f"{', '.join(wrong) or 'nothing, so try a lower learning_rate'}"
    )


class _Journal:
    """The log of a run, as JSON lines and as TensorBoard events."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open for appending after `step`; lines of later steps were lost work and go."""
        path = folder / LOG
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))
        self._file = path.open("a", encoding="utf-8")
        self._events = EventFileWriter(str(folder / "tensorboard"))
        # tells TensorBoard to forget what an earlier, killed run wrote of later steps
        start = SessionLog(status=SessionLog.START)
        self._events.add_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

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


def _step_of(line: str) -> float:
    """Return the step of a journal line; infinity for one that a kill has cut."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf
