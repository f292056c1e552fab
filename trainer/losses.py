"""Losses over the candidates of a page; each is a mean over the pages that have a positive."""

from __future__ import annotations

import paddle
from paddle import Tensor
from paddle.nn import functional

_MASKED = -1e9


def listwise_softmax_loss(labels: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax cross-entropy over each page (ListNet top-one, Cao et al. 2007, eq. 7).

    L = -sum over candidates of (y / sum y) * log softmax(z); pages without a positive count
    nothing.

    Args:
        labels: 0 or 1, shape (pages, candidates).
        logits: Shape (pages, candidates).
        mask: 1 for a candidate that takes part, shape (pages, candidates).

    Returns:
        A scalar, the mean over pages with a positive; 0 when there is none.
    """
    labels = labels * mask
    positives = labels.sum(axis=1)
    log_share = functional.log_softmax(logits + (1.0 - mask) * _MASKED, axis=1)
    page_loss = -(labels * log_share).sum(axis=1) / paddle.clip(positives, min=1.0)
    has_positive = (positives > 0).astype("float32")
    return (page_loss * has_positive).sum() / paddle.clip(has_positive.sum(), min=1.0)


def pointwise_loss(labels: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of each candidate, averaged over the candidates of the batch.

    L = -(y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))), which ties logits to probabilities;
    the softmax alone leaves each page a free constant.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (loss * mask).sum() / paddle.clip(mask.sum(), min=1.0)
