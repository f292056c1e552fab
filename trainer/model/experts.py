"""Experts that heads mix by gates of their own: MMoE, and PLE's single extraction level."""

from __future__ import annotations

import paddle
from paddle import Tensor, nn
from paddle.nn import functional


class ExpertGate(nn.Layer):
    """One vector per head: a mixture of experts by the head's own gate.

    f_k(x) = sum over experts i of softmax(W_k x)_i relu(V_i x + c_i), MMoE (Ma et al. 2018,
    eq. 6 and 7). With `own`, each head mixes the shared experts and one of its own, the
    customised gate control of PLE (Tang et al. 2020, eq. 1 and 2) with one expert per task.
    """

    def __init__(self, width: int, heads: int, experts: int, *, own: bool) -> None:
        """Build the experts.

        Args:
            width: Of the input and of each mixture.
            heads: Mixtures wanted.
            experts: Shared experts.
            own: Whether each head has an expert that no other sees.
        """
        super().__init__()
        self._heads, self._experts, self._width = heads, experts, width
        self._shared = nn.Linear(width, experts * width)
        self._own = nn.Linear(width, heads * width) if own else None
        self._choices = experts + int(own)
        self._gate = nn.Linear(width, heads * self._choices)

    def forward(self, values: Tensor) -> Tensor:
        """Return shape (pages, candidates, heads, width) for values (pages, candidates, width)."""
        pages, candidates = paddle.shape(values)[0], paddle.shape(values)[1]
        shared = functional.relu(self._shared(values))
        shared = shared.reshape([pages, candidates, self._experts, self._width])
        gate = self._gate(values).reshape([pages, candidates, self._heads, self._choices])
        gate = functional.softmax(gate, axis=-1)  # (pages, candidates, heads, experts)
        mixed = paddle.matmul(gate[:, :, :, : self._experts], shared)
        if self._own is not None:
            own = functional.relu(self._own(values))
            own = own.reshape([pages, candidates, self._heads, self._width])
            mixed = mixed + gate[:, :, :, self._experts :] * own
        return mixed


class OwnLinear(nn.Layer):
    """One number from each head's own vector."""

    def __init__(self, width: int, heads: int) -> None:
        """Start as `heads` linear layers do."""
        super().__init__()
        self._weight = self.create_parameter([heads, width])
        self._bias = self.create_parameter([heads], is_bias=True)

    def forward(self, values: Tensor) -> Tensor:
        """Return shape (..., heads) for values of shape (..., heads, width)."""
        return (values * self._weight).sum(axis=-1) + self._bias
