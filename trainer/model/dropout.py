"""Dropout whose draws do not depend on how many processes share a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import paddle
from paddle import Tensor, nn
from paddle.nn import functional


@dataclass(frozen=True, slots=True)
class OwnRows:
    """Which rows of a whole batch a process has.

    Attributes:
        index: Of each own row, shape (rows,).
        count: Rows of the whole batch.
    """

    index: Tensor
    count: int


class PageDropout(nn.Dropout):
    """Dropout of the hidden units of pages.

    A process that has a share of a batch draws for the whole of it and keeps what is drawn for
    its own pages, so that every page loses the units that it would lose in one process.

    Attributes:
        own: Which pages these are; None for all.
    """

    def __init__(self, share: float) -> None:
        """Drop `share` of the units in training."""
        super().__init__(share)
        self.own: OwnRows | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Return `values`, some of them zero and the others larger, shape (pages, ...)."""
        own = self.own
        if own is None or not self.training:
            return functional.dropout(values, self.p, training=self.training)
        kept = functional.dropout(paddle.ones([own.count, *values.shape[1:]]), self.p)
        return values * paddle.gather(kept, own.index)


def uniform_rows(shape: Sequence[int], own: OwnRows | None) -> Tensor:
    """Return draws from [0, 1), for own rows those that one process with all rows would draw."""
    if own is None:
        return paddle.rand(shape)
    return paddle.gather(paddle.rand([own.count, *shape[1:]]), own.index)
