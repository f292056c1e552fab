"""Which feature groups moved each candidate, by leaving out one group at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.page import Floats
from rerank_server.contract.schema import Schema

PRODUCT_GROUP = "product"
SEQUENCE_GROUP = "sequence"


def without_each_group(
    page: ScorerPage, schema: Schema, unknown_vector: Floats
) -> dict[str, ScorerPage]:
    """Return copies of `page`, each without one group of what the scorer sees.

    Without a feature group its features stand at their training mean, which is how a missing
    value looks; without the product, each candidate has the vector of an unknown product;
    without the sequence, there are no past events.
    """
    pages = {}
    for group in schema.groups:
        columns = [spec.group == group for spec in schema.features]
        pages[group] = replace(page, dense=np.where(columns, np.float32(0), page.dense))
    pages[PRODUCT_GROUP] = replace(page, candidate_vectors=np.tile(unknown_vector, (page.size, 1)))
    pages[SEQUENCE_GROUP] = replace(
        page,
        sequence_vectors=page.sequence_vectors[:0],
        sequence_features=page.sequence_features[:0],
    )
    return pages
