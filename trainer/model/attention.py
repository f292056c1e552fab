"""Scaled dot-product attention over masked sets (Vaswani et al. 2017, eq. 1)."""

from __future__ import annotations

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from trainer.model.dropout import PageDropout

# finite, so that a row without any key stays finite too
_MASKED = -1e9


class Attention(nn.Layer):
    """Multi-head attention; keys whose mask is 0 get no weight."""

    def __init__(self, width: int, heads: int) -> None:
        """Project queries, keys and values of `width` into `heads` heads."""
        super().__init__()
        self._heads = heads
        self._head_width = width // heads
        self._query = nn.Linear(width, width)
        self._key = nn.Linear(width, width)
        self._value = nn.Linear(width, width)
        self._out = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Return one mixture of values per query.

        Args:
            queries: Shape (pages, queries, width).
            keys: Shape (pages, keys, width).
            mask: 1 for a key to look at, 0 for padding, shape (pages, keys).

        Returns:
            Shape (pages, queries, width).
        """
        query = self._split(self._query(queries))
        key = self._split(self._key(keys))
        value = self._split(self._value(keys))
        weights = paddle.matmul(query, key, transpose_y=True) * (self._head_width**-0.5)
        weights = weights + ((1.0 - mask) * _MASKED).unsqueeze([1, 2])
        mixed = paddle.matmul(functional.softmax(weights, axis=-1), value)
        mixed = mixed.transpose([0, 2, 1, 3])
        return self._out(mixed.reshape([0, 0, self._heads * self._head_width]))

    def _split(self, values: Tensor) -> Tensor:
        heads = values.reshape([0, 0, self._heads, self._head_width])
        return heads.transpose([0, 2, 1, 3])  # (pages, heads, rows, head width)


class PageAttention(nn.Layer):
    """Candidates look at each other: one pre-norm set-attention block without positions.

    The encoder block of Set Transformer (Lee et al. 2019, eq. 7), so that permuting the
    candidates permutes the output.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Build one block of `width`."""
        super().__init__()
        self._norm_in = nn.LayerNorm(width)
        self._attention = Attention(width, heads)
        self._norm_out = nn.LayerNorm(width)
        self._feed = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            PageDropout(dropout),
            nn.Linear(2 * width, width),
        )
        self._dropout = PageDropout(dropout)

    def forward(self, candidates: Tensor, mask: Tensor) -> Tensor:
        """Return candidates, shape (pages, candidates, width), that know their page."""
        inner = self._norm_in(candidates)
        candidates = candidates + self._dropout(self._attention(inner, inner, mask))
        return candidates + self._dropout(self._feed(self._norm_out(candidates)))
