"""Losses over the candidates of a page, by the type of what is predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import paddle
from paddle import Tensor
from paddle.nn import functional

_MASKED = -1e9
# Logits of amounts are cut off here, where exp is 5e8: far from any amount in units of its mean.
LARGEST_LOG = 20.0
_HUBER_WIDTH = 1.0
# From how many of these pages or candidates take part to how many of the whole batch do. Where
# processes share a batch, a loss is the own sum over the whole count, and theirs add up to it.
Count: TypeAlias = Callable[[Tensor], Tensor]


def own_count(count: Tensor) -> Tensor:
    """Return what it is given: these pages are the whole batch."""
    return count


def listwise_softmax_loss(
    labels: Tensor, logits: Tensor, mask: Tensor, count: Count = own_count
) -> Tensor:
    """Softmax cross-entropy over each page (ListNet top-one, Cao et al. 2007, eq. 7).

    L = -sum over candidates of (y / sum y) * log softmax(z); pages without a positive count
    nothing.

    Args:
        labels: 0 or 1, or gains >= 0, shape (pages, candidates).
        logits: Shape (pages, candidates).
        mask: 1 for a candidate that takes part, shape (pages, candidates).
        count: Where these are a share of a batch, of all its pages.

    Returns:
        A scalar, the mean over pages with a positive; 0 when there is none.
    """
    labels = labels * mask
    positives = labels.sum(axis=1)
    log_share = functional.log_softmax(logits + (1.0 - mask) * _MASKED, axis=1)
    has_positive = (positives > 0).astype("float32")
    # by their sum, however small gains are; pages without one divide by 1
    page_loss = -(labels * log_share).sum(axis=1) / (positives + 1.0 - has_positive)
    return (page_loss * has_positive).sum() / paddle.clip(count(has_positive.sum()), min=1.0)


def pointwise_loss(
    labels: Tensor, logits: Tensor, mask: Tensor, count: Count = own_count
) -> Tensor:
    """Binary cross-entropy of each candidate, averaged over the candidates of the batch.

    L = -(y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))), which ties logits to probabilities;
    the softmax alone leaves each page a free constant.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return _mean(loss, mask, count)


def page_cross_entropy(
    gains: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]
) -> float:
    """Return what `listwise_softmax_loss` does, of pages laid out one after another.

    Args:
        gains: Labels, >= 0, shape (rows,).
        scores: Logits, shape (rows,).
        offsets: Rows of page p are `offsets[p]:offsets[p + 1]`; no page is empty.

    Returns:
        The mean over pages with a positive; NaN when there is none.
    """
    starts, pages = offsets[:-1], np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    centred = scores - np.maximum.reduceat(scores, starts)[pages]
    log_share = centred - np.log(np.add.reduceat(np.exp(centred), starts))[pages]
    positives = np.add.reduceat(gains, starts)
    losses = -np.add.reduceat(gains * log_share, starts)[positives > 0] / positives[positives > 0]
    return float(losses.mean()) if losses.size else float("nan")


def joint_logit(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of the product of two probabilities, given their logits a and b.

    p = sigmoid(a) sigmoid(b), so log(p / (1 - p)) = -log(e^-a + e^-b + e^-(a+b)). A loss on it
    trains both heads through the product (ESMM, Ma et al. 2018, eq. 3).
    """
    parts = paddle.stack([-first, -second, -first - second], axis=-1)
    return -paddle.logsumexp(parts, axis=-1)


def poisson_loss(amounts: Tensor, logits: Tensor, mask: Tensor, count: Count = own_count) -> Tensor:
    """Poisson likelihood of counts with log link, without its constant, mean over candidates.

    L = e^z - y z (Cameron and Trivedi 1998, 2.2). Its minimum in z is log E[y] whatever the
    distribution of y >= 0, so it holds for amounts as well (Gourieroux et al. 1984).
    """
    logits = paddle.clip(logits, max=LARGEST_LOG)
    return _mean(paddle.exp(logits) - amounts * logits, mask, count)


def lognormal_loss(
    amounts: Tensor, logits: Tensor, mask: Tensor, count: Count = own_count
) -> Tensor:
    """Lognormal likelihood of amounts above 0, of deviation 1 and without its constant.

    L = (log y - z)^2 / 2, the second part of the zero-inflated lognormal loss (Wang et al. 2019,
    eq. 4); its first part, whether there is an amount, is a binary objective of its own.
    Candidates of amount 0 count nothing.
    """
    some = mask * (amounts > 0).astype("float32")
    distance = paddle.log(paddle.clip(amounts, min=1e-6)) - logits
    return _mean(0.5 * distance * distance, some, count)


def log1p_huber_loss(
    amounts: Tensor, logits: Tensor, mask: Tensor, count: Count = own_count
) -> Tensor:
    """Huber's loss of d = log(1 + y) - z (Huber 1964), mean over candidates.

    L = d^2 / 2 for |d| <= 1, else |d| - 1 / 2.
    """
    distance = paddle.abs(paddle.log1p(amounts) - logits)
    near = paddle.clip(distance, max=_HUBER_WIDTH)
    return _mean(0.5 * near * near + _HUBER_WIDTH * (distance - near), mask, count)


def weighted_logistic_loss(
    amounts: Tensor, logits: Tensor, mask: Tensor, count: Count = own_count
) -> Tensor:
    """Logistic loss with positives weighted by their amount (Covington et al. 2016, 4.2).

    L = y log(1 + e^-z) + [y = 0] log(1 + e^z), mean over candidates. The odds e^z it learns are
    the sum of the amounts over the number of candidates without any: about the mean amount.
    """
    nothing = (amounts <= 0).astype("float32")
    loss = amounts * functional.softplus(-logits) + nothing * functional.softplus(logits)
    return _mean(loss, mask, count)


def _mean(loss: Tensor, mask: Tensor, count: Count) -> Tensor:
    return (loss * mask).sum() / paddle.clip(count(mask.sum()), min=1.0)
