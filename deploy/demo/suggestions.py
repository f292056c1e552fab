"""Queries to offer while a shopper types, from the searches of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from deploy.demo.retrieval.words import words
from deploy.demo.titles import category_title
from trainer.encoding.dataset import Prepared


class Suggestions:
    """The log's queries, the most frequent first, each with the category it is mostly about."""

    def __init__(self, prepared: Prepared) -> None:
        """Count the searches of the training split only."""
        pages = np.zeros(0, np.int64)
        if prepared.page_count:
            pages = prepared.pages_of("train")
        pages = pages[prepared.page_queries[pages] >= 0]
        pairs = Counter(
            zip(
                prepared.page_queries[pages].tolist(),
                prepared.page_categories[pages].tolist(),
                strict=True,
            )
        )
        self._counts: Counter[str] = Counter()
        self._category: dict[str, str] = {}
        for (query, category), count in pairs.most_common():
            text = prepared.queries[query]
            self._counts[text] += count
            if category:
                self._category.setdefault(text, prepared.categories[category - 1])
        for text in prepared.queries:
            self._counts.setdefault(text, 0)
        self._words = [(text, words(text)) for text, _ in self._counts.most_common()]

    def matching(self, typed: str, limit: int) -> list[dict[str, str | None]]:
        """Queries that hold each typed word, the last of them perhaps unfinished."""
        *whole, last = words(typed) or ("",)
        if not last:
            return []
        found = (
            text
            for text, held in self._words
            if all(word in held for word in whole) and any(word.startswith(last) for word in held)
        )
        return self.described(text for text, _ in zip(found, range(limit), strict=False))

    def per_category(self) -> list[dict[str, str | None]]:
        """The most frequent query of each category."""
        best: dict[str, str] = {}
        for text, _ in self._counts.most_common():
            if text in self._category:
                best.setdefault(self._category[text], text)
        return self.described(best.values())

    def described(self, queries: Iterable[str]) -> list[dict[str, str | None]]:
        """Each query with the title of its category, None where it is not known."""
        return [
            {
                "query": text,
                "category": category_title(self._category[text])
                if text in self._category
                else None,
            }
            for text in queries
        ]
