"""Ways to retrieve candidates on the free Basic licence, over the committed search templates.

`text` is BM25. `vector` is kNN around products: those given, a shopper's last ones for example, or
the best of `text` (Rocchio 1971), since a product vector holds more than words. `hybrid` is both in
one search: the text's part is bounded, for it comes in tiers (phrase, all words, most words; BM25
breaks ties), so that neither side drowns the other. `fused` is reciprocal rank fusion of `text` and
`vector` (Cormack, Clarke, Büttcher 2009), which Elasticsearch itself does only with a paid licence.
`balanced` takes the best of every category in turn, so that a small category is among the
candidates at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import zip_longest
from typing import Any
from urllib.parse import quote

import numpy as np
from elasticsearch import Elasticsearch

from es_plugin_config.cluster import call, refuse
from es_plugin_config.mustache import render
from es_plugin_config.resources import read_resources
from rerank_server.contract.errors import RerankError, nearest

RANK_CONSTANT = 60
# Search templates of each recipe; several are asked together.
RECIPES: Mapping[str, tuple[str, ...]] = {
    "text": ("crossrank-text",),
    "vector": ("crossrank-vector",),
    "hybrid": ("crossrank-hybrid",),
    "fused": ("crossrank-text", "crossrank-vector"),
    "balanced": ("crossrank-balanced",),
}
WITH_VECTOR = ("vector", "hybrid", "fused")
PER_CATEGORY = 5
FEEDBACK = 5  # products whose vectors stand for a query


class RecipeError(RerankError):
    """A recipe that there is not, or that lacks what it needs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One product that retrieval found.

    Attributes:
        id: Of the product.
        category: Empty where the index says none.
        score: Of the recipe; comparable within one answer only.
    """

    id: str
    category: str
    score: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for.

    Attributes:
        query: What the shopper typed.
        vector: Whose neighbours the recipes with kNN find; `retrieve` makes one where it is None.
        like: Ids of the products that such a vector is made of; the best of `text` when empty.
        category: Only products of it; empty for all.
        size: Candidates at most.
        per_category: Of each category at most, with the recipe `balanced`.
    """

    query: str = ""
    vector: Sequence[float] | None = None
    like: tuple[str, ...] = ()
    category: str = ""
    size: int = 100
    per_category: int = PER_CATEGORY


def search_bodies(recipe: str, wanted: Wanted) -> list[dict[str, Any]]:
    """The searches that a recipe makes, to be sent to `_search` one by one, or to `_msearch`.

    Raises:
        RecipeError: No such recipe, or no vector or query where it needs one.
    """
    if recipe not in RECIPES:
        raise RecipeError(
            f"recipe: got {recipe!r}, want one of {', '.join(RECIPES)}{nearest(recipe, RECIPES)}"
        )
    if recipe in WITH_VECTOR and wanted.vector is None:
        raise RecipeError(f"recipe {recipe}: got no vector, want one to find neighbours of")
    if recipe != "vector" and not wanted.query.strip():
        raise RecipeError(f"recipe {recipe}: got no query, want words to find")
    parameters = {
        "query": wanted.query,
        "vector": None if wanted.vector is None else [float(each) for each in wanted.vector],
        "category": wanted.category,
        "size": wanted.size,
        "num_candidates": max(300, 2 * wanted.size),
        "per_category": wanted.per_category,
    }
    sources = {
        resource.name: str(resource.body["script"]["source"])
        for resource in read_resources()
        if resource.api == "_scripts"
    }
    return [render(sources[name], parameters) for name in RECIPES[recipe]]


def retrieve(client: Elasticsearch, index: str, recipe: str, wanted: Wanted) -> list[Candidate]:
    """Find candidates, best first.

    Raises:
        RecipeError: As in `search_bodies`, or no such index.
        ConfigurationClusterError: The cluster cannot be reached or refuses.
    """
    if recipe in WITH_VECTOR and wanted.vector is None:
        wanted = replace(wanted, vector=mean_vector(client, index, wanted))
    rankings = _ask(client, index, search_bodies(recipe, wanted))
    combine: Callable[[list[list[Any]]], list[Candidate]] = {
        "fused": lambda found: reciprocal_rank_fusion([_candidates(each) for each in found]),
        "balanced": lambda found: category_rounds(
            [_candidates(each["inner_hits"]["products"]["hits"]["hits"]) for each in found[0]]
        ),
    }.get(recipe, lambda found: _candidates(found[0]))
    return combine(rankings)[: wanted.size]


def mean_vector(client: Elasticsearch, index: str, wanted: Wanted) -> list[float]:
    """The mean of the vectors, each of length 1, of the products that are wanted to be alike.

    Raises:
        RecipeError: None of them has a vector.
        ConfigurationClusterError: The cluster cannot be reached or refuses.
    """
    if wanted.like:
        body: dict[str, Any] = {"query": {"terms": {"id": list(wanted.like)}}}
    else:
        (body,) = search_bodies("text", wanted)
    body |= {"size": len(wanted.like) or FEEDBACK, "_source": False, "fields": ["vector"]}
    (found,) = _ask(client, index, [body])
    vectors = [each["fields"]["vector"] for each in found if "vector" in each.get("fields", {})]
    if not vectors:
        raise RecipeError(
            f"vector: got none for {wanted.like or wanted.query!r}, want products with vectors; "
            "`crossrank es index --bundle` makes them"
        )
    stacked = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
    mean = (stacked / np.linalg.norm(stacked, axis=1, keepdims=True)).mean(axis=0)
    return [float(each) for each in mean]


def _ask(client: Elasticsearch, index: str, bodies: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """What each of some searches found."""
    lines = "".join(f"{{}}\n{json.dumps(body)}\n" for body in bodies)
    answer = call(client, "POST", f"/{quote(index)}/_msearch", lines)
    rankings = []
    for each in answer["responses"]:
        if "error" in each:
            if each["status"] == HTTPStatus.NOT_FOUND:
                raise RecipeError(f"index {index!r}: got none of that name, want one to search")
            refuse(f"search of {index}", each["status"], each)
        rankings.append(each["hits"]["hits"])
    return rankings


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Candidate]], rank_constant: int = RANK_CONSTANT
) -> list[Candidate]:
    """Join rankings by rank alone.

    score = sum over rankings of 1 / (rank_constant + rank), rank from 1
    (Cormack, Clarke, Büttcher 2009). Ties keep the order of first appearance.
    """
    scores: dict[str, float] = {}
    categories: dict[str, str] = {}
    for ranking in rankings:
        for rank, candidate in enumerate(ranking, start=1):
            scores[candidate.id] = scores.get(candidate.id, 0.0) + 1.0 / (rank_constant + rank)
            categories.setdefault(candidate.id, candidate.category)
    fused = [Candidate(name, categories[name], score) for name, score in scores.items()]
    return sorted(fused, key=lambda candidate: -candidate.score)


def category_rounds(groups: Sequence[Sequence[Candidate]]) -> list[Candidate]:
    """Take the best of every category, then the second of every category, and so on.

    Args:
        groups: Candidates of each category, best first; the categories by their best.
    """
    rounds = zip_longest(*groups)
    return [candidate for taken in rounds for candidate in taken if candidate is not None]


def _candidates(found: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    return [
        Candidate(
            id=str(each["_id"]),
            category=str(each.get("_source", {}).get("category", "")),
            score=float(each["_score"] or 0.0),
        )
        for each in found
    ]
