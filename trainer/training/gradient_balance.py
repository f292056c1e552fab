"""Losses of several objectives, or of several categories, weighed against each other in training.

The default weighs them by fixed numbers and needs nothing of this. The other two are learned
weights (Kendall, Gal and Cipolla 2018) and the projection of gradients that conflict (Yu et al.
2020).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace

import numpy as np
import paddle
from paddle import Tensor, nn

from trainer.config import TrainConfig
from trainer.encoding.batches import Batch, Place
from trainer.training.distributed import ALONE, Team
from trainer.training.fine_tuning import is_of_categories
from trainer.training.losses import Count, own_count
from trainer.training.objective_losses import batch_losses

# a loss weighs a tenth to ten times its fixed weight
_MOST = math.log(10.0)
_OF_OBJECTIVES = re.compile(r"scorer\._(heads|direct)\..+|scorer\._affine\..+")


@dataclass(frozen=True, slots=True)
class TaskLoss:
    """The loss of one objective, or of one category.

    Attributes:
        row: Of the objective or of the category.
        weight: Its fixed weight.
        loss: A scalar, without the weight.
    """

    row: int
    weight: float
    loss: Tensor


def balance_of(config: TrainConfig, categories: int) -> LossBalance | None:
    """Return what a configuration asks for; None for fixed weights."""
    if config.balance == "fixed":
        return None
    tasks = categories if config.balance_over == "categories" else len(config.objectives)
    return LossBalance(config, tasks)


class LossBalance(nn.Layer):
    """Brings the losses of several tasks into one gradient.

    Attributes:
        log_variance: s = log sigma^2 of each task, shape (tasks,); None when nothing is learned.
    """

    def __init__(self, config: TrainConfig, tasks: int) -> None:
        """Start with the fixed weights: every s is zero."""
        super().__init__()
        self._config = config
        self.log_variance = (
            self.create_parameter([tasks], default_initializer=nn.initializer.Constant(0.0))
            if config.balance == "uncertainty"
            else None
        )

    def backward(
        self,
        network: nn.Layer,
        logits: Tensor,
        batch: Batch,
        seed: tuple[int, int],
        team: Team = ALONE,
    ) -> None:
        """Write the balanced gradient into the parameters of `network`, and into its own.

        Learned weights leave gradients to be summed over processes, projected ones are sums.

        Args:
            network: Where `logits` come from.
            logits: Shape (pages, candidates, objectives).
            batch: The pages.
            seed: Of the order in which conflicts are projected away.
            team: The processes that share the batch.
        """
        over_categories = self._config.balance_over == "categories"
        losses = category_losses if over_categories else objective_losses
        count = team.counts(lambda count: losses(self._config, logits, batch, count))
        tasks = losses(self._config, logits, batch, count)
        if self.log_variance is None:
            own = is_of_categories
            if not over_categories:
                own = _is_of_objectives
            shared = {name: not own(name) for name, _ in network.named_parameters()}
            _backward_projected(network, shared, tasks, np.random.default_rng(seed), team)
        else:
            weigh_by_uncertainty(tasks, self.log_variance, 1 / team.share.count).backward()

    @property
    def projects(self) -> bool:
        """Whether gradients are projected, so that a team's are added up before that."""
        return self.log_variance is None

    def clamp(self) -> None:
        """Keep the learned weights within a tenth and ten times the fixed ones."""
        if self.log_variance is not None:
            self.log_variance.set_value(paddle.clip(self.log_variance.detach(), -_MOST, _MOST))


def objective_losses(
    config: TrainConfig, logits: Tensor, batch: Batch, count: Count = own_count
) -> list[TaskLoss]:
    """Return the loss of each objective; `count` is as in `listwise_softmax_loss`."""
    objectives = len(config.objectives)
    tasks = []
    for index, weight in enumerate(config.objective_weights):
        only = tuple(float(other == index) for other in range(objectives))
        loss = batch_losses(replace(config, objective_weights=only), logits, batch, count)["loss"]
        tasks.append(TaskLoss(index, weight, loss))
    return tasks


def category_losses(
    config: TrainConfig, logits: Tensor, batch: Batch, count: Count = own_count
) -> list[TaskLoss]:
    """Return the loss of the pages of each category, weighed by their share of the batch.

    A page is of the category of its first candidate. A share of a batch has the categories of
    all of it, so that every process speaks of the same tasks; `count` is as in
    `listwise_softmax_loss`.
    """
    if batch.place is not None:
        return _shared_category_losses(config, logits, batch, batch.place, count)
    of_pages = batch.categories[:, 0]
    tasks = []
    for row in np.unique(of_pages).tolist():
        chosen = np.flatnonzero(of_pages == row)
        part = paddle.gather(logits, paddle.to_tensor(chosen))
        loss = batch_losses(config, part, _pages_of(batch, chosen))["loss"]
        tasks.append(TaskLoss(row, chosen.size / of_pages.size, loss))
    return tasks


def _shared_category_losses(
    config: TrainConfig, logits: Tensor, batch: Batch, place: Place, count: Count
) -> list[TaskLoss]:
    """Return this process's part of the loss of each category; pages of others count nothing."""
    of_pages = batch.categories[:, 0]
    tasks = []
    for row, pages in zip(*np.unique(place.page_categories, return_counts=True), strict=True):
        inside = (of_pages == row)[:, None, None]
        only = replace(batch, counted=batch.counted * inside.astype(np.float32))
        loss = batch_losses(config, logits, only, count)["loss"]
        tasks.append(TaskLoss(int(row), int(pages) / place.page_count, loss))
    return tasks


def _pages_of(batch: Batch, chosen: np.ndarray) -> Batch:
    """Return some pages of a batch; the products that pages point into stay as they are."""
    by_page = {item.name for item in fields(batch)} - {"products", "heads", "place"}
    return replace(batch, **{name: getattr(batch, name)[chosen] for name in by_page})


def weigh_by_uncertainty(tasks: list[TaskLoss], log_variance: Tensor, share: float = 1.0) -> Tensor:
    """Return sum over tasks of weight * (exp(-s) * loss + s / 2), s = log sigma^2.

    Kendall, Gal and Cipolla 2018, eq. 10 for a likelihood of classes; a task of large loss is
    weighed down until exp(-s) * loss is a half. Of s / 2 it takes a `share`, so that what
    processes have adds up to it as their losses do.
    """
    total = paddle.zeros([])
    for task in tasks:
        s = log_variance[task.row]
        total = total + task.weight * (paddle.exp(-s) * task.loss + share * s / 2)
    return total


def project_conflicts(gradients: Tensor, random: np.random.Generator) -> Tensor:
    """Return the sum of gradients, each freed from what conflicts with another (PCGrad).

    Yu et al. 2020, algorithm 1: for each task i and every other task j in random order, when
    g_i . g_j < 0, g_i <- g_i - (g_i . g_j) / ||g_j||^2 g_j, the g_j being the ones given.

    Args:
        gradients: One row per task, shape (tasks, parameters).
        random: Draws the orders.
    """
    count = gradients.shape[0]
    squares = (gradients * gradients).sum(axis=1)
    total = paddle.zeros_like(gradients[0])
    for row in range(count):
        projected = gradients[row]
        for other in random.permutation(np.delete(np.arange(count), row)).tolist():
            product = (projected * gradients[other]).sum()
            if float(product) < 0:
                projected = projected - product / squares[other] * gradients[other]
        total = total + projected
    return total


def _is_of_objectives(parameter: str) -> bool:
    return _OF_OBJECTIVES.fullmatch(parameter) is not None


def _backward_projected(
    network: nn.Layer,
    shared: dict[str, bool],
    tasks: list[TaskLoss],
    random: np.random.Generator,
    team: Team,
) -> None:
    """Write into the gradients what PCGrad makes of the shared parameters, and sums elsewhere."""
    trained = {name: value for name, value in network.named_parameters() if not value.stop_gradient}
    by_task = [
        paddle.grad(
            task.weight * task.loss, list(trained.values()), retain_graph=True, allow_unused=True
        )
        for task in tasks
    ]
    by_task = _summed(by_task, team)
    projected = []
    for column, (name, parameter) in enumerate(trained.items()):
        by_column = [gradients[column] for gradients in by_task]
        known = [gradient for gradient in by_column if gradient is not None]
        if not known:
            continue
        if shared[name]:
            projected.append((column, parameter))
        else:
            parameter.grad = paddle.add_n(known)
    if not projected:
        return
    rows = [
        paddle.concat([_flat(gradients[column], value) for column, value in projected])
        for gradients in by_task
    ]
    together = project_conflicts(paddle.stack(rows), random)
    place = 0
    for _, parameter in projected:
        parameter.grad = together[place : place + parameter.size].reshape(parameter.shape)
        place += parameter.size


def _summed(by_task: list[list[Tensor | None]], team: Team) -> list[list[Tensor | None]]:
    """Return the gradients of each task, summed over processes where they are known."""
    known = [gradient for gradients in by_task for gradient in gradients if gradient is not None]
    whole = iter(team.add_up(known))
    return [[None if one is None else next(whole) for one in gradients] for gradients in by_task]


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    if gradient is None:
        return paddle.zeros([parameter.size])
    return gradient.reshape([-1])
