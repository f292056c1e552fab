"""The training loop: batch, forward, loss, backward, step, log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor
from tqdm import tqdm

from trainer.baselines.teacher import teacher_logits
from trainer.config import TrainConfig
from trainer.encoding.batches import EVERYTHING, Batch, Share, epoch_order, make_batch
from trainer.encoding.catalogue import Catalogue
from trainer.encoding.encoded import EncodedLog
from trainer.errors import ConfigError, TrainingError
from trainer.journal import Journal
from trainer.model.ranker import Ranker
from trainer.training.checkpoint import (
    BEST,
    Progress,
    load_checkpoint,
    load_weights,
    save_atomically,
    save_checkpoint,
)
from trainer.training.distributed import ALONE, Team
from trainer.training.fine_tuning import freeze_shared, is_shared_frozen, pull_to_start
from trainer.training.gradient_balance import LossBalance, balance_of
from trainer.training.network import build_ranker, page_batch
from trainer.training.objective_losses import batch_losses
from trainer.training.run_pages import check_pages, training_pages
from trainer.training.starting_weights import read_start, start_from, with_scales_of, write_names
from trainer.training.validation import validate, watched_figures, weights_of

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
    config: TrainConfig,
    log: EncodedLog,
    catalogue: Catalogue,
    folder: Path,
    *,
    progress: bool,
    on_evaluation: Callable[[int, float], None] | None = None,
    watched: Mapping[str, np.ndarray] | None = None,
    team: Team = ALONE,
) -> TrainResult:
    """Train, or go on from the folder's checkpoint; a finished run is read back.

    A step's batch, dropout and learning rate depend on the seed and the step's number alone, so
    a run that was killed and resumed equals one that was not. A run that starts from another's
    weights is evaluated before its first step too, and returns that start when nothing betters it.

    Args:
        config: `start_from` names the other run's folder, beside `folder` or absolute.
        log: The encoded log; a run that starts from another takes over that one's scales.
        catalogue: Inputs of the product tower.
        folder: Checkpoints, journal and weights.
        progress: Whether to draw a bar.
        on_evaluation: Is told the step and the validation NDCG@10 of each evaluation once its
            checkpoint is written; what it raises ends the run there, to be gone on with.
        watched: Page numbers of the log by a name such as `source` or `target`, whose
            cross-entropy and NDCG@10 every evaluation writes into the journal.
        team: The processes that train it together, each with the same arguments: a batch is
            shared by all, and the run equals that of one process up to rounding. The first of
            them alone writes, evaluates and tells.

    Raises:
        ConfigError: When the log has other objectives, or a batch fewer pages than processes.
        TrainingError: When there is nothing to learn, a loss is not a number, which names the
            batch, or the weights to start from are of another schema or network.
        TeamError: When another process of the team has gone.
    """
    begun = time.monotonic()
    if team.share.count > config.pages_per_batch:
        raise ConfigError(
            f"processes: got {team.share.count} for batches of {config.pages_per_batch} pages, "
            f"want at most pages_per_batch of them"
        )
    if team.leads:
        check_pages(config, log)
        folder.mkdir(parents=True, exist_ok=True)
    start = read_start(folder.parent / config.start_from) if config.start_from else None
    log = with_scales_of(start, log) if start else log
    with team.lead_first():
        if team.leads:
            write_names(folder, log.schema, catalogue.vocabulary)
        teacher = teacher_logits(config, log, folder) if config.teacher_share > 0 else None
    # an optimiser's state goes by the names of parameters, which Paddle numbers through the
    # whole process; in here they start anew, so that a resumed run finds its own
    with paddle.utils.unique_name.guard():
        ranker = build_ranker(config, log, catalogue)
        begin = start_from(start, ranker, log.schema, catalogue.vocabulary) if start else {}
        balance = balance_of(config, len(log.schema.categories))
        learned_balance = [] if balance is None else balance.parameters()
        undecayed = {parameter.name for parameter in learned_balance}
        optimiser = paddle.optimizer.AdamW(
            learning_rate=config.learning_rate,
            parameters=[*ranker.parameters(), *learned_balance],
            # decay pulls to zero what `l2_sp` is to hold where it started
            weight_decay=0.0 if start else config.weight_decay,
            apply_decay_param_fun=lambda name: name not in undecayed,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
        )
        loaded = load_checkpoint(folder, ranker, optimiser, balance)
        average, state = loaded or (weights_of(ranker), Progress())
        team.meet()  # none writes a checkpoint before all have read theirs
        training = _Training(
            config=config,
            log=log,
            catalogue=catalogue,
            folder=folder,
            ranker=ranker,
            optimiser=optimiser,
            average=average,
            state=state,
            teacher=teacher,
            start={name: paddle.to_tensor(values) for name, values in begin.items()},
            balance=balance,
            watched=watched or {},
            team=team,
        )
        _take_steps(training, on_evaluation, progress=progress)
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
    start: dict[str, Tensor]
    balance: LossBalance | None
    watched: Mapping[str, np.ndarray]
    team: Team


def _take_steps(
    training: _Training, on_evaluation: Callable[[int, float], None] | None, *, progress: bool
) -> None:
    """Go on from the present state to the last step, or until patience is at its end."""
    config, log, state = training.config, training.log, training.state
    pages = training_pages(config, log)
    steps_per_epoch = math.ceil(pages.size / config.pages_per_batch)
    total = steps_per_epoch * config.epochs
    every = max(steps_per_epoch // config.evaluations_per_epoch, 1)
    order: list[np.ndarray] = []
    order_epoch = -1
    with (
        _journal(training) as journal,
        tqdm(
            total=total, initial=state.step, desc="Training", unit="step", disable=not progress
        ) as bar,
    ):
        if training.start and not _is_judged(state):
            _evaluate(training, journal, on_evaluation)
        while state.step < total and state.since_best < config.patience:
            epoch = state.step // steps_per_epoch
            if epoch != order_epoch:
                order = epoch_order(
                    log, pages, config.pages_per_batch, config.category_power, (config.seed, epoch)
                )
                order_epoch = epoch
            rate = learning_rate(config, state.step, total)
            if training.start:
                freeze_shared(training.ranker, frozen=is_shared_frozen(config, state.step, total))
            values = _take_step(training, order[state.step % steps_per_epoch], rate)
            bar.update()
            bar.set_postfix(loss=f"{values['loss']:.4f}", best=f"{state.best:.4f}", refresh=False)
            if journal is not None:
                journal.write(state.step, {**values, "learning_rate": rate})
            log.give_back()
            if state.step % every == 0 or state.step == total:
                _evaluate(training, journal, on_evaluation)


def _is_judged(state: Progress) -> bool:
    """Return whether the run was evaluated at least once, so that there is a checkpoint."""
    return state.best > -math.inf


def _journal(training: _Training) -> AbstractContextManager[Journal | None]:
    """Return the journal, open; None in a process that does not lead."""
    if not training.team.leads:
        return nullcontext()
    step = training.state.step if _is_judged(training.state) else -1
    return closing(Journal(training.folder, step))


def _evaluate(
    training: _Training, journal: Journal | None, on_evaluation: Callable[[int, float], None] | None
) -> None:
    """Score validation and watched pages with the averaged weights, and write a checkpoint.

    The leading process does; the others learn whether the run goes on.
    """
    state, ranker = training.state, training.ranker
    if journal is not None:
        read = (ranker, training.average, training.catalogue, training.log)
        figures = validate(training.config, *read)
        reached = figures["validation_ndcg_at_10"]
        _judge(training, reached)
        journal.write(state.step, figures | watched_figures(*read, training.watched))
        journal.flush()
        save_checkpoint(
            training.folder, ranker, training.optimiser, training.average, state, training.balance
        )
        if on_evaluation is not None:
            on_evaluation(state.step, reached)
    best, best_step, since = training.team.told_by_lead(
        [state.best, state.best_step, state.since_best]
    )
    state.best, state.best_step, state.since_best = best, int(best_step), int(since)


def _take_step(training: _Training, pages: np.ndarray, rate: float) -> dict[str, float]:
    """Batch, forward, loss, backward, step; return the losses."""
    config, ranker, state, team = training.config, training.ranker, training.state, training.team
    paddle.seed(config.seed * 1_000_003 + state.step)
    training.optimiser.set_lr(rate)
    ranker.train()
    batch = _batch(training, pages, team.share)
    logits = ranker.scorer(page_batch(ranker, training.catalogue, batch))
    count = team.counts(lambda count: batch_losses(config, logits, batch, count))
    losses = batch_losses(config, logits, batch, count)
    if training.balance is None:
        losses["loss"].backward()
    else:
        training.balance.backward(ranker, logits, batch, (config.seed, state.step), team)
    values = _of_whole_batch(training, losses)
    if config.l2_sp > 0:
        pull_to_start(ranker, training.start, config.l2_sp)
    if not all(math.isfinite(value) for value in values.values()):
        if not team.leads:
            team.meet()  # the leading process tells, and this one goes when that has gone
        raise TrainingError(_describe(values, _batch(training, pages, EVERYTHING), training))
    training.optimiser.step()
    training.optimiser.clear_grad()
    if training.balance is not None:
        training.balance.clamp()
    state.step += 1
    if team.leads:
        _move_average(training.average, ranker, config.average_decay, state.step)
    return values


def _batch(training: _Training, pages: np.ndarray, share: Share) -> Batch:
    """Return a share of the present step's batch."""
    config = training.config
    return make_batch(
        training.log,
        pages,
        most=config.candidates_per_page,
        random=np.random.default_rng((config.seed, training.state.step)),
        teacher=training.teacher,
        teacher_share=config.teacher_share,
        share=share,
    )


def _of_whole_batch(training: _Training, losses: dict[str, Tensor]) -> dict[str, float]:
    """Make the gradients those of the whole batch, and return its losses."""
    learned = [] if training.balance is None else training.balance.parameters()
    parameters = [*training.ranker.parameters(), *learned]
    if training.balance is not None and training.balance.projects:
        parameters = []  # these were added up before they were projected
    reached = [(one, one.grad) for one in parameters if one.grad is not None]
    whole = training.team.add_up([gradient for _, gradient in reached], list(losses.values()))
    if not training.team.alone:
        for (parameter, _), gradient in zip(reached, whole, strict=False):
            parameter.grad = gradient
    return {name: float(value) for name, value in zip(losses, whole[len(reached) :], strict=True)}


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Return the rate of a step: a linear rise, then half a cosine (Loshchilov 2017, eq. 5)."""
    warmup = max(int(total * config.warmup_share), 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(total - warmup, 1)
    low = _LAST_RATE_SHARE
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))


def _judge(training: _Training, figure: float) -> None:
    state = training.state
    if figure > state.best:
        state.best, state.best_step, state.since_best = figure, state.step, 0
        save_atomically(training.average, training.folder / BEST)
    else:
        state.since_best += 1


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
