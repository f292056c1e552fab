"""Policies and pages for the policy's tests: one bundle's names, any number of candidates."""

from __future__ import annotations

import numpy as np

from rerank_server.contract.products import ProductTable
from rerank_server.policy import Policy, Ruling
from rerank_server.policy_match import PolicyPage
from rerank_server.policy_parse import parse_policy
from tests.rerank_server.tiny_bundle import AS_OF_DAY, NOW, SCHEMA, VOCABULARY

# what the tests call rows of the tiny bundle's columns
CATEGORIES = {"": 0, "dairy": 1, "pet": 2}
BRANDS = {"": 0, "Acme": 1}
SIZES = {"": 0, "1 l": 1, "2 kg": 2}


def policy(text: str) -> Policy:
    return Policy(parse_policy(text), SCHEMA, VOCABULARY)


def policy_page(
    categories=(),
    brands=(),
    *,
    size=None,
    leaves=(),
    middles=(),
    sizes=(),
    vectors=None,
    known=None,
    surface=0,
    time=NOW,
    query="",
) -> PolicyPage:
    """Candidates p0, p1, ... of the categories and brands given; what is not given is unknown."""
    count = size or max(len(categories), len(brands), len(leaves), len(middles), len(sizes))

    def column(values, rows) -> np.ndarray:
        return np.array([rows[value] for value in values] or [0] * count, np.int32)

    category_rows = column(categories, CATEGORIES)
    leaf_rows = column(leaves, {"": 0, "milk": 1, "dog food": 2})
    middle_rows = column(middles, {"": 0, "fluid milk": 1, "pet food": 2})
    attributes = np.stack([column(brands, BRANDS), column(sizes, SIZES)], axis=1)
    return PolicyPage(
        candidate_ids=[f"p{index}" for index in range(count)],
        rows=np.where(
            np.ones(count, np.bool_) if known is None else known, np.arange(count), count
        ).astype(np.int32),
        categories=category_rows,
        vectors=np.zeros((count, 2), np.float32) if vectors is None else vectors,
        table=policy_table(category_rows, np.stack([leaf_rows, middle_rows], axis=1), attributes),
        surface=surface,
        time=time,
        query=query,
    )


def policy_table(categories, levels, attributes) -> ProductTable:
    """A table with a row per candidate and the unknown row; the policy reads no more of it."""
    rows = len(categories) + 1

    def with_unknown(column) -> np.ndarray:
        return np.concatenate([column, np.zeros_like(column[:1])])

    return ProductTable(
        categories=with_unknown(categories),
        levels=with_unknown(levels),
        attributes=with_unknown(attributes),
        stats=np.zeros((rows, 2), np.float32),
        factors=np.zeros((rows, 1), np.float32),
        neighbours=np.full((rows, 1), -1, np.int32),
        neighbour_weights=np.zeros((rows, 1), np.float32),
        gram=np.zeros((1, 1)),
        as_of_day=AS_OF_DAY,
    )


def descending(size: int) -> np.ndarray:
    """Scores in retrieval order: size, size - 1, ..., 1."""
    return np.arange(size, 0, -1).astype(np.float32)


def apply(text: str, page: PolicyPage, scores=None, probabilities=None, **options) -> Ruling:
    scores = descending(page.size) if scores is None else np.array(scores, np.float32)
    if probabilities is None:
        probabilities = np.full((page.size, 2), 0.5, np.float32)
    return policy(text).apply(page, scores, probabilities, **options)


def order(text: str, page: PolicyPage, scores=None, probabilities=None, **options) -> list[int]:
    ranks: list[int] = apply(text, page, scores, probabilities, **options).ranks.tolist()
    return ranks
