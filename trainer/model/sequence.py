"""The shopper: an LSTM over past events, read by each candidate through target attention."""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from trainer.model.attention import Attention


class ShopperSequence(nn.Layer):
    """One vector per candidate from the shopper's past events.

    The LSTM (Hochreiter and Schmidhuber 1997) reads the events oldest first. Candidates attend
    to its states and to a zero slot, so that a candidate to which nothing in the past speaks
    gets a vector of its own kind (zero attention model, Ai et al. 2019).
    """

    def __init__(self, width: int, event_features: int, heads: int) -> None:
        """Read events of `width` plus `event_features` numbers."""
        super().__init__()
        self._event = nn.Linear(width + event_features, width)
        self._lstm = nn.LSTM(width, width)
        self._norm = nn.LayerNorm(width)
        self._attention = Attention(width, heads)

    def forward(
        self, candidates: Tensor, vectors: Tensor, features: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the shopper as each candidate sees them, shape (pages, candidates, width).

        Args:
            candidates: Candidate vectors, shape (pages, candidates, width).
            vectors: Product vectors of the events, shape (pages, events, width), padding last.
            features: Numbers of each event, shape (pages, events, features).
            mask: 1 for an event, 0 for padding, shape (pages, events).
        """
        events = self._event(paddle.concat([vectors, features], axis=-1))
        states, _ = self._lstm(events)  # padding comes last, so no state has seen it
        states = self._norm(states + events) * mask.unsqueeze(-1)
        slot = paddle.zeros_like(states[:, 0:1])
        keys = paddle.concat([slot, states], axis=1)
        seen = paddle.concat([paddle.ones_like(mask[:, 0:1]), mask], axis=1)
        return self._attention(candidates, keys, seen)
