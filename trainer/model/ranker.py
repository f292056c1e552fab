"""The network: product tower, query, shopper, gates, adapted layers, page attention, heads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from trainer.model.adapters import CategoryAffine, LowRankAdapter, StarAdapter
from trainer.model.attention import PageAttention
from trainer.model.category_calibration import CategoryCalibration
from trainer.model.dropout import OwnRows, PageDropout
from trainer.model.experts import ExpertGate, OwnLinear
from trainer.model.numbers import NumberEncoder
from trainer.model.outputs import OutputLayer
from trainer.model.products import ProductSizes, ProductTower, TextEncoder
from trainer.model.sequence import ShopperSequence
from trainer.model.shopper_state import ShopperState
from trainer.model.tree_term import TreeTerm


@dataclass(frozen=True, slots=True)
class RankerSizes:
    """Everything that fixes the shapes of the network.

    Attributes:
        products: Table sizes of the product tower.
        surfaces: Where pages are shown.
        features: Dense features.
        event_features: Numbers of each past event.
        objectives: Heads.
        width: Width of product, query and shopper vectors.
        hidden: Widths of the adapted layers.
        rank: Rank of the category adapters; 0 leaves them out.
        adapter: What they do to the shared weights: `low_rank` adds to them, `star` multiplies.
        heads: Attention heads.
        page_layers: Blocks of attention over the page; 0 leaves it out.
        number_bins: Bins of the piecewise linear encoding of dense features; 0 leaves it out.
        dropout: Share of hidden units dropped in training.
        modality_dropout: Share of product modalities dropped in training.
        left_out_modalities: Product modalities that the network is blind to.
        shopper_sequence: Whether it reads the shopper's events.
        sequence: How: target `attention` over an LSTM's states, or one vector for all candidates
            from a `gru`, `lstm` or `transformer`.
        gate: `shared` heads on one vector, or a mixture of experts for each: `mmoe`, `ple`.
        experts: Shared experts of a gate.
    """

    products: ProductSizes
    surfaces: int
    features: int
    event_features: int
    objectives: int
    width: int = 64
    hidden: tuple[int, ...] = (128, 64)
    rank: int = 2
    adapter: str = "low_rank"
    heads: int = 4
    page_layers: int = 1
    number_bins: int = 8
    dropout: float = 0.1
    modality_dropout: float = 0.2
    left_out_modalities: tuple[str, ...] = ()
    shopper_sequence: bool = True
    sequence: str = "attention"
    gate: str = "shared"
    experts: int = 4


@dataclass(frozen=True, slots=True)
class PageBatch:
    """The tensors of several pages, padded to the longest; see the scorer graph's inputs."""

    query: Tensor
    surface: Tensor
    candidates: Tensor
    mask: Tensor
    categories: Tensor
    dense: Tensor
    sequence: Tensor
    sequence_features: Tensor
    sequence_mask: Tensor


class QueryTower(nn.Layer):
    """One vector from the text of a query; zeros in, a learned constant out."""

    def __init__(self, text_width: int, width: int) -> None:
        """Project text vectors of `text_width` to `width`."""
        super().__init__()
        self._project = nn.Linear(text_width, width)
        self._norm = nn.LayerNorm(width)

    def forward(self, text: Tensor) -> Tensor:
        """Return shape (queries, width) for text vectors, shape (queries, text width)."""
        return self._norm(self._project(text))


class Scorer(nn.Layer):
    """From the vectors and numbers of a page to one logit per candidate and objective."""

    def __init__(
        self, sizes: RankerSizes, category_texts: np.ndarray, bin_edges: np.ndarray
    ) -> None:
        """Build the scorer.

        Args:
            sizes: The shapes.
            category_texts: Text vector of each category's description, shape (categories,
                text width); row 0 describes a category never seen.
            bin_edges: Edges of the number encoding, shape (features, bins + 1).
        """
        super().__init__()
        width = sizes.width
        self.register_buffer("_category_texts", paddle.to_tensor(category_texts))
        self._category = nn.Linear(sizes.products.text, width)
        self._surface = nn.Embedding(sizes.surfaces, width)
        self._numbers = NumberEncoder(bin_edges, width) if sizes.number_bins else None
        self._shopper = _shopper_layer(sizes)
        self._reads_events = sizes.shopper_sequence
        joined = (6 if sizes.number_bins else 5) * width + sizes.features
        # EPNet (Chang et al. 2023, eq. 5), but on the first hidden layer, which is narrower
        # than its input: gates from the context, twice a sigmoid
        self._gate_query = nn.Linear(width, width)
        self._gate_category = nn.Linear(width, width, bias_attr=False)
        self._gate = nn.Linear(width, sizes.hidden[0])
        widths = (joined, *sizes.hidden)
        categories = sizes.products.categories
        self._layers = nn.LayerList(
            [_adapted_layer(sizes, before, after) for before, after in pairwise(widths)]
        )
        self._dropout = PageDropout(sizes.dropout)
        self._page = nn.LayerList(
            [
                PageAttention(sizes.hidden[-1], sizes.heads, sizes.dropout)
                for _ in range(sizes.page_layers)
            ]
        )
        self._norm = nn.LayerNorm(sizes.hidden[-1])
        self._experts: ExpertGate | None = None
        self._heads: nn.Linear | OwnLinear
        if sizes.gate == "shared":
            self._heads = nn.Linear(sizes.hidden[-1], sizes.objectives)
        else:
            self._experts = ExpertGate(
                sizes.hidden[-1], sizes.objectives, sizes.experts, own=sizes.gate == "ple"
            )
            self._heads = OwnLinear(sizes.hidden[-1], sizes.objectives)
        self._direct = nn.Linear(sizes.features, sizes.objectives)
        self._affine = CategoryAffine(categories, sizes.objectives)

    def forward(self, page: PageBatch) -> Tensor:
        """Return logits, shape (pages, candidates, objectives)."""
        mask = page.mask.unsqueeze(-1)  # (pages, candidates, 1)
        # without events every candidate attends to the zero slot; the graph keeps its inputs
        events = page.sequence_mask if self._reads_events else 0.0 * page.sequence_mask
        shopper = self._shopper(page.candidates, page.sequence, page.sequence_features, events)
        query = page.query.unsqueeze(1)  # (pages, 1, width)
        surface = self._surface(page.surface).unsqueeze(1)
        category = self._category(functional.embedding(page.categories, self._category_texts))
        # each number twice: as it is, and against the mean of its page
        count = mask.sum(axis=1, keepdim=True)
        centred = page.dense - (page.dense * mask).sum(axis=1, keepdim=True) / count
        joined = paddle.concat(
            [
                page.candidates,
                shopper,
                shopper * page.candidates,
                query * page.candidates,
                category + surface,
                *([] if self._numbers is None else [self._numbers(page.dense)]),
                centred,
            ],
            axis=-1,
        )
        context = self._gate_category(category) + self._gate_query(query + surface)
        gate = 2.0 * functional.sigmoid(self._gate(functional.relu(context)))
        hidden = joined
        for index, layer in enumerate(self._layers):
            hidden = functional.gelu(layer(hidden, page.categories))
            hidden = self._dropout(hidden * gate if index == 0 else hidden)
        for block in self._page:
            hidden = block(hidden, page.mask)
        hidden = self._norm(hidden)
        if self._experts is not None:
            hidden = self._experts(hidden)  # (pages, candidates, objectives, width)
        logits = self._heads(hidden) + self._direct(page.dense)
        return self._affine(logits, page.categories)


def _shopper_layer(sizes: RankerSizes) -> ShopperSequence | ShopperState:
    width, features, heads = sizes.width, sizes.event_features, sizes.heads
    if sizes.sequence == "attention":
        return ShopperSequence(width, features, heads)
    return ShopperState(sizes.sequence, width, features, heads, sizes.dropout)


def _adapted_layer(sizes: RankerSizes, before: int, after: int) -> LowRankAdapter | StarAdapter:
    categories = sizes.products.categories
    if sizes.adapter == "star" and sizes.rank:
        return StarAdapter(before, after, categories, sizes.rank)
    return LowRankAdapter(before, after, categories, sizes.rank)


class Ranker(nn.Layer):
    """All that is trained, and what is fitted after training: the trees' part and calibration.

    Attributes:
        sizes: The shapes.
        text: From tokens to text vectors; None where a graph of its own makes them.
        products: The product tower.
        query: The query tower.
        scorer: From a page to the network's logits.
        tree_term: What trees add to these; None adds nothing.
        calibration: From logits to probabilities.
        outputs: From both to what is served; None serves the probabilities.
    """

    def __init__(
        self,
        sizes: RankerSizes,
        word_vectors: np.ndarray | None,
        category_texts: np.ndarray,
        bin_edges: np.ndarray,
    ) -> None:
        """Build towers and scorer; see `Scorer` and `TextEncoder` for the constants."""
        super().__init__()
        self.sizes = sizes
        self.tree_term: TreeTerm | None = None
        self.text = None if word_vectors is None else TextEncoder(word_vectors)
        self.products = ProductTower(
            sizes.products,
            sizes.width,
            modality_dropout=sizes.modality_dropout,
            left_out=sizes.left_out_modalities,
        )
        self.query = QueryTower(sizes.products.text, sizes.width)
        self.scorer = Scorer(sizes, category_texts, bin_edges)
        self.calibration = CategoryCalibration(sizes.products.categories, sizes.objectives)
        self.outputs: OutputLayer | None = None

    def set_own_rows(self, pages: OwnRows | None, products: OwnRows | None) -> None:
        """Say which rows of the whole batch the next one has, for what is drawn; None for all."""
        self.products.own = products
        for layer in self.scorer.sublayers():
            if isinstance(layer, PageDropout):
                layer.own = pages
