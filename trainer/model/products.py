"""The product tower: gated fusion of text, structure, identity and behaviour into one vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

_MISSING = -1e9


@dataclass(frozen=True, slots=True)
class ProductSizes:
    """How many rows each table of the product tower has; row 0 is unknown.

    Attributes:
        categories: Task categories.
        levels: Nodes of each level of the category path, leaf first.
        attributes: Values of each attribute.
        identities: Products with a learned vector of their own.
        factors: Width of the ALS factors.
        text: Width of the text vectors.
    """

    categories: int
    levels: tuple[int, ...]
    attributes: tuple[int, ...]
    identities: int
    factors: int
    text: int


class TextEncoder(nn.Layer):
    """The mean of frozen word vectors, of unit length; zeros for an empty text."""

    def __init__(self, word_vectors: np.ndarray) -> None:
        """Hold `word_vectors`, shape (vocabulary, width), as a constant."""
        super().__init__()
        self.register_buffer("_words", paddle.to_tensor(word_vectors), persistable=False)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Return shape (texts, width) for ids and mask of shape (texts, tokens)."""
        words = functional.embedding(token_ids, self._words)
        total = (words * token_mask.unsqueeze(-1)).sum(axis=1)
        length = paddle.sqrt((total * total).sum(axis=-1, keepdim=True) + 1e-12)
        return total / length


class ProductTower(nn.Layer):
    """One vector per product from whatever is known of it.

    Each modality is projected and normalised; a softmax gate over the modalities that are
    present weighs them (gated multimodal unit, Arevalo et al. 2017, for any number of
    modalities). In training whole modalities are dropped at random (DropoutNet, Volkovs et
    al. 2017), so that a product without a past is nothing new to the tower.
    """

    MODALITIES = ("text", "structure", "identity", "behaviour")

    def __init__(self, sizes: ProductSizes, width: int, *, modality_dropout: float) -> None:
        """Build a tower that gives vectors of `width`."""
        super().__init__()
        self._drop = modality_dropout
        small = paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.05))
        self._text = nn.Linear(sizes.text, width)
        self._category = nn.Embedding(sizes.categories, width, weight_attr=small)
        self._levels = nn.LayerList(
            [nn.Embedding(size, width, weight_attr=small) for size in sizes.levels]
        )
        self._attributes = nn.LayerList(
            [nn.Embedding(size, width, weight_attr=small) for size in sizes.attributes]
        )
        self._structure = nn.Linear(width, width)
        self._identity = nn.Embedding(sizes.identities, width, weight_attr=small)
        self._behaviour = nn.Linear(sizes.factors, width)
        self._norms = nn.LayerList([nn.LayerNorm(width) for _ in self.MODALITIES])
        count = len(self.MODALITIES)
        self._gate = nn.Linear(count * width + count, count)

    def forward(
        self,
        text: Tensor,
        category: Tensor,
        levels: Tensor,
        attributes: Tensor,
        identity: Tensor,
        factors: Tensor,
        factors_present: Tensor,
    ) -> Tensor:
        """Return product vectors, shape (products, width).

        Args:
            text: Text vectors, shape (products, text width); zeros when there is no text.
            category: Category rows, shape (products,).
            levels: Node rows, leaf first, shape (products, levels).
            attributes: Attribute rows, shape (products, attributes).
            identity: Identity rows, shape (products,); 0 for a product never trained on.
            factors: ALS factors, shape (products, factor width).
            factors_present: 1 where `factors` are known, shape (products,).
        """
        structure = self._category(category)
        for index, table in enumerate(self._levels):
            structure = structure + table(levels[:, index])
        for index, table in enumerate(self._attributes):
            structure = structure + table(attributes[:, index])
        # ALS factors are small numbers; unit length lets the projection see their direction
        length = paddle.sqrt((factors * factors).sum(axis=-1, keepdim=True) + 1e-6)
        projected = [
            self._text(text),
            self._structure(structure),
            self._identity(identity),
            self._behaviour(factors / length),
        ]
        present = paddle.stack(
            [
                ((text * text).sum(axis=-1) > 0).astype("float32"),
                paddle.ones_like(factors_present),
                (identity > 0).astype("float32"),
                factors_present,
            ],
            axis=-1,
        )  # (products, modalities)
        if self.training and self._drop > 0:
            kept = (paddle.rand(present.shape) >= self._drop).astype("float32")
            # structure always stays: one modality must be left
            present = present * paddle.maximum(kept, paddle.to_tensor([0.0, 1.0, 0.0, 0.0]))
        hidden = [
            self._norms[index](projected[index]) * present[:, index : index + 1]
            for index in range(len(projected))
        ]
        gate = self._gate(paddle.concat([*hidden, present], axis=-1))
        gate = functional.softmax(gate + (1.0 - present) * _MISSING, axis=-1)
        fused = hidden[0] * gate[:, 0:1]
        for index in range(1, len(hidden)):
            fused = fused + hidden[index] * gate[:, index : index + 1]
        return fused
