"""Retrieval by a real Elasticsearch, with the same answers as the embedded index."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from elasticsearch import Elasticsearch

from deploy.demo.errors import ElasticsearchLateError, ElasticsearchStaleIndexError
from deploy.demo.retrieval.catalogue import Catalogue
from deploy.demo.retrieval.elasticsearch_answers import connect, named_errors, raise_refusal
from deploy.demo.retrieval.elasticsearch_build import ensure_index
from deploy.demo.retrieval.elasticsearch_query import (
    Clause,
    best_search,
    own_search,
    promoted_clause,
    typos_clause,
    words_clause,
)
from deploy.demo.retrieval.order import take_candidates
from deploy.demo.retrieval.retriever import (
    OWN_CONSIDERED,
    OWN_LIMIT,
    Retrieved,
    Surface,
    check_limit,
    own_limit,
    parse_surface,
)
from deploy.demo.retrieval.words import query_words
from rerank_server.contract.page import Rows

ALIAS = "crossrank-products"
TIMEOUT_S = 1.0
# Elasticsearch adds in float32; products whose scores then differ in the last digit may change
# places. Asking for a few more and ordering them here keeps the order exact.
SPARE_PRODUCTS = 32


class ElasticsearchIndex:
    """A `Retriever` over an Elasticsearch index of the catalogue."""

    def __init__(
        self, client: Elasticsearch, alias: str, catalogue: Catalogue, timeout_s: float
    ) -> None:
        """Search the index that `alias` names; `open` makes sure that it holds `catalogue`."""
        self._client = client
        self._alias = alias
        self._catalogue = catalogue
        self._timeout_s = timeout_s

    @classmethod
    def open(
        cls,
        url: str,
        catalogue: Catalogue,
        *,
        alias: str = ALIAS,
        timeout_s: float = TIMEOUT_S,
        show_progress: bool = True,
    ) -> Self:
        """The index of `catalogue` at `url`, built unless a whole one of it is there.

        Args:
            url: With `user:password@` where the cluster wants them.
            catalogue: What to search.
            alias: Names the index in force; indices are called `<alias>-<catalogue hash>`.
            timeout_s: Deadline of each search, not of building.
            show_progress: Draw a bar while building.

        Raises:
            ElasticsearchError: The child that names the cause.
            IndexBuildError: Products were refused or went missing.
        """
        client = connect(url, timeout_s)
        try:
            ensure_index(client, alias, catalogue, show_progress=show_progress)
        except BaseException:
            client.close()
            raise
        return cls(client, alias, catalogue, timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def search(self, query: str, *, place: str | None, limit: int, own: Sequence[str]) -> Retrieved:
        """See `Retriever.search`. Raises the children of `ElasticsearchError` too."""
        check_limit(limit)
        if place is not None:
            self._catalogue.places.of(place)
        wanted = query_words(query)
        if not wanted:
            matched, approximate = np.zeros(0, np.int32), False
        else:
            deadline = time.monotonic() + self._timeout_s
            matched = self._match([words_clause(wanted)], place, limit, own, deadline)
            approximate = matched.size == 0
            if approximate:
                matched = self._match([typos_clause(wanted)], place, limit, own, deadline)
        return take_candidates(
            self._catalogue,
            matched,
            place=place,
            limit=limit,
            own=own,
            own_limit=OWN_LIMIT,
            approximate=approximate and matched.size > 0,
        )

    def slot(
        self,
        surface: str,
        *,
        category: str | None,
        place: str | None,
        limit: int,
        own: Sequence[str],
        filter_ids: Sequence[str] | None = None,
    ) -> Retrieved:
        """See `Retriever.slot`. Raises the children of `ElasticsearchError` too."""
        check_limit(limit)
        parsed = parse_surface(surface, category=category, place=place)
        filters: list[Clause] = []
        if category is not None:
            self._catalogue.category_rows(category)
            filters.append({"term": {"category": category}})
        if place is not None:
            self._catalogue.places.of(place)
        if parsed is Surface.PROMOTION and place is not None:
            filters.append(promoted_clause(place))
        if filter_ids is not None:
            filters.append({"terms": {"id": list(filter_ids)}})
        deadline = time.monotonic() + self._timeout_s
        matched = self._match(filters, place, limit, own, deadline)
        return take_candidates(
            self._catalogue,
            matched,
            place=place,
            limit=limit,
            own=own,
            own_limit=own_limit(parsed),
        )

    def _match(
        self,
        filters: Sequence[Clause],
        place: str | None,
        limit: int,
        own: Sequence[str],
        deadline: float,
    ) -> Rows:
        """Rows of the best products and of the own ones that pass the filters, each once."""
        searches = [best_search(filters, place=place, size=limit + SPARE_PRODUCTS)]
        if own:
            searches.append(own_search(filters, own[:OWN_CONSIDERED]))
        rows: set[int] = set()
        for answer in self._ask(searches, deadline):
            rows.update(self._row(found["_id"]) for found in answer["hits"]["hits"])
        return np.fromiter(sorted(rows), np.int32, len(rows))

    def _ask(self, searches: Sequence[Clause], deadline: float) -> list[dict[str, Any]]:
        """The answers to `searches`, sent as one request.

        Raises:
            ElasticsearchError: The child that names the cause; late is also an answer that was
                cut short to be in time.
        """
        left_s = max(deadline - time.monotonic(), 0.001)
        lines: list[dict[str, Any]] = []
        for search in searches:
            lines.append({"allow_partial_search_results": False})
            lines.append({**search, "timeout": f"{max(int(left_s * 1000), 1)}ms"})
        with named_errors(self._alias, self._timeout_s):
            client = self._client.options(request_timeout=left_s)
            answers = client.msearch(index=self._alias, searches=lines)["responses"]
        for answer in answers:
            if "error" in answer:
                raise_refusal(self._alias, answer["status"], answer)
        if time.monotonic() > deadline or any(answer["timed_out"] for answer in answers):
            raise ElasticsearchLateError(
                f"Elasticsearch: got the answer after {self._timeout_s:g} s, want it in time"
            )
        return list(answers)

    def _row(self, id_: str) -> int:
        try:
            return self._catalogue.row_of[id_]
        except KeyError:
            raise ElasticsearchStaleIndexError(
                f"index {self._alias!r}: got product {id_!r}, want products of catalogue "
                f"{self._catalogue.content_hash[:16]} only; start the demo again to rebuild it"
            ) from None
