"""Recommendation slots, for logs without searches: what to show a shopper who typed nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.logs.log_arrays import InteractionArrays, ProductArrays
from trainer.logs.log_config import LogConfig
from trainer.logs.pages import SOURCES, Candidates, Requests
from trainer.logs.retrieval import (
    OWN_PAST,
    POPULAR,
    Past,
    best_of_page,
    keep_best,
    merge_sources,
    own_products,
    popularity_score,
)
from trainer.logs.searches import HOME, Baskets, basket_lines, make_requests, sample_baskets
from trainer.logs.windows import expand_slices

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]

TOGETHER = np.uint8(1 << SOURCES.index("bought together"))
# Two products are together when at most this many interactions of one shopper lie between them.
TOGETHER_SPAN = 5
NEIGHBOURS = 20
RECENT = 10


def home_requests(
    interactions: InteractionArrays,
    products: ProductArrays,
    days: Baskets,
    config: LogConfig,
) -> Requests:
    """Return one page per shopper and day, or per shopper, day and category.

    The page stands at the day's first interaction and is answered by the whole day's.

    Args:
        interactions: The coded interactions.
        products: The catalogue.
        days: Interactions of one shopper on one day.
        config: `home_by_category` and `home_pages`.
    """
    owner, line = basket_lines(days)
    category = products.category[interactions.row[line]]
    if not config.home_by_category:
        category = np.zeros_like(category)
    width = len(products.categories) + 1
    keys = np.unique(owner * width + category)
    owner, category = keys // width, (keys % width).astype(np.int32)
    kept = sample_baskets(days, owner, config.home_pages)
    owner, category = owner[kept], category[kept]
    return make_requests(
        interactions,
        days,
        owner,
        surface=HOME,
        scope=category,
        query=np.full(owner.shape, -1, np.int32),
        category=category,
    )


@dataclass(frozen=True, slots=True)
class Together:
    """Neighbours of each product, known from a point in time on.

    Attributes:
        known_from_day: Integer day; built from earlier interactions only.
        offsets: First neighbour of each product, int64, shape (products + 1,).
        neighbours: Product rows, best first, int32.
        weights: Cosine of the two products' closeness counts, float64.
    """

    known_from_day: int
    offsets: Ints
    neighbours: Rows
    weights: Doubles


def fit_together(interactions: InteractionArrays, products: int, day: int) -> Together:
    """Count which products shoppers take close to each other before `day`.

    Weight = pairs(i, j) / sqrt(n_i n_j), where a pair lies at most `TOGETHER_SPAN` interactions
    of one shopper apart; the best `NEIGHBOURS` of each product are kept. Linear in interactions.
    """
    used = np.flatnonzero(interactions.day < day)
    shopper, row = interactions.shopper[used], interactions.row[used].astype(np.int64)
    pairs = [np.empty(0, np.int64)]
    for lag in range(1, TOGETHER_SPAN + 1):
        same = (shopper[lag:] == shopper[:-lag]) & (row[lag:] != row[:-lag])
        first, second = row[lag:][same], row[:-lag][same]
        pairs += [first * products + second, second * products + first]
    keys, counts = np.unique(np.concatenate(pairs), return_counts=True)
    left, right = keys // products, (keys % products).astype(np.int32)
    sizes = np.bincount(row, minlength=products)
    weight = counts / np.sqrt(sizes[left] * sizes[right])
    best = best_of_page(left, right, weight, NEIGHBOURS)
    offsets = np.searchsorted(left[best], np.arange(products + 1))
    return Together(day, offsets.astype(np.int64), right[best], weight[best])


@dataclass(frozen=True, slots=True)
class HomeRetrieval:
    """Best sellers, then own past products, then those taken together with recent ones."""

    interactions: InteractionArrays
    category: Rows
    together: tuple[Together, ...]
    config: LogConfig

    def candidates(self, requests: Requests, past: Past) -> Candidates:
        """Return the candidates of requests of one day."""
        parts = [
            self._popular(requests, past),
            self._own(requests, past),
            self._together(requests, past),
        ]
        return merge_sources(parts, len(self.category))

    def holds(self, requests: Requests, page: Ints, row: Rows) -> npt.NDArray[np.bool_]:
        """Return whether each product is of its page's category; scope 0 holds all."""
        scope = requests.scope[page]
        inside: npt.NDArray[np.bool_] = (scope == 0) | (self.category[row] == scope)
        return inside

    def _popular(self, requests: Requests, past: Past) -> Candidates:
        """Take the chain's best sellers of each scope, the same for all pages of the day."""
        scopes, position = np.unique(requests.scope, return_inverse=True)
        every = np.arange(len(self.category), dtype=np.int32)
        sold = every[past.sales.chain(self.config.chain_window_days, every) > 0]
        count = past.sales.chain(self.config.chain_window_days, sold).astype(np.float64)
        lists = []
        for scope in scopes.tolist():
            inside = np.flatnonzero((scope == 0) | (self.category[sold] == scope))
            best = best_of_page(
                np.zeros(len(inside), np.int64), sold[inside], count[inside],
                self.config.home_popular,
            )  # fmt: skip
            lists.append(sold[inside[best]])
        sizes = np.array([len(part) for part in lists], np.int64)
        starts = np.cumsum(sizes) - sizes
        page, member = expand_slices(starts[position], sizes[position])
        row = np.concatenate(lists)[member]
        score = popularity_score(past, requests.place[page], row, self.config)
        return Candidates(page, row, score, np.full(len(row), POPULAR))

    def _own(self, requests: Requests, past: Past) -> Candidates:
        page, row, weight = own_products(requests, past)
        inside = self.holds(requests, page, row)
        page, row, weight = page[inside], row[inside], weight[inside]
        score = popularity_score(past, requests.place[page], row, self.config)
        return keep_best(page, row, score, weight, self.config.home_own, OWN_PAST)

    def _together(self, requests: Requests, past: Past) -> Candidates:
        """Add up the neighbours of the shopper's last interactions before the day."""
        fitted = [part for part in self.together if part.known_from_day <= past.day]
        page, recent = self._recent(requests, past.day)
        if not fitted:
            page, recent = page[:0], recent[:0]
        table = fitted[-1] if fitted else self.together[0]
        starts = table.offsets[recent]
        owner, member = expand_slices(starts, table.offsets[recent + 1] - starts)
        page, row = page[owner], table.neighbours[member]
        keys, inverse = np.unique(page * len(self.category) + row, return_inverse=True)
        total = np.bincount(inverse, weights=table.weights[member], minlength=len(keys))
        page, row = keys // len(self.category), (keys % len(self.category)).astype(np.int32)
        inside = self.holds(requests, page, row)
        page, row, weight = page[inside], row[inside], total[inside].astype(np.float64)
        score = popularity_score(past, requests.place[page], row, self.config)
        return keep_best(page, row, score, weight, self.config.home_together, TOGETHER)

    def _recent(self, requests: Requests, day: int) -> tuple[Ints, Rows]:
        """Return each page's shopper's last products before `day`, by page."""
        # a home page is answered by a whole day, so its first interaction ends the past
        ends = requests.basket_start
        starts = np.maximum(self.interactions.shopper_offsets[requests.shopper], ends - RECENT)
        page, line = expand_slices(starts, ends - starts)
        before = self.interactions.day[line] < day
        return page[before], self.interactions.row[line[before]]
