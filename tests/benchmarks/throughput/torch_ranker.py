"""The ranker of `trainer.model.ranker` in PyTorch, with the weights of one of Paddle's.

Only its default form: low-rank adapters, target attention over an LSTM, shared heads, binary
objectives. Names are Paddle's, so that every weight is taken over by its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import torch  # type: ignore[import-not-found]
from torch.nn import functional  # type: ignore[import-not-found]

from rerank_server.contract.graph_inputs import present_rows
from trainer.config import TrainConfig
from trainer.encoding.batches import Batch
from trainer.encoding.catalogue import Catalogue
from trainer.model.ranker import Ranker

Tensor = Any  # torch is not installed where types are checked
_MASKED = -1e9


def tensor(values: np.ndarray) -> Tensor:
    """Return a tensor over an array, without a copy where it is contiguous and writable."""
    return torch.utils.dlpack.from_dlpack(np.require(values, requirements=["C", "W"]))


class TorchRanker:
    """Weights by Paddle's names, and the same sums over them."""

    def __init__(self, ranker: Ranker) -> None:
        """Take over the weights; matrices of linear layers are turned, as PyTorch keeps them."""
        self.training = False
        self._sizes = ranker.sizes
        linear = {
            f"{name}.weight"
            for name, layer in ranker.named_sublayers()
            if isinstance(layer, paddle.nn.Linear)
        }
        learned = {name for name, _ in ranker.named_parameters()}
        buffers = {name: value for name, value in ranker.named_buffers() if name not in learned}
        self._constants = {name: tensor(value.numpy().copy()) for name, value in buffers.items()}
        self.weights: dict[str, Tensor] = {}
        for name, value in ranker.named_parameters():
            values = value.numpy()
            kept = tensor(np.ascontiguousarray(values.T) if name in linear else values.copy())
            self.weights[name] = kept.requires_grad_()

    def logits(self, catalogue: Catalogue, batch: Batch) -> Tensor:
        """Return shape (pages, candidates, objectives)."""
        vectors = self._products(catalogue, batch.products)
        mask = tensor(batch.mask)
        candidates = vectors[tensor(batch.candidates.ravel())].view(*batch.candidates.shape, -1)
        events = vectors[tensor(batch.sequence.ravel())].view(*batch.sequence.shape, -1)
        query = self._norm(
            self._linear(tensor(catalogue.query_text[batch.queries]), "query._project"),
            "query._norm",
        )
        shopper = self._shopper(
            candidates, events, tensor(batch.sequence_features), tensor(batch.sequence_mask)
        )
        return self._score(batch, candidates, shopper, query.unsqueeze(1), mask)

    def _score(
        self, batch: Batch, candidates: Tensor, shopper: Tensor, query: Tensor, mask: Tensor
    ) -> Tensor:
        own, dense = tensor(batch.categories), tensor(batch.dense)
        surface = self._row("scorer._surface.weight", tensor(batch.surface)).unsqueeze(1)
        texts = functional.embedding(own, self._constants["scorer._category_texts"])
        category = self._linear(texts, "scorer._category")
        inside = mask.unsqueeze(-1)
        centred = dense - (dense * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True)
        numbers = self._constants
        share = (dense.unsqueeze(-1) - numbers["scorer._numbers._low"]) * numbers[
            "scorer._numbers._slope"
        ]
        encoded = self._linear(share.clamp(0.0, 1.0).flatten(2), "scorer._numbers._linear")
        parts = [candidates, shopper, shopper * candidates, query * candidates]
        hidden = torch.cat([*parts, category + surface, encoded, centred], -1)
        context = self._linear(category, "scorer._gate_category")
        context = context + self._linear(query + surface, "scorer._gate_query")
        gate = 2.0 * torch.sigmoid(self._linear(functional.relu(context), "scorer._gate"))
        for index in range(len(self._sizes.hidden)):
            name = f"scorer._layers.{index}"
            rows = functional.embedding(own, self._constants[f"{name}._own"])
            low = self._linear(hidden, f"{name}._down") * rows
            change = self._linear(low, f"{name}._up")
            hidden = functional.gelu(self._linear(hidden, f"{name}.shared") + change)
            hidden = self._drop(hidden * gate if index == 0 else hidden)
        for index in range(self._sizes.page_layers):
            hidden = self._page(hidden, mask, f"scorer._page.{index}")
        hidden = self._norm(hidden, "scorer._norm")
        logits = self._linear(hidden, "scorer._heads") + self._linear(dense, "scorer._direct")
        seen = functional.embedding(own, self._constants["scorer._affine._seen"])
        scale = self._row("scorer._affine._scale.weight", own)
        return logits * (1.0 + seen * scale) + seen * self._row("scorer._affine._bias.weight", own)

    def _products(self, catalogue: Catalogue, rows: np.ndarray) -> Tensor:
        text, present = tensor(catalogue.text[rows]), tensor(catalogue.factors_present[rows])
        whole: Callable[[np.ndarray], Tensor] = lambda values: tensor(values[rows].astype(np.int64))  # noqa: E731
        structure = self._row("products._category.weight", whole(catalogue.categories))
        for table, columns in (("levels", catalogue.levels), ("attributes", catalogue.attributes)):
            for index in range(columns.shape[1]):
                name = f"products._{table}.{index}.weight"
                structure = structure + self._row(name, whole(columns[:, index]))
        identity = whole(catalogue.identities)
        projected = [
            self._linear(text, "products._text"),
            self._linear(structure, "products._structure"),
            self._row("products._identity.weight", identity),
            self._linear(_direction(tensor(catalogue.factors[rows])), "products._behaviour"),
        ]
        known = [
            ((text * text).sum(-1) > 0).float(),
            torch.ones_like(present),
            (identity > 0).float(),
            present,
        ]
        for index, vector in enumerate(catalogue.vectors):
            values = vector.values[rows]
            projected.append(self._linear(_direction(tensor(values)), f"products._vectors.{index}"))
            known.append(tensor(present_rows(values)))
        there = torch.stack(known, -1)
        if self.training and self._sizes.modality_dropout > 0:
            kept = (torch.rand(there.shape) >= self._sizes.modality_dropout).float()
            there = there * torch.maximum(kept, self._constants["products._stays"])
        hidden = [
            self._norm(part, f"products._norms.{index}") * there[:, index : index + 1]
            for index, part in enumerate(projected)
        ]
        gate = self._linear(torch.cat([*hidden, there], -1), "products._gate")
        gate = functional.softmax(gate + (1.0 - there) * _MASKED, -1)
        fused = hidden[0] * gate[:, 0:1]
        for index in range(1, len(hidden)):
            fused = fused + hidden[index] * gate[:, index : index + 1]
        return fused

    def _shopper(self, candidates: Tensor, rows: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        name = "scorer._shopper"
        events = self._linear(torch.cat([rows, numbers], -1), f"{name}._event")
        weights = [
            self.weights[f"{name}._lstm.{kind}_l0"]
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        zero = torch.zeros(1, events.shape[0], events.shape[2])
        states = torch.lstm(
            events,
            (zero, zero),
            weights,
            True,
            1,
            0.0,
            self.training,
            False,
            True,
        )[0]
        states = self._norm(states + events, f"{name}._norm") * mask.unsqueeze(-1)
        keys = torch.cat([torch.zeros_like(states[:, 0:1]), states], 1)
        seen = torch.cat([torch.ones_like(mask[:, 0:1]), mask], 1)
        return self._attention(candidates, keys, seen, f"{name}._attention")

    def _page(self, hidden: Tensor, mask: Tensor, name: str) -> Tensor:
        inner = self._norm(hidden, f"{name}._norm_in")
        hidden = hidden + self._drop(self._attention(inner, inner, mask, f"{name}._attention"))
        inner = self._norm(hidden, f"{name}._norm_out")
        inner = self._drop(functional.relu(self._linear(inner, f"{name}._feed.0")))
        return hidden + self._drop(self._linear(inner, f"{name}._feed.3"))

    def _attention(self, queries: Tensor, keys: Tensor, mask: Tensor, name: str) -> Tensor:
        heads = self._sizes.heads
        query, key, value = (
            self._linear(inputs, f"{name}.{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for inputs, part in ((queries, "_query"), (keys, "_key"), (keys, "_value"))
        )
        weights = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        weights = functional.softmax(weights + ((1.0 - mask) * _MASKED)[:, None, None], -1)
        return self._linear((weights @ value).transpose(1, 2).flatten(2), f"{name}._out")

    def _linear(self, values: Tensor, name: str) -> Tensor:
        bias = self.weights.get(f"{name}.bias")
        return functional.linear(values, self.weights[f"{name}.weight"], bias)

    def _norm(self, values: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(values, (values.shape[-1],), weight, bias)

    def _row(self, name: str, rows: Tensor) -> Tensor:
        return functional.embedding(rows, self.weights[name])

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self._sizes.dropout, self.training)


def batch_loss(config: TrainConfig, logits: Tensor, batch: Batch) -> Tensor:
    """Return the loss of `trainer.training.objective_losses.batch_losses` for binary objectives."""
    labels, counted = tensor(batch.labels), tensor(batch.counted)
    loss = torch.zeros([])
    for index, weight in enumerate(config.objective_weights):
        own, mask, gains = logits[:, :, index], counted[:, :, index], labels[:, :, index]
        wanted = (tensor(batch.targets) if index == 0 else gains) * mask
        positives = wanted.sum(1)
        share = functional.log_softmax(own + (1.0 - mask) * _MASKED, 1)
        page = -(wanted * share).sum(1) / positives.clamp(min=1.0)
        some = (positives > 0).float()
        listwise = (page * some).sum() / some.sum().clamp(min=1.0)
        each = functional.binary_cross_entropy_with_logits(own, gains, reduction="none")
        pointwise = (each * mask).sum() / mask.sum().clamp(min=1.0)
        loss = loss + weight * (listwise + config.pointwise_weight * pointwise)
    return loss


def _direction(vectors: Tensor) -> Tensor:
    return vectors / torch.sqrt((vectors * vectors).sum(-1, keepdim=True) + 1e-6)
