"""The loss of a batch of pages: that of each objective, by its share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import paddle
from paddle import Tensor

from trainer.config import TrainConfig
from trainer.encoding.batches import Batch
from trainer.objectives import Head, Loss
from trainer.training.losses import (
    Count,
    joint_logit,
    listwise_softmax_loss,
    log1p_huber_loss,
    lognormal_loss,
    own_count,
    pointwise_loss,
    poisson_loss,
    weighted_logistic_loss,
)

_AMOUNT_LOSSES: Mapping[Loss, Callable[[Tensor, Tensor, Tensor, Count], Tensor]] = {
    "poisson": poisson_loss,
    "lognormal": lognormal_loss,
    "huber": log1p_huber_loss,
    "weighted_logistic": weighted_logistic_loss,
}


def batch_losses(
    config: TrainConfig, logits: Tensor, batch: Batch, count: Count = own_count
) -> dict[str, Tensor]:
    """Return the loss and its parts; `count` is as in `listwise_softmax_loss`.

    Each objective is taken over the candidates that count for it. One in [0, 1] has a listwise
    part and `pointwise_weight` times a pointwise one; an amount has the one loss of its head, in
    units of the head's scale. A conditional objective over the whole space is learned through
    its product with what it is conditional on.
    """
    labels = paddle.to_tensor(batch.labels)
    counted = paddle.to_tensor(batch.counted)
    targets = paddle.to_tensor(batch.targets)
    parts: dict[str, Tensor] = {}
    loss = paddle.zeros([])
    weights = zip(batch.heads, config.objective_weights, strict=True)
    for index, (head, weight) in enumerate(weights):
        inside = counted[:, :, index]
        if head.amount:
            if head.whole:  # learned where the condition holds, served over the whole space
                inside = inside * (labels[:, :, head.parent] > 0).astype("float32")
            amounts = labels[:, :, index] / head.scale
            part = _AMOUNT_LOSSES[head.loss](amounts, logits[:, :, index], inside, count)
            parts[f"{head.name}_{head.loss}"] = part
            loss = loss + weight * part
            continue
        gains = _gains(batch.heads, index, labels)
        own = _whole_logit(batch.heads, index, logits)
        pointwise = pointwise_loss(gains / head.largest_gain, own, inside, count)
        if head.loss == "pointwise":
            parts[f"{head.name}_pointwise"] = pointwise
            loss = loss + weight * pointwise
            continue
        wanted = targets if index == 0 else gains
        listwise = listwise_softmax_loss(wanted, own, inside, count)
        parts[f"{head.name}_listwise"], parts[f"{head.name}_pointwise"] = listwise, pointwise
        loss = loss + weight * (listwise + config.pointwise_weight * pointwise)
    return {"loss": loss, **parts}


def _gains(heads: tuple[Head, ...], index: int, labels: Tensor) -> Tensor:
    """Return the gains of a head in [0, 1] or of grades; 0 where a product's condition is not."""
    gains = labels[:, :, index]
    if heads[index].label.type == "graded":
        gains = 2.0**gains - 1.0
    parent = heads[index].parent
    while heads[index].whole and parent >= 0:
        gains = gains * (labels[:, :, parent] > 0).astype("float32")
        parent = heads[parent].parent
    return gains


def _whole_logit(heads: tuple[Head, ...], index: int, logits: Tensor) -> Tensor:
    """Return the logit of a head, over the whole space that of its product with its condition."""
    own = logits[:, :, index]
    if not heads[index].whole:
        return own
    return joint_logit(_whole_logit(heads, heads[index].parent, logits), own)
