"""The shopper as one vector for all candidates: what a GRU, an LSTM or self-attention ends with."""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from trainer.model.attention import PageAttention


class ShopperState(nn.Layer):
    """The state of an encoder at the shopper's last event; zero for a shopper without events.

    `gru` is GRU4Rec's encoder (Hidasi et al. 2016; the unit of Cho et al. 2014), `lstm` the same
    with the unit of Hochreiter and Schmidhuber (1997). `transformer` is one block of SASRec (Kang
    and McAuley 2018): at the last event its causal attention sees every event, so no causal mask
    is needed. In place of its learned positions stand the ages among the numbers of the events.
    """

    def __init__(
        self, encoder: str, width: int, event_features: int, heads: int, dropout: float
    ) -> None:
        """Read events of `width` plus `event_features` numbers.

        Args:
            encoder: `gru`, `lstm` or `transformer`.
            width: Width of product vectors and of the state.
            event_features: Numbers of each event.
            heads: Attention heads of the transformer.
            dropout: Share of its hidden units dropped in training.
        """
        super().__init__()
        self._event = nn.Linear(width + event_features, width)
        self._recurrent: nn.Layer | None = None
        self._block: PageAttention | None = None
        if encoder == "transformer":
            self._block = PageAttention(width, heads, dropout)
        else:
            self._recurrent = {"gru": nn.GRU, "lstm": nn.LSTM}[encoder](width, width)
        self._norm = nn.LayerNorm(width)

    def forward(
        self, candidates: Tensor, vectors: Tensor, features: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the same vector for every candidate, shape (pages, candidates, width).

        Takes what `ShopperSequence` takes.
        """
        events = self._event(paddle.concat([vectors, features], axis=-1))
        if self._block is not None:
            states = self._block(events, mask)
        else:
            assert self._recurrent is not None  # one of the two is built
            states, _ = self._recurrent(events)  # padding comes last, so no state has seen it
            states = states + events
        seen = paddle.cumsum(mask, axis=1)
        last = mask * (seen == mask.sum(axis=1, keepdim=True)).astype(mask.dtype)
        state = paddle.matmul(last.unsqueeze(1), self._norm(states))  # (pages, 1, width)
        return paddle.zeros_like(candidates) + state
