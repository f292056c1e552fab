"""Candidates out of a whole category: what a shop would retrieve before it reranks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from rerank_server.contract.text import TextEncoder
from trainer.encoding.words import read_tokenizer, read_word_vectors, text_vectors
from trainer.formats.events import Events
from trainer.formats.neighbours import Doubles, Neighbours

Integers = npt.NDArray[np.int64]

_DECAY = 0.7  # of an event's weight with each later event
_SHARES = {"after": 0.5, "walk": 0.25, "text": 0.15}  # popularity fills what is left
_AT_ONCE = 256


def retrieve(
    events: Events,
    targets: Integers,
    past: tuple[Integers, Integers],
    fits: list[Neighbours],
    fit_of: Integers,
    texts: list[str],
    most: Integers,
) -> list[Integers]:
    """Return the candidates of every asked event, product rows of its category, best first.

    Half of them come from sequential neighbours, a quarter from random walks, some from texts like
    those of the past where there are texts; the most popular fill up. What the shopper has is left
    out.

    Args:
        events: All events.
        targets: The events that are asked for, shape (pages,).
        past: First event of each page's past and one past its last.
        fits: Neighbours and counts of several stretches of the past.
        fit_of: Which of them each page reads, shape (pages,).
        texts: By product row.
        most: Candidates of each page, shape (pages,).
    """
    begin, end = past
    size = len(events.product_ids)
    vectors = _vectors(texts)
    category = events.category[events.product[targets]]
    found: list[Integers] = [np.zeros(0, np.int64)] * targets.size
    for number, fit in enumerate(fits):
        for code in np.unique(category[fit_of == number]).tolist():
            members = np.flatnonzero(events.category == code)
            pages = np.flatnonzero((fit_of == number) & (category == code))
            popular = members[np.argsort(-fit.counts[members], kind="stable")]
            after, walk = csr_matrix(fit.after[:, members]), csr_matrix(fit.walk[:, members])
            for start in range(0, pages.size, _AT_ONCE):
                part = pages[start : start + _AT_ONCE]
                weights = _weights(events, begin[part], end[part], size)
                scored = [(weights @ after).toarray(), (weights @ walk).toarray()]
                if vectors is not None:
                    scored.append(np.asarray(weights @ vectors) @ vectors[members].T)
                for place, page in enumerate(part.tolist()):
                    had = events.product[begin[page] : end[page]]
                    ranked = [members[_best(scores[place], int(most[page]))] for scores in scored]
                    found[page] = _merge(ranked, popular, had, int(most[page]))
    return found


def _vectors(texts: list[str]) -> npt.NDArray[np.float32] | None:
    if not any(texts):
        return None
    return text_vectors(texts, read_word_vectors(), TextEncoder(read_tokenizer()))


def _weights(events: Events, begin: Integers, end: Integers, size: int) -> csr_matrix:
    sizes = end - begin
    page = np.repeat(np.arange(sizes.size), sizes)
    place = np.arange(page.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    back = sizes[page] - 1 - place
    product = events.product[begin[page] + place]
    values = _DECAY ** back.astype(np.float64)
    return csr_matrix((values, (page, product)), shape=(sizes.size, size))


def _best(scores: Doubles, count: int) -> Integers:
    """Return the places of the highest positive scores, best first."""
    count = min(count, scores.size)
    places = np.argpartition(-scores, count - 1)[:count]
    places = places[scores[places] > 0]
    return places[np.argsort(-scores[places], kind="stable")].astype(np.int64)


def _merge(ranked: list[Integers], popular: Integers, had: Integers, most: int) -> Integers:
    """Return the shares of each list in turn without repeats, the popular ones after them."""
    taken: dict[int, None] = {}
    left = set(had.tolist())
    for rows, share in zip(ranked, _SHARES.values(), strict=False):
        wanted = len(taken) + int(share * most)
        for row in rows.tolist():
            if len(taken) >= wanted:
                break
            if row not in left:
                taken.setdefault(row)
    for row in popular.tolist():
        if len(taken) >= most:
            break
        if row not in left:
            taken.setdefault(row)
    return np.array(list(taken), np.int64)
