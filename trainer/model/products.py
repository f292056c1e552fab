"""The product tower: gated fusion of text, structure, identity and behaviour into one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from rerank_server.contract.errors import nearest
from rerank_server.contract.schema import VectorSpec
from trainer.errors import ConfigError
from trainer.model.dropout import OwnRows, uniform_rows

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
        vectors: Named vectors, each a modality of its own.
    """

    categories: int
    levels: tuple[int, ...]
    attributes: tuple[int, ...]
    identities: int
    factors: int
    text: int
    vectors: tuple[VectorSpec, ...] = ()


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

    Each named vector is one more modality behind `MODALITIES`, known by its name; without any,
    parameters and their order are as if there were no such thing.

    Attributes:
        modalities: Names of all of them, in the order of the gate.
        own: Which of a whole batch's products are given, for what is drawn; None for all.
    """

    MODALITIES = ("text", "structure", "identity", "behaviour")

    def __init__(
        self,
        sizes: ProductSizes,
        width: int,
        *,
        modality_dropout: float,
        left_out: tuple[str, ...] = (),
    ) -> None:
        """Build a tower that gives vectors of `width`; it is blind to the modalities `left_out`.

        Raises:
            ConfigError: When one of these is not among its modalities.
        """
        super().__init__()
        self.modalities = (*self.MODALITIES, *(spec.name for spec in sizes.vectors))
        for name in left_out:
            if name not in self.modalities:
                raise ConfigError(
                    f"left_out_modalities: got {name!r}, want some of "
                    f"{', '.join(self.modalities)}{nearest(name, self.modalities)}"
                )
        self._drop = modality_dropout
        self.own: OwnRows | None = None
        self._left_out = bool(left_out)
        kept = [float(name not in left_out) for name in self.modalities]
        self.register_buffer("_kept", paddle.to_tensor(kept, "float32"), persistable=False)
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
        self._vectors = nn.LayerList([nn.Linear(spec.width, width) for spec in sizes.vectors])
        self._norms = nn.LayerList([nn.LayerNorm(width) for _ in self.modalities])
        # structure always stays when modalities are dropped: one must be left
        stays = [float(name == "structure") for name in self.modalities]
        self.register_buffer("_stays", paddle.to_tensor(stays, "float32"), persistable=False)
        count = len(self.modalities)
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
        vectors: Sequence[Tensor] = (),
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
            vectors: Each named vector, shape (products, its width), and where it is present,
                shape (products,), one after the other.
        """
        structure = self._category(category)
        for index, table in enumerate(self._levels):
            structure = structure + table(levels[:, index])
        for index, table in enumerate(self._attributes):
            structure = structure + table(attributes[:, index])
        projected = [
            self._text(text),
            self._structure(structure),
            self._identity(identity),
            self._behaviour(_direction(factors)),
            *(layer(_direction(vectors[2 * index])) for index, layer in enumerate(self._vectors)),
        ]
        present = paddle.stack(
            [
                ((text * text).sum(axis=-1) > 0).astype("float32"),
                paddle.ones_like(factors_present),
                (identity > 0).astype("float32"),
                factors_present,
                *vectors[1::2],
            ],
            axis=-1,
        )  # (products, modalities)
        if self._left_out:
            present = present * self._kept
        if self.training and self._drop > 0:
            kept = (uniform_rows(present.shape, self.own) >= self._drop).astype("float32")
            present = present * paddle.maximum(kept, self._stays)
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


def _direction(vectors: Tensor) -> Tensor:
    """Return vectors at unit length, for ALS factors are small numbers and others of any scale."""
    length = paddle.sqrt((vectors * vectors).sum(axis=-1, keepdim=True) + 1e-6)
    return vectors / length
