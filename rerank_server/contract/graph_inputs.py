"""The arrays that the three graphs of a bundle take, by input name, padding included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_server.contract.features import SEQUENCE_FEATURES
from rerank_server.contract.page import Floats, Rows
from rerank_server.contract.schema import VectorSpec
from rerank_server.contract.text import TextEncoder

PRODUCT_INPUTS = (
    "token_ids",
    "token_mask",
    "category",
    "levels",
    "attributes",
    "identity",
    "factors",
    "factors_present",
)
QUERY_INPUTS = ("token_ids", "token_mask")
SCORER_INPUTS = (
    "query_vector",
    "surface",
    "candidate_vectors",
    "candidate_mask",
    "categories",
    "dense",
    "sequence_vectors",
    "sequence_features",
    "sequence_mask",
)
VECTOR_OUTPUTS = ("vectors",)
SCORER_OUTPUTS = ("probabilities", "logits")

Arrays: TypeAlias = dict[str, npt.NDArray[np.generic]]
Graph: TypeAlias = Callable[[Arrays], Mapping[str, Floats]]


@dataclass(frozen=True, slots=True)
class ProductBatch:
    """What the product graph needs of some products.

    Attributes:
        texts: One per product.
        categories: Category rows, shape (products,).
        levels: Level rows, leaf first, shape (products, levels).
        attributes: Attribute rows, shape (products, attributes).
        identities: Identity rows, shape (products,).
        factors: ALS factors, shape (products, factor width); zeros when there are none.
        vectors: Named vectors, each of shape (products, its width), zeros where a product has
            none; a name that is absent is one that no product has.
    """

    texts: Sequence[str]
    categories: Rows
    levels: Rows
    attributes: Rows
    identities: Rows
    factors: Floats
    vectors: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScorerPage:
    """What the scorer needs of one page.

    Attributes:
        query_vector: Shape (query width,).
        surface: Index into `Schema.surfaces`.
        candidate_vectors: Shape (candidates, width).
        categories: Category rows, shape (candidates,).
        dense: Normalised features, shape (candidates, features).
        sequence_vectors: Product vectors of the events, oldest first, shape (events, width).
        sequence_features: Shape (events, len(SEQUENCE_FEATURES)).
        held_in: What holds all these vectors on the scorer's device; None where it does not.
        candidate_rows: Row of each candidate there, shape (candidates,).
        sequence_rows: Row of each event there, shape (events,).
    """

    query_vector: Floats
    surface: int
    candidate_vectors: Floats
    categories: Rows
    dense: Floats
    sequence_vectors: Floats
    sequence_features: Floats
    held_in: object | None = None
    candidate_rows: Rows | None = None
    sequence_rows: Rows | None = None

    @property
    def size(self) -> int:
        """The number of candidates."""
        return int(self.candidate_vectors.shape[0])


def vector_inputs(vectors: Sequence[VectorSpec]) -> tuple[str, ...]:
    """Return the inputs of `product.onnx` for named vectors: each and where it is present."""
    return tuple(
        name for spec in vectors for name in (f"vector_{spec.name}", f"vector_{spec.name}_present")
    )


def product_inputs(
    products: ProductBatch, text_encoder: TextEncoder, vectors: Sequence[VectorSpec] = ()
) -> Arrays:
    """Return the inputs of `product.onnx` that reads named `vectors`."""
    token_ids, token_mask = text_encoder.encode(products.texts)
    arrays: Arrays = {
        "token_ids": token_ids,
        "token_mask": token_mask,
        "category": products.categories.astype(np.int64),
        "levels": products.levels.astype(np.int64),
        "attributes": products.attributes.astype(np.int64),
        "identity": products.identities.astype(np.int64),
        "factors": products.factors.astype(np.float32),
        "factors_present": present_rows(products.factors),
    }
    for spec in vectors:
        given = products.vectors.get(spec.name)
        if given is None:
            given = np.zeros((len(products.texts), spec.width), np.float32)
        arrays[f"vector_{spec.name}"] = given.astype(np.float32)
        arrays[f"vector_{spec.name}_present"] = present_rows(given)
    return arrays


def present_rows(vectors: Floats) -> Floats:
    """Return 1 for each row that is not of zeros alone, float32, shape (rows,)."""
    present: Floats = (vectors != 0).any(axis=1).astype(np.float32)
    return present


def query_inputs(queries: Sequence[str], text_encoder: TextEncoder) -> Arrays:
    """Return the inputs of `query.onnx`; an empty query is one masked token."""
    token_ids, token_mask = text_encoder.encode(queries)
    return {"token_ids": token_ids, "token_mask": token_mask}


def page_shape(pages: Sequence[ScorerPage]) -> tuple[int, int, int]:
    """Return how many pages, candidates and events a call of `pages` has, at least one event."""
    events = max([1, *(page.sequence_vectors.shape[0] for page in pages)])
    return len(pages), max(page.size for page in pages), events


def scorer_inputs(pages: Sequence[ScorerPage], shape: tuple[int, int, int] | None = None) -> Arrays:
    """Return the inputs of `scorer.onnx` for pages that share one call.

    Pages are padded to the largest, or to `shape` (pages, candidates, events), with masked zeros,
    and a page without events gets one masked event, so each graph sees at least one.
    """
    count, candidates, events = shape or page_shape(pages)
    width = pages[0].candidate_vectors.shape[1]
    features = pages[0].dense.shape[1]
    query_vectors = np.zeros((count, pages[0].query_vector.shape[0]), np.float32)
    surfaces = np.zeros(count, np.int64)
    candidate_vectors = np.zeros((count, candidates, width), np.float32)
    candidate_mask = np.zeros((count, candidates), np.float32)
    categories = np.zeros((count, candidates), np.int64)
    dense = np.zeros((count, candidates, features), np.float32)
    sequence_vectors = np.zeros((count, events, width), np.float32)
    sequence_features = np.zeros((count, events, len(SEQUENCE_FEATURES)), np.float32)
    sequence_mask = np.zeros((count, events), np.float32)
    for index, page in enumerate(pages):
        size, past = page.size, page.sequence_vectors.shape[0]
        query_vectors[index] = page.query_vector
        surfaces[index] = page.surface
        candidate_vectors[index, :size] = page.candidate_vectors
        candidate_mask[index, :size] = 1.0
        categories[index, :size] = page.categories
        dense[index, :size] = page.dense
        sequence_vectors[index, :past] = page.sequence_vectors
        sequence_features[index, :past] = page.sequence_features
        sequence_mask[index, :past] = 1.0
    return {
        "query_vector": query_vectors,
        "surface": surfaces,
        "candidate_vectors": candidate_vectors,
        "candidate_mask": candidate_mask,
        "categories": categories,
        "dense": dense,
        "sequence_vectors": sequence_vectors,
        "sequence_features": sequence_features,
        "sequence_mask": sequence_mask,
    }
