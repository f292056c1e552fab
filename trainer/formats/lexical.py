"""How a query's words meet a product's fields: BM25, overlaps, numbers, cosines of word vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rerank_server.contract.text import TextEncoder
from trainer.encoding.words import read_tokenizer, read_word_vectors, text_vectors

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

K1, B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+")
_NEVER = 99  # place of a word that a title does not hold


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
        self._unknown = float(np.log1p((total + 0.5) / 0.5))

    def score(self, words: Sequence[str], row: int) -> float:
        """Return the score of the text `row` for the words of a query."""
        count, length = self.counts[row], self._lengths[row] / self._mean
        base = K1 * (1 - B + B * length)
        return sum(
            self._idf[word] * count[word] / (count[word] + base) for word in words if word in count
        )

    def idf(self, word: str) -> float:
        """Return the weight of a word; that of one in no text is the largest."""
        return self._idf.get(word, self._unknown)


LEXICAL_FEATURES = (
    "bm25_title",
    "bm25_all",
    "bm25_description",
    "bm25_brand",
    "title_overlap",
    "all_overlap",
    "title_idf_overlap",
    "all_idf_overlap",
    "title_of_query",
    "title_pairs",
    "title_holds_query",
    "title_starts_with_query",
    "first_word_at",
    "last_word_at",
    "last_word_in_title",
    "rarest_word_in_title",
    "numbers_in_title",
    "query_words",
    "query_numbers",
    "title_words",
    "all_words",
    "letters_overlap",
    "cosine_title",
    "cosine_all",
    "cosine_title_of_page_mean",
    "cosine_title_of_page_best",
    "bm25_all_of_page_best",
    "bm25_title_of_page_best",
    "cosine_title_rank",
)


@dataclass(frozen=True, slots=True)
class Fields:
    """The texts of every product by field; "" where a product has none."""

    titles: Sequence[str]
    brands: Sequence[str]
    descriptions: Sequence[str]
    everything: Sequence[str]


def lexical_features(
    queries: Sequence[str],
    fields: Fields,
    offsets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    page_queries: npt.NDArray[np.int32],
) -> Floats:
    """Return `LEXICAL_FEATURES` of every candidate, shape (rows, features).

    Those of the page mean and best compare a candidate with the others of its page: what a search
    found is mostly about one thing, whatever words that has.

    Args:
        queries: Query texts.
        fields: Of each product.
        offsets: Page bounds.
        rows: Product row of each candidate.
        page_queries: Index into `queries` of each page.
    """
    counted = _Counted(fields)
    vectors, encoder = read_word_vectors(), TextEncoder(read_tokenizer())
    of_query = text_vectors(list(queries), vectors, encoder)
    of_title = text_vectors(list(fields.titles), vectors, encoder)
    of_all = text_vectors(list(fields.everything), vectors, encoder)
    features = {name: np.zeros(rows.size, np.float32) for name in LEXICAL_FEATURES}
    for page, query in enumerate(page_queries.tolist()):
        words = words_of(queries[query])
        inside = slice(int(offsets[page]), int(offsets[page + 1]))
        for place, row in enumerate(rows[inside].tolist(), start=inside.start):
            for name, value in counted.matches(words, row).items():
                features[name][place] = value
        titles = of_title[rows[inside]]
        features["cosine_title"][inside] = titles @ of_query[query]
        features["cosine_all"][inside] = of_all[rows[inside]] @ of_query[query]
        _compare_on_page(features, titles, inside)
    return np.stack([features[name] for name in LEXICAL_FEATURES], axis=1)


class _Counted:
    """The words of every field, counted once."""

    def __init__(self, fields: Fields) -> None:
        self._title, self._all = Bm25(fields.titles), Bm25(fields.everything)
        self._description, self._brand = Bm25(fields.descriptions), Bm25(fields.brands)
        self._words = [words_of(title) for title in fields.titles]
        self._letters: dict[int, set[str]] = {}

    def matches(self, words: list[str], row: int) -> dict[str, float]:
        """Return how the words of a query meet one product."""
        title, every = self._title.counts[row], self._all.counts[row]
        ordered, distinct = self._words[row], set(words)
        known = max(len(distinct), 1)
        idf = {word: self._all.idf(word) for word in distinct}
        total = sum(idf.values()) or 1.0
        at = {word: place for place, word in reversed(list(enumerate(ordered)))}
        pairs = set(pairwise(words))
        held = set(pairwise(ordered))
        numbers = {word for word in distinct if any(letter.isdigit() for letter in word)}
        rarest = max(distinct, key=lambda word: (idf[word], word), default="")
        return {
            "bm25_title": self._title.score(words, row),
            "bm25_all": self._all.score(words, row),
            "bm25_description": self._description.score(words, row),
            "bm25_brand": self._brand.score(words, row),
            "title_overlap": sum(word in title for word in distinct) / known,
            "all_overlap": sum(word in every for word in distinct) / known,
            "title_idf_overlap": sum(idf[word] for word in distinct if word in title) / total,
            "all_idf_overlap": sum(idf[word] for word in distinct if word in every) / total,
            "title_of_query": sum(title[word] for word in distinct) / max(len(ordered), 1),
            "title_pairs": len(pairs & held) / max(len(pairs), 1),
            "title_holds_query": bool(words) and _holds(ordered, words),
            "title_starts_with_query": ordered[: len(words)] == words,
            "first_word_at": min((at[word] for word in distinct if word in at), default=_NEVER),
            "last_word_at": at.get(words[-1], _NEVER) if words else _NEVER,
            "last_word_in_title": bool(words) and words[-1] in title,
            "rarest_word_in_title": rarest in title,
            "numbers_in_title": sum(word in title for word in numbers) / max(len(numbers), 1),
            "query_words": len(words),
            "query_numbers": len(numbers),
            "title_words": len(ordered),
            "all_words": sum(every.values()),
            "letters_overlap": self._overlap_of_letters(words, row),
        }

    def _overlap_of_letters(self, words: list[str], row: int) -> float:
        """Return the share of the query's runs of three letters that the title holds."""
        if row not in self._letters:
            self._letters[row] = _threes(self._words[row])
        wanted = _threes(words)
        return len(wanted & self._letters[row]) / max(len(wanted), 1)


def _threes(words: list[str]) -> set[str]:
    text = f" {' '.join(words)} "
    return {text[place : place + 3] for place in range(len(text) - 2)}


def _holds(words: list[str], part: list[str]) -> bool:
    size = len(part)
    return any(words[place : place + size] == part for place in range(len(words) - size + 1))


def _compare_on_page(features: dict[str, Floats], titles: Floats, inside: slice) -> None:
    """Fill in what compares the candidates of one page with each other."""
    if titles.shape[0] == 0:
        return
    middle = titles.mean(axis=0)
    length = float(np.linalg.norm(middle))
    features["cosine_title_of_page_mean"][inside] = titles @ middle / max(length, 1e-9)
    bm25, cosine = features["bm25_all"][inside], features["cosine_title"][inside]
    best = int(np.argmax(bm25))
    features["cosine_title_of_page_best"][inside] = titles @ titles[best]
    features["cosine_title_rank"][inside] = np.argsort(np.argsort(-cosine, kind="stable"))
    for name in ("bm25_all", "bm25_title"):
        values = features[name][inside]
        most = float(values.max(initial=0.0))
        features[f"{name}_of_page_best"][inside] = values / most if most > 0 else 0.0
