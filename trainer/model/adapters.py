"""The few parameters of each category: adapters, bias and scale; slot 0 is neutral."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional


class LowRankAdapter(nn.Layer):
    """A linear layer with a low-rank change per category (MLoRA, Yang et al. 2024, eq. 3).

    y = W x + b + B_c A_c x. All A_c are one matrix of categories * rank rows, and a mask keeps
    the rows of the candidate's own category, so a page of mixed categories costs two products.
    """

    def __init__(self, width_in: int, width_out: int, categories: int, rank: int) -> None:
        """Start as the plain layer: every B_c is zero. It stays one at a rank of 0."""
        super().__init__()
        self.shared = nn.Linear(width_in, width_out)
        self._adapted = rank > 0
        if not self._adapted:
            return
        self._down = nn.Linear(width_in, categories * rank, bias_attr=False)
        self._up = nn.Linear(
            categories * rank,
            width_out,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)),
            bias_attr=False,
        )
        own = np.kron(np.eye(categories), np.ones((1, rank)))
        own[0] = 0.0  # slot 0: categories never seen fall back to the shared layer
        self.register_buffer("_own", paddle.to_tensor(own.astype(np.float32)))

    def forward(self, values: Tensor, categories: Tensor) -> Tensor:
        """Return shape (pages, candidates, width_out) for categories (pages, candidates)."""
        if not self._adapted:
            shared: Tensor = self.shared(values)
            return shared
        own = functional.embedding(categories, self._own)
        return self.shared(values) + self._up(self._down(values) * own)


class StarAdapter(nn.Layer):
    """A linear layer whose weights each category multiplies by its own (STAR, Sheng et al. 2021).

    y = (W * W_c) x + b + b_c, eq. 3 of the paper. W_c is 1 + B_c A_c: at a rank as large as the
    layer these are STAR's own weights, at a smaller one their low-rank form, which is computed
    without building W_c: (W * b a') x = b * W (a * x). Parameters lie as in `LowRankAdapter`.
    """

    def __init__(self, width_in: int, width_out: int, categories: int, rank: int) -> None:
        """Start as the plain layer: every B_c and b_c is zero, so that every W_c is one."""
        super().__init__()
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.shared = nn.Linear(width_in, width_out)
        self._rank, self._width_in, self._width_out = rank, width_in, width_out
        self._down = nn.Linear(width_in, categories * rank, bias_attr=False)
        self._up = nn.Linear(categories * rank, width_out, weight_attr=zero, bias_attr=False)
        self._bias = nn.Embedding(categories, width_out, weight_attr=zero)
        seen = np.ones((categories, 1), np.float32)
        seen[0] = 0.0  # slot 0: categories never seen fall back to the shared layer
        self.register_buffer("_seen", paddle.to_tensor(seen))

    def forward(self, values: Tensor, categories: Tensor) -> Tensor:
        """Return shape (pages, candidates, width_out) for categories (pages, candidates)."""
        rank = self._rank
        own_in = self._down.weight.transpose([1, 0]).reshape([-1, rank * self._width_in])
        own_out = self._up.weight.reshape([-1, rank * self._width_out])
        own_in = functional.embedding(categories, own_in)  # (pages, candidates, rank * width_in)
        own_out = functional.embedding(categories, own_out)
        added = self._bias(categories)
        for row in range(rank):
            narrow = own_in[:, :, row * self._width_in : (row + 1) * self._width_in]
            wide = own_out[:, :, row * self._width_out : (row + 1) * self._width_out]
            added = added + wide * paddle.matmul(values * narrow, self.shared.weight)
        shared: Tensor = self.shared(values)
        return shared + functional.embedding(categories, self._seen) * added


class CategoryAffine(nn.Layer):
    """One bias and one scale per category and objective; slot 0 changes nothing."""

    def __init__(self, categories: int, objectives: int) -> None:
        """Start as the identity."""
        super().__init__()
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self._scale = nn.Embedding(categories, objectives, weight_attr=zero)
        self._bias = nn.Embedding(categories, objectives, weight_attr=zero)
        seen = np.ones((categories, 1), np.float32)
        seen[0] = 0.0
        self.register_buffer("_seen", paddle.to_tensor(seen))

    def forward(self, logits: Tensor, categories: Tensor) -> Tensor:
        """Return logits, shape (pages, candidates, objectives), on the category's own scale."""
        seen = functional.embedding(categories, self._seen)
        return logits * (1.0 + seen * self._scale(categories)) + seen * self._bias(categories)
