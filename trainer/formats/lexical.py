"""How a query's words meet a product's text: BM25, overlaps, cosine of word vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rerank_server.contract.text import TextEncoder
from trainer.words import read_tokenizer, read_word_vectors, text_vectors

Doubles = npt.NDArray[np.float64]

K1, B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, a plural `s` of words over three letters cut."""
    found = _WORD.findall(text.lower())
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found]  # noqa: PLR2004


class Bm25:
    """BM25 over a fixed set of texts (Robertson and Zaragoza 2009, eq. 3.15).

    score(q, d) = sum over words w of q: idf(w) * f / (f + k1 * (1 - b + b * |d| / avg|d|)), f the
    count of w in d and idf(w) = log(1 + (N - n + 0.5) / (n + 0.5)), n the texts that hold w.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Count the words of `texts`."""
        self.counts = [Counter(words_of(text)) for text in texts]
        self._lengths = [sum(count.values()) for count in self.counts]
        self._mean = sum(self._lengths) / max(len(texts), 1) or 1.0
        frequency = Counter(word for count in self.counts for word in count)
        total = len(texts)
        self._idf = {
            word: float(np.log1p((total - n + 0.5) / (n + 0.5))) for word, n in frequency.items()
        }

    def score(self, words: Sequence[str], row: int) -> float:
        """Return the score of the text `row` for the words of a query."""
        count, length = self.counts[row], self._lengths[row] / self._mean
        base = K1 * (1 - B + B * length)
        return sum(
            self._idf[word] * count[word] / (count[word] + base) for word in words if word in count
        )


LEXICAL_FEATURES = (
    "bm25_title",
    "bm25_all",
    "title_overlap",
    "all_overlap",
    "title_starts_with_query",
    "query_words",
    "title_words",
    "all_words",
    "cosine_title",
    "cosine_all",
    "bm25_all_of_page_best",
)


def lexical_features(
    queries: Sequence[str],
    titles: Sequence[str],
    texts: Sequence[str],
    offsets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    page_queries: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Return `LEXICAL_FEATURES` of every candidate, shape (rows, features).

    Args:
        queries: Query texts.
        titles: Of each product.
        texts: Title and all else of each product.
        offsets: Page bounds.
        rows: Product row of each candidate.
        page_queries: Index into `queries` of each page.
    """
    by_title, by_all = Bm25(titles), Bm25(texts)
    vectors, encoder = read_word_vectors(), TextEncoder(read_tokenizer())
    of_query = text_vectors(list(queries), vectors, encoder)
    of_title = text_vectors(list(titles), vectors, encoder)
    of_all = text_vectors(list(texts), vectors, encoder)
    features = np.zeros((rows.size, len(LEXICAL_FEATURES)), np.float32)
    for page, query in enumerate(page_queries.tolist()):
        words = words_of(queries[query])
        distinct = set(words)
        inside = slice(int(offsets[page]), int(offsets[page + 1]))
        for place, row in enumerate(rows[inside].tolist(), start=inside.start):
            title, every = by_title.counts[row], by_all.counts[row]
            features[place, :8] = (
                by_title.score(words, row),
                by_all.score(words, row),
                sum(word in title for word in distinct) / max(len(distinct), 1),
                sum(word in every for word in distinct) / max(len(distinct), 1),
                words_of(titles[row])[: len(words)] == words,
                len(words),
                sum(title.values()),
                sum(every.values()),
            )
        features[inside, 8] = of_title[rows[inside]] @ of_query[query]
        features[inside, 9] = of_all[rows[inside]] @ of_query[query]
        best = float(features[inside, 1].max(initial=0.0))
        features[inside, 10] = features[inside, 1] / best if best > 0 else 0.0
    return features
