"""What a model learned of each category: how alike they are, and what their adapters change.

The adapter of category c changes the weights of a layer by B_c A_c (see `LowRankAdapter`). Two
categories are alike where their changes point the same way: the cosine of B_c A_c and B_d A_d,
flattened, all layers together. Zeroing the adapters shows what they are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import paddle
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from rerank_server.contract.schema import Schema
from trainer.encoding.pageset import Doubles
from trainer.evaluation.bootstrap import Interval, resample_means, whole
from trainer.evaluation.metrics import ranks_in_page
from trainer.explanations.importance import CUTOFF, PageSample
from trainer.explanations.pages import ExplanationError
from trainer.model.adapters import CategoryAffine, LowRankAdapter, StarAdapter
from trainer.model.ranker import Ranker

ADAPTERS, AFFINE, BOTH = "adapters", "bias and scale", "both"
_FEWEST = 2  # categories that can be compared


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike categories are, in the order of their clustering.

    Attributes:
        source: What is compared.
        names: The categories, similar ones beside each other.
        cosines: Shape (categories, categories), in [-1, 1].
        tree: Average linkage of 1 - cosine, as scipy gives it; leaves are rows of `cosines`.
    """

    source: str
    names: tuple[str, ...]
    cosines: Doubles
    tree: Doubles


@dataclass(frozen=True, slots=True)
class AdapterEffect:
    """What the parameters of the categories' own change on pages of one surface.

    Attributes:
        pages: Pages with a positive.
        ndcg: NDCG@10 with the parameters minus without, by what is zeroed.
        by_category: The same of each category with such pages, all of its parameters zeroed.
        agreement: Kendall's tau of a page's order with and without, by what is zeroed.
        agreement_by_category: The same of each category, all of its parameters zeroed.
        top_10: Share of the first ten that stay among the first ten, by what is zeroed.
    """

    pages: int
    ndcg: dict[str, Interval]
    by_category: dict[str, Interval]
    agreement: dict[str, Interval]
    agreement_by_category: dict[str, Interval]
    top_10: dict[str, Interval]


def adapter_layers(ranker: Ranker) -> list[tuple[Doubles, Doubles, Doubles]]:
    """Return W, A and B of every adapted layer.

    W has shape (in, out), A (categories, in, rank), B (categories, rank, out); the change of
    category c is A[c] @ B[c]. Slot 0 is zero: it is never added.
    """
    categories = ranker.sizes.products.categories
    found = []
    for layer in ranker.scorer.sublayers():
        if isinstance(layer, LowRankAdapter):
            state = {name: value.numpy() for name, value in layer.state_dict().items()}
            if "_down.weight" not in state:  # a rank of 0
                continue
            shared = state["shared.weight"].astype(np.float64)
            down = state["_down.weight"].astype(np.float64)
            up = state["_up.weight"].astype(np.float64)
            rank = up.shape[0] // categories
            narrow = down.reshape(down.shape[0], categories, rank).transpose(1, 0, 2).copy()
            wide = up.reshape(categories, rank, up.shape[1]).copy()
            narrow[0] = 0.0
            found.append((shared, narrow, wide))
    return found


def adapter_norms(ranker: Ranker, schema: Schema) -> dict[str, list[float]]:
    """Return |A_c B_c| / |W| (Frobenius) of every category and adapted layer."""
    layers = adapter_layers(ranker)
    return {
        name: [
            float(np.linalg.norm(narrow[row] @ wide[row]) / np.linalg.norm(shared))
            for shared, narrow, wide in layers
        ]
        for row, name in enumerate(schema.categories)
        if row
    }


def adapter_similarity(ranker: Ranker, schema: Schema) -> Similarity | None:
    """Return the cosines of the categories' low-rank changes; None where none has any."""
    layers = adapter_layers(ranker)
    count = len(schema.categories)
    products = np.zeros((count, count))
    for _, narrow, wide in layers:
        # <A_c B_c, A_d B_d> = sum of (A_c' A_d) * (B_c B_d') over its entries
        left = np.einsum("cir,dis->cdrs", narrow, narrow)
        right = np.einsum("cro,dso->cdrs", wide, wide)
        products += (left * right).sum(axis=(2, 3))
    return _clustered("adapters", products, schema)


def embedding_similarity(ranker: Ranker, schema: Schema) -> Similarity | None:
    """Return the cosines of what the gates see of the categories: their projected descriptions."""
    state = ranker.scorer.state_dict()
    texts = state["_category_texts"].numpy().astype(np.float64)
    vectors = texts @ state["_category.weight"].numpy() + state["_category.bias"].numpy()
    vectors -= vectors[1:].mean(axis=0)  # what all categories share says nothing
    return _clustered("category vectors", vectors @ vectors.T, schema)


def _clustered(source: str, products: Doubles, schema: Schema) -> Similarity | None:
    lengths = np.sqrt(np.maximum(np.diagonal(products), 0))
    told = np.flatnonzero(lengths > np.finfo(np.float32).eps)
    told = told[told > 0]  # slot 0 is no category
    if told.size < _FEWEST:
        return None
    cosines = products[np.ix_(told, told)] / np.outer(lengths[told], lengths[told])
    cosines = np.clip((cosines + cosines.T) / 2, -1.0, 1.0)
    distances = 1.0 - cosines
    np.fill_diagonal(distances, 0.0)
    condensed = squareform(distances, checks=False)
    tree = optimal_leaf_ordering(linkage(condensed, "average"), condensed)
    order = leaves_list(tree)
    names = tuple(schema.categories[row] for row in told[order].tolist())
    place = np.argsort(order)
    renamed = tree.copy()  # leaves by their place in the order
    for side in (0, 1):
        leaf = renamed[:, side] < told.size
        renamed[leaf, side] = place[renamed[leaf, side].astype(np.int64)]
    return Similarity(source, names, cosines[np.ix_(order, order)], renamed)


@contextmanager
def own_parameters_zeroed(ranker: Ranker, what: str) -> Iterator[None]:
    """Score without the categories' own parameters while the block runs.

    Args:
        ranker: The network; it is as before afterwards.
        what: `ADAPTERS`, `AFFINE` or `BOTH`.

    Raises:
        ExplanationError: When `what` is none of them.
    """
    kinds: dict[str, tuple[type[paddle.nn.Layer], ...]] = {
        ADAPTERS: (LowRankAdapter, StarAdapter),
        AFFINE: (CategoryAffine,),
        BOTH: (LowRankAdapter, StarAdapter, CategoryAffine),
    }
    if what not in kinds:
        raise ExplanationError(f"parameters: got {what!r}, want one of {', '.join(kinds)}")
    zeroed = [
        parameter
        for layer in ranker.scorer.sublayers()
        if isinstance(layer, kinds[what])
        for name, parameter in layer.named_parameters()
        if not name.startswith(("shared.", "_down."))
    ]
    kept = [parameter.numpy().copy() for parameter in zeroed]
    try:
        for parameter in zeroed:
            parameter.set_value(np.zeros_like(parameter.numpy()))
        yield
    finally:
        for parameter, value in zip(zeroed, kept, strict=True):
            parameter.set_value(value)


def adapter_effect(ranker: Ranker, sample: PageSample, schema: Schema) -> AdapterEffect:
    """Compare the order of pages with and without what categories have of their own.

    Args:
        ranker: Scores `sample`.
        sample: Pages of one surface.
        schema: Names the categories.
    """
    without = {}
    for what in (ADAPTERS, AFFINE, BOTH):
        with own_parameters_zeroed(ranker, what):
            without[what] = sample.scores_again()
    ndcg = np.array([sample.ndcg(sample.scores), *(sample.ndcg(each) for each in without.values())])
    tau = np.array([kendall_tau(sample.scores, each, sample.offsets) for each in without.values()])
    kept = np.array([_kept_on_top(sample, each) for each in without.values()])
    everything = whole(len(sample.pages))
    means = resample_means(ndcg, sample.shoppers, everything)
    agreements = resample_means(tau, sample.shoppers, everything)
    tops = resample_means(kept, sample.shoppers, everything)
    categories = sample.category_of_positives(schema.categories)
    of_categories = resample_means(ndcg, sample.shoppers, categories)
    tau_of_categories = resample_means(tau, sample.shoppers, categories)
    both = list(without).index(BOTH)
    rows = np.unique(categories.group).tolist()
    return AdapterEffect(
        pages=int((~np.isnan(ndcg[0])).sum()),
        ndcg={what: means.difference(0, at + 1, 0) for at, what in enumerate(without)},
        by_category={
            schema.categories[row]: of_categories.difference(0, both + 1, row) for row in rows
        },
        agreement={what: agreements.interval(at, 0) for at, what in enumerate(without)},
        agreement_by_category={
            schema.categories[row]: tau_of_categories.interval(both, row) for row in rows
        },
        top_10={what: tops.interval(at, 0) for at, what in enumerate(without)},
    )


def kendall_tau(scores: Doubles, others: Doubles, offsets: np.ndarray) -> Doubles:
    """Return Kendall's tau-b of two orders of each page, shape (pages,) (Kendall 1945).

    tau = (concordant - discordant) / sqrt(pairs not tied in one * pairs not tied in the other);
    NaN where one of them ties all candidates.
    """
    taus = np.full(offsets.size - 1, np.nan)
    for page, (start, stop) in enumerate(pairwise(offsets.tolist())):
        first, second = scores[start:stop], others[start:stop]
        signs = np.sign(first[:, None] - first), np.sign(second[:, None] - second)
        untied = np.sqrt(np.abs(signs[0]).sum() * np.abs(signs[1]).sum())
        if untied > 0:
            taus[page] = (signs[0] * signs[1]).sum() / untied
    return taus


def _kept_on_top(sample: PageSample, others: Doubles) -> Doubles:
    """Return the share of each page's first ten that stay there."""
    before = ranks_in_page(sample.scores, sample.offsets) < CUTOFF
    after = ranks_in_page(others, sample.offsets) < CUTOFF
    pages = len(sample.pages)
    both = np.bincount(sample.page_of_row, before & after, pages)
    share: Doubles = both / np.bincount(sample.page_of_row, before, pages)
    return share
