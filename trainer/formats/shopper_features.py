"""The dense features of a page of a shopper: popularity, own past, neighbours, texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from rerank_server.contract.text import TextEncoder
from trainer.encoding.words import read_tokenizer, read_word_vectors, text_vectors
from trainer.formats.events import Events
from trainer.formats.neighbours import Neighbours, look_up

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

FEATURES = (
    "own_count",
    "popularity",
    "popularity_in_category",
    "knn_all",
    "knn_own_category",
    "knn_after",
    "knn_after_own_category",
    "knn_of_last",
    "walk",
    "walk_own_category",
    "text_like_past",
    "text_like_last",
    "text_like_own_category",
    "past_events",
    "past_events_in_category",
)
_DECAY = 0.9  # of an event's weight with each later event
_AFTER_DECAY = 0.7


@dataclass(frozen=True, slots=True)
class TargetPages:
    """Where candidates and pasts of pages are.

    Attributes:
        offsets: First candidate of each page, shape (pages + 1,).
        rows: Product row of each candidate.
        begin: First event of each page's past, shape (pages,).
        end: One past its last, shape (pages,).
    """

    offsets: Integers
    rows: Integers
    begin: Integers
    end: Integers

    @property
    def page(self) -> Integers:
        """The page of each candidate."""
        return np.repeat(np.arange(self.begin.size), np.diff(self.offsets))


def shopper_features(
    events: Events,
    pages: TargetPages,
    fits: list[Neighbours],
    fit_of: Integers,
    texts: list[str],
) -> npt.NDArray[np.float32]:
    """Return `FEATURES` of every candidate, shape (rows, features).

    Args:
        events: All events.
        pages: Candidates and pasts.
        fits: Neighbours and counts of several stretches of the past.
        fit_of: Which of them each page reads, shape (pages,).
        texts: By product row; all empty where products have none.
    """
    page, rows = pages.page, pages.rows
    past_page, past_product, back = _past(events, pages)
    category = events.category[rows].astype(np.int64)
    first = events.category[rows[np.minimum(pages.offsets[:-1], max(rows.size - 1, 0))]]
    same = events.category[past_product] == first[past_page]
    size, count = len(events.product_ids), pages.begin.size

    def weights(decay: float, chosen: npt.NDArray[np.bool_]) -> csr_matrix:
        values = decay ** back[chosen].astype(np.float64)
        return csr_matrix((values, (past_page[chosen], past_product[chosen])), shape=(count, size))

    everything = np.ones(back.size, np.bool_)
    columns = {name: np.full(rows.size, np.nan) for name in FEATURES}
    ones = csr_matrix((np.ones(back.size), (past_page, past_product)), shape=(count, size))
    columns["own_count"] = _own(ones, page, rows)
    columns["past_events"] = np.log1p(np.bincount(past_page, minlength=count))[page]
    columns["past_events_in_category"] = np.log1p(np.bincount(past_page[same], minlength=count))[
        page
    ]
    far, far_own = weights(_DECAY, everything), weights(_DECAY, same)
    near, near_own = weights(_AFTER_DECAY, everything), weights(_AFTER_DECAY, same)
    last = weights(1.0, back == 0)
    for number, fit in enumerate(fits):
        inside = fit_of[page] == number
        if not inside.any():
            continue
        of = (page[inside], rows[inside])
        total = np.bincount(events.category, fit.counts, len(events.categories) + 1)
        events_in_fit = max(float(fit.counts.sum()), 1.0)
        share = fit.counts[rows[inside]] / events_in_fit
        columns["popularity"][inside] = np.log1p(share * 1e6)
        columns["popularity_in_category"][inside] = np.log1p(
            fit.counts[rows[inside]] / np.maximum(total[category[inside]], 1.0) * 1e4
        )
        columns["knn_all"][inside] = look_up(fit.together, far, *of)
        columns["knn_own_category"][inside] = look_up(fit.together, far_own, *of)
        columns["knn_after"][inside] = look_up(fit.after, near, *of)
        columns["knn_after_own_category"][inside] = look_up(fit.after, near_own, *of)
        columns["knn_of_last"][inside] = look_up(fit.after, last, *of)
        columns["walk"][inside] = look_up(fit.walk, far, *of)
        columns["walk_own_category"][inside] = look_up(fit.walk, far_own, *of)
    if any(texts):
        _add_texts(columns, texts, (far, near, far_own), page, rows)
    return np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)


def _past(events: Events, pages: TargetPages) -> tuple[Integers, Integers, Integers]:
    """Return page, product and distance from the end of every past event of every page."""
    sizes = pages.end - pages.begin
    page = np.repeat(np.arange(sizes.size), sizes)
    starts = np.cumsum(sizes) - sizes
    place = np.arange(page.size) - starts[page]
    return page, events.product[pages.begin[page] + place], sizes[page] - 1 - place


def _own(ones: csr_matrix, page: Integers, rows: Integers) -> Doubles:
    """Return how often each candidate is in its page's past."""
    identity = csr_matrix(
        (np.ones(ones.shape[1]), (np.arange(ones.shape[1]), np.arange(ones.shape[1]))),
        shape=(ones.shape[1], ones.shape[1]),
    )
    return look_up(identity, ones, page, rows)


def _add_texts(
    columns: dict[str, Doubles],
    texts: list[str],
    weights: tuple[csr_matrix, csr_matrix, csr_matrix],
    page: Integers,
    rows: Integers,
) -> None:
    """Fill in the cosines of the candidates' texts with the weighted mean of the past's."""
    vectors = text_vectors(texts, read_word_vectors(), TextEncoder(read_tokenizer()))
    names = ("text_like_past", "text_like_last", "text_like_own_category")
    for name, of_pages in zip(names, weights, strict=True):
        taste = np.asarray(of_pages @ vectors, np.float32)
        length = np.linalg.norm(taste, axis=1, keepdims=True)
        taste /= np.maximum(length, 1e-9)
        for start in range(0, rows.size, 100_000):
            part = slice(start, start + 100_000)
            columns[name][part] = np.einsum("ij,ij->i", taste[page[part]], vectors[rows[part]])
