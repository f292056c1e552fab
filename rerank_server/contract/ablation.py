"""A page without some groups of what the scorer sees: what explanations are made of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.page import Floats
from rerank_server.contract.schema import Schema

PRODUCT_GROUP = "product"
SEQUENCE_GROUP = "sequence"
QUERY_GROUP = "query"
CATEGORY_GROUP = "category"


@dataclass(frozen=True, slots=True)
class Neutral:
    """What stands in the place of a group that is left out.

    Attributes:
        unknown_product: Vector of a product that the store does not hold, shape (width,).
        empty_query: Vector of a page without a query, shape (query width,).
    """

    unknown_product: Floats
    empty_query: Floats


def explained_groups(schema: Schema) -> tuple[str, ...]:
    """Return the groups an explanation names: those of the features, then those of the vectors."""
    return (*schema.groups, PRODUCT_GROUP, SEQUENCE_GROUP, QUERY_GROUP, CATEGORY_GROUP)


def without_groups(
    page: ScorerPage, absent: Collection[str], schema: Schema, neutral: Neutral
) -> ScorerPage:
    """Return `page` without some groups.

    Without a feature group its features stand at their training mean, which is how a missing
    value looks; without the product, each candidate has the vector of an unknown product;
    without the sequence, there are no past events; without the query, the page has none; without
    the category, each candidate is of a category never seen, so that nothing of its own category
    (adapter, bias, scale, calibration) is used.
    """
    columns = [spec.group in absent for spec in schema.features]
    if any(columns):
        page = replace(page, dense=np.where(columns, np.float32(0), page.dense))
    if PRODUCT_GROUP in absent:
        vectors = np.tile(neutral.unknown_product, (page.size, 1))
        page = replace(page, candidate_vectors=vectors, held_in=None)
    if SEQUENCE_GROUP in absent:
        page = replace(
            page,
            sequence_vectors=page.sequence_vectors[:0],
            sequence_features=page.sequence_features[:0],
            held_in=None,
        )
    if QUERY_GROUP in absent:
        page = replace(page, query_vector=neutral.empty_query)
    if CATEGORY_GROUP in absent:
        page = replace(page, categories=np.zeros_like(page.categories))
    return page


def present_groups(page: ScorerPage, schema: Schema, neutral: Neutral) -> tuple[str, ...]:
    """Return the groups that `page` would change without, in the order of `explained_groups`.

    The others cannot have moved anything: leaving them out gives the same page.
    """
    told = (page.dense != 0).any(axis=0)
    known = dict.fromkeys(explained_groups(schema), False)
    for spec, there in zip(schema.features, told.tolist(), strict=True):
        known[spec.group] |= there
    known[PRODUCT_GROUP] = bool((page.candidate_vectors != neutral.unknown_product).any())
    known[SEQUENCE_GROUP] = page.sequence_vectors.shape[0] > 0
    known[QUERY_GROUP] = bool((page.query_vector != neutral.empty_query).any())
    known[CATEGORY_GROUP] = bool((page.categories != 0).any())
    return tuple(group for group, there in known.items() if there)
