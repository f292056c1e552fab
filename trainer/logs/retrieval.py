"""First-pass retrieval from the past: what a page's candidates are and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trainer.logs.log_config import LogConfig
from trainer.logs.pages import SOURCES, Candidates, Requests
from trainer.logs.promotions import PromotionArrays
from trainer.logs.windows import PastPurchases, SalesWindows, expand_slices

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]
# Page position, product row, decayed weight.
OwnProducts = tuple[Ints, Rows, Doubles]

PLACE_WEIGHT = 1.5

POPULAR = np.uint8(1 << SOURCES.index("popular"))
OWN_PAST = np.uint8(1 << SOURCES.index("own past"))
AFFINITY = np.uint8(1 << SOURCES.index("affinity"))

# Days of the shortest sales window, which sees a promotion work.
TREND_DAYS = 7
AFFINITY_WEIGHTS: dict[str, float] = {
    "chain": 1.0,
    "chain_week": 1.0,
    "place": 0.5,
    "product": 4.0,
    "leaf": 0.7,
    "brand": 0.6,
    "display": 1.0,
    "mailer": 1.0,
}


@dataclass(frozen=True, slots=True)
class Past:
    """Everything known before a day.

    Attributes:
        day: Integer day; nothing of it or later is known.
        sales: Windows that end before `day`.
        purchases: What shoppers bought.
    """

    day: int
    sales: SalesWindows
    purchases: PastPurchases


class Retrieval(Protocol):
    """How one surface finds candidates."""

    def candidates(self, requests: Requests, past: Past) -> Candidates:
        """Return the candidates of requests of one day."""

    def holds(self, requests: Requests, page: Ints, row: Rows) -> npt.NDArray[np.bool_]:
        """Return whether each product belongs on its page, retrieved or not."""


def popularity_score(
    past: Past, place: Rows, row: Rows, config: LogConfig
) -> npt.NDArray[np.float32]:
    """Return log1p(chain sales) + 1.5 log1p(place sales), over the configured windows."""
    chain = past.sales.chain(config.chain_window_days, row)
    local = past.sales.place(config.place_window_days, place, row)
    return (np.log1p(chain) + PLACE_WEIGHT * np.log1p(local)).astype(np.float32)


def best_of_page(page: Ints, row: Rows, score: npt.NDArray[np.floating], limit: int) -> Ints:
    """Return the positions of the `limit` best rows of each page, by page, then best first.

    Ties go to the lower product row.
    """
    order = np.lexsort((row, -score, page))
    ordered = page[order]
    starts = np.searchsorted(ordered, ordered)
    return order[np.arange(order.shape[0]) - starts < limit]


def merge_sources(parts: list[Candidates], products: int) -> Candidates:
    """Return the candidates of all sources, each product once per page at its first place.

    Order within a page: the first source's candidates, then the next source's new ones. The
    source bits of a product are those of every source that found it.
    """
    page = np.concatenate([part.page for part in parts])
    row = np.concatenate([part.row for part in parts])
    score = np.concatenate([part.score for part in parts])
    source = np.concatenate([part.source for part in parts])
    keys = page * products + row
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    bits = np.zeros(first.shape[0], np.uint8)
    np.bitwise_or.at(bits, inverse, source)
    order = np.lexsort((first, page[first]))
    kept = first[order]
    return Candidates(page[kept], row[kept], score[kept], bits[order])


@dataclass(frozen=True, slots=True)
class MatchGroups:
    """Which products match which query.

    Attributes:
        of_broad: Group of each product's broad query, int32, shape (products,).
        of_narrow: Group of each product's narrow query, int32, shape (products,); the two kinds
            share no group.
        offsets: First member of each group, int64, shape (groups + 1,).
        members: Product rows by group, ascending within one, int32.
    """

    of_broad: Rows
    of_narrow: Rows
    offsets: Ints
    members: Rows

    def match(self, scope: Rows, row: Rows) -> npt.NDArray[np.bool_]:
        """Return whether each product matches the group beside it."""
        matches: npt.NDArray[np.bool_] = (self.of_broad[row] == scope) | (
            self.of_narrow[row] == scope
        )
        return matches


@dataclass(frozen=True, slots=True)
class SearchRetrieval:
    """Products that match the query and sold lately, best sellers first, then own past ones."""

    groups: MatchGroups
    config: LogConfig
    products: int

    def candidates(self, requests: Requests, past: Past) -> Candidates:
        """Return the candidates of requests of one day."""
        return merge_sources(
            [self._popular(requests, past), self._own(requests, past)], self.products
        )

    def holds(self, requests: Requests, page: Ints, row: Rows) -> npt.NDArray[np.bool_]:
        """Return whether each product matches its page's query."""
        return self.groups.match(requests.scope[page], row)

    def _popular(self, requests: Requests, past: Past) -> Candidates:
        starts = self.groups.offsets[requests.scope]
        page, member = expand_slices(starts, self.groups.offsets[requests.scope + 1] - starts)
        row = self.groups.members[member]
        place = requests.place[page]
        local = past.sales.place(self.config.place_window_days, place, row)
        on_sale = (local > 0) | (past.sales.chain(self.config.chain_recent_days, row) > 0)
        page, row, place = page[on_sale], row[on_sale], place[on_sale]
        score = popularity_score(past, place, row, self.config)
        return keep_best(page, row, score, score, self.config.search_popular, POPULAR)

    def _own(self, requests: Requests, past: Past) -> Candidates:
        page, row, weight = own_products(requests, past)
        matching = self.holds(requests, page, row)
        page, row, weight = page[matching], row[matching], weight[matching]
        score = popularity_score(past, requests.place[page], row, self.config)
        return keep_best(page, row, score, weight, self.config.search_own, OWN_PAST)


@dataclass(frozen=True, slots=True)
class PromotionRetrieval:
    """Products on promotion: best sellers, then own past ones, then those the shopper likely takes.

    The third source ranks by `AFFINITY_WEIGHTS`, a logistic regression on training pages, rounded.
    """

    promotions: PromotionArrays
    leaf: Rows
    brand: Rows
    config: LogConfig

    def candidates(self, requests: Requests, past: Past) -> Candidates:
        """Return the candidates of requests of one day."""
        starts, counts = self.promotions.slices(requests.period, requests.place)
        page, index = expand_slices(starts, counts)
        row = self.promotions.rows(index)
        score = popularity_score(past, requests.place[page], row, self.config)
        own_page, own_row, own_weight = own_products(requests, past)
        own = (own_page, own_row, own_weight)
        promoted = self.holds(requests, own_page, own_row)
        own_promoted = (own_page[promoted], own_row[promoted], own_weight[promoted])
        own_score = popularity_score(
            past, requests.place[own_promoted[0]], own_promoted[1], self.config
        )
        found = [
            keep_best(page, row, score, score, self.config.promotion_popular, POPULAR),
            keep_best(
                *own_promoted[:2], own_score, own_promoted[2], self.config.promotion_own, OWN_PAST
            ),
        ]
        if self.config.promotion_affinity:
            rank = self._affinity(requests, past, own, page, index)
            found.append(
                keep_best(page, row, score, rank, self.config.promotion_affinity, AFFINITY)
            )
        return merge_sources(found, self.promotions.products)

    def holds(self, requests: Requests, page: Ints, row: Rows) -> npt.NDArray[np.bool_]:
        """Return whether each product is promoted at its page's place and period."""
        return self.promotions.find(requests.period[page], requests.place[page], row)[1]

    def _affinity(
        self, requests: Requests, past: Past, own: OwnProducts, page: Ints, index: Ints
    ) -> Doubles:
        """Return how likely the shopper takes each promoted product, as a linear score."""
        row = self.promotions.rows(index)
        place = requests.place[page]
        every = np.arange(self.promotions.products, dtype=np.int32)
        features = {
            "chain": np.log1p(past.sales.chain(self.config.chain_window_days, row)),
            "chain_week": np.log1p(past.sales.chain(TREND_DAYS, row)),
            "place": np.log1p(past.sales.place(self.config.place_window_days, place, row)),
            "product": np.log1p(_taste(every, own, page, row)),
            "leaf": np.log1p(_taste(self.leaf, own, page, row)),
            "brand": np.log1p(_taste(self.brand, own, page, row)) * (self.brand[row] > 0),
            "display": self.promotions.display[index] > 0,
            "mailer": self.promotions.mailer[index] > 0,
        }
        total = np.zeros(row.shape)
        for name, weight in AFFINITY_WEIGHTS.items():
            total += weight * features[name]
        return total


def _taste(codes: Rows, own: OwnProducts, page: Ints, row: Rows) -> Doubles:
    """Return the shopper's decayed purchases of the products that share each product's code."""
    own_page, own_row, own_weight = own
    if not len(own_page):
        return np.zeros(page.shape)
    span = int(codes.max()) + 1
    keys, inverse = np.unique(own_page * span + codes[own_row], return_inverse=True)
    totals = np.bincount(inverse, weights=own_weight, minlength=len(keys))
    wanted = page * span + codes[row]
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, totals[index], 0.0)


def keep_best(
    page: Ints,
    row: Rows,
    score: npt.NDArray[np.float32],
    rank: npt.NDArray[np.floating],
    limit: int,
    source: np.uint8,
) -> Candidates:
    """Return the `limit` best of each page by `rank`, as candidates of one source."""
    best = best_of_page(page, row, rank, limit)
    return Candidates(page[best], row[best], score[best], np.full(len(best), source))


def own_products(requests: Requests, past: Past) -> OwnProducts:
    """Return each page's shopper's past products with decayed weights, sorted by page, row."""
    shoppers, position = np.unique(requests.shopper, return_inverse=True)
    owner, row, weight = past.purchases.weights(shoppers, past.day)
    starts = np.searchsorted(owner, np.arange(len(shoppers)))
    ends = np.searchsorted(owner, np.arange(len(shoppers)), side="right")
    page, member = expand_slices(starts[position], (ends - starts)[position])
    return page, row[member], weight[member]
