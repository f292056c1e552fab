"""The layers of `product.onnx` and `query.onnx`, from tokens on or behind a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor, nn

from rerank_server.contract.graph_inputs import QUERY_INPUTS
from trainer.encoding.sentence_encoder import TEXT
from trainer.model.products import TextEncoder
from trainer.model.ranker import Ranker


class ProductGraph(nn.Layer):
    """`product.onnx`: from what is known of products to their vectors."""

    def __init__(self, ranker: Ranker, text: TextEncoder) -> None:
        """Share the tower of `ranker` and what encodes its texts."""
        super().__init__()
        self._text = text
        self._tower = ranker.products

    def forward(  # noqa: PLR0913, PLR0917  the inputs of the graph
        self,
        token_ids: Tensor,
        token_mask: Tensor,
        category: Tensor,
        levels: Tensor,
        attributes: Tensor,
        identity: Tensor,
        factors: Tensor,
        factors_present: Tensor,
        vectors: Sequence[Tensor] = (),
    ) -> Tensor:
        """Return vectors, shape (products, width)."""
        text = self._text(token_ids, token_mask)
        fused: Tensor = self._tower(
            text, category, levels, attributes, identity, factors, factors_present, vectors
        )
        return fused


class QueryGraph(nn.Layer):
    """`query.onnx`: from tokens to the query vector."""

    def __init__(self, ranker: Ranker, text: TextEncoder) -> None:
        """Share the tower of `ranker` and what encodes its texts."""
        super().__init__()
        self._text = text
        self._tower = ranker.query

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Return vectors, shape (queries, width)."""
        vectors: Tensor = self._tower(self._text(token_ids, token_mask))
        return vectors


class TextProductGraph(nn.Layer):
    """The part of `product.onnx` behind a sentence encoder."""

    def __init__(self, ranker: Ranker) -> None:
        """Share the tower of `ranker`."""
        super().__init__()
        self._tower = ranker.products

    def forward(
        self,
        text: Tensor,
        category: Tensor,
        levels: Tensor,
        attributes: Tensor,
        identity: Tensor,
        factors: Tensor,
        factors_present: Tensor,
        vectors: Sequence[Tensor] = (),
    ) -> Tensor:
        """Return vectors, shape (products, width)."""
        fused: Tensor = self._tower(
            text, category, levels, attributes, identity, factors, factors_present, vectors
        )
        return fused


class TextQueryGraph(nn.Layer):
    """The part of `query.onnx` behind a sentence encoder."""

    def __init__(self, ranker: Ranker) -> None:
        """Share the tower of `ranker`."""
        super().__init__()
        self._tower = ranker.query

    def forward(self, text: Tensor) -> Tensor:
        """Return vectors, shape (queries, width)."""
        vectors: Tensor = self._tower(text)
        return vectors


def product_layer(ranker: Ranker) -> nn.Layer:
    """Return the layer of `product.onnx`, or of its part behind a sentence encoder."""
    return TextProductGraph(ranker) if ranker.text is None else ProductGraph(ranker, ranker.text)


def query_layer(ranker: Ranker) -> nn.Layer:
    """Return the layer of `query.onnx`, or of its part behind a sentence encoder."""
    return TextQueryGraph(ranker) if ranker.text is None else QueryGraph(ranker, ranker.text)


def text_inputs(inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the inputs of the part of a graph behind a sentence encoder."""
    return (TEXT, *(name for name in inputs if name not in QUERY_INPUTS))
