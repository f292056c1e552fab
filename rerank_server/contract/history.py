"""What the shopper's past says of each candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerank_server.contract.keyed import KeyMatch
from rerank_server.contract.page import SECONDS_PER_DAY, Flags, Page, Rows, Times
from rerank_server.contract.products import ProductTable

LONG_HALF_LIFE_DAYS = 60.0
SHORT_HALF_LIFE_DAYS = 14.0


@dataclass(frozen=True, slots=True)
class HistoryView:
    """The newest events of a page's history, with their ages.

    Attributes:
        rows: Product rows, oldest first, shape (events,).
        days: Integer days of the events, shape (events,).
        ages_days: Days before the page, >= 0, not increasing, shape (events,).
        same_place: Whether each happened at the page's place.
        discounted: Whether each was bought at a discount.
    """

    rows: Rows
    days: Times
    ages_days: np.ndarray
    same_place: Flags
    discounted: Flags

    @property
    def baskets(self) -> int:
        """The number of different times."""
        ages = self.ages_days  # not increasing
        return int(np.count_nonzero(ages[1:] != ages[:-1]) + (ages.shape[0] > 0))

    def match(self, candidate_rows: Rows, unknown_row: int) -> KeyMatch:
        """Match events with the candidates of the same product."""
        # rows start at 0 and key 0 matches nothing, hence the shift
        keys = np.where(self.rows == unknown_row, -1, self.rows.astype(np.int64) + 1)
        return KeyMatch(keys, candidate_rows.astype(np.int64) + 1)

    def within_days(self, day: int, window: int) -> Flags:
        """Mark the events of the `window` whole days before `day`."""
        return (self.days >= day - window) & (self.days < day)

    def distinct(self, unknown_row: int) -> tuple[Rows, np.ndarray]:
        """Return the distinct known products and the age in days of the latest event of each."""
        rows, first = np.unique(self.rows[::-1], return_index=True)
        ages = self.ages_days[::-1][first]
        known = rows != unknown_row
        return rows[known], ages[known]


def view_history(page: Page, limit: int) -> HistoryView:
    """Return the newest `limit` events of a page's history."""
    history = page.history
    start = max(history.size - limit, 0)
    times = history.times[start:]
    return HistoryView(
        rows=history.rows[start:],
        days=times // SECONDS_PER_DAY,
        ages_days=(page.time - times) / SECONDS_PER_DAY,
        same_place=history.same_place[start:],
        discounted=history.discounted[start:],
    )


def history_features(
    page: Page, products: ProductTable, history: HistoryView, own: KeyMatch
) -> dict[str, np.ndarray]:
    """Return the shopper's own features of each candidate; `own` is `history.match` of them."""
    long_weight = 0.5 ** (history.ages_days / LONG_HALF_LIFE_DAYS)
    decayed = own.total(long_weight)
    columns = _own_product_features(history, own, decayed)
    columns |= _affinity_features(page, products, history, long_weight, decayed)
    columns |= _shopper_features(page, history)
    return columns


def _own_product_features(
    history: HistoryView, own: KeyMatch, decayed: np.ndarray
) -> dict[str, np.ndarray]:
    count = own.count()
    since = own.latest(history.ages_days)
    first = own.earliest(history.ages_days)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(count > 1, (first - since) / (count - 1), np.nan)
        gap_ratio = since / np.maximum(gap, 0.5)
        discounted = own.total(history.discounted.astype(np.float64)) / count
    baskets = history.baskets
    page_total = decayed.sum()
    best = decayed.max(initial=0.0)
    return {
        "own_count": count,
        "own_decayed_60d": decayed,
        "own_decayed_14d": own.total(0.5 ** (history.ages_days / SHORT_HALF_LIFE_DAYS)),
        "own_days_since": since,
        "own_gap_days": gap,
        "own_gap_ratio": gap_ratio,
        "own_discounted_share": discounted,
        "own_same_place": own.total(history.same_place.astype(np.float64)),
        "own_basket_share": count / max(baskets, 1),
        "own_page_share": decayed / page_total if page_total > 0 else decayed,
        "own_page_gap": best - decayed,
    }


def _affinity_features(
    page: Page,
    products: ProductTable,
    history: HistoryView,
    long_weight: np.ndarray,
    own: np.ndarray,
) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    leaf_of_events = products.levels[history.rows, 0].astype(np.int64)
    leaf_of_candidates = products.levels[page.rows, 0].astype(np.int64)
    for level, name in enumerate(("leaf", "middle")):
        keys = products.levels[:, level]
        match = KeyMatch(keys[history.rows], keys[page.rows])
        columns[f"{name}_decayed_60d"] = match.total(long_weight)
        columns[f"{name}_days_since"] = match.latest(history.ages_days)
    match = KeyMatch(products.categories[history.rows], products.categories[page.rows])
    columns["category_decayed_60d"] = match.total(long_weight)
    for attribute, name in enumerate(("brand", "size")):
        of_events = products.attributes[history.rows, attribute].astype(np.int64)
        of_candidates = products.attributes[page.rows, attribute].astype(np.int64)
        columns[f"{name}_decayed_60d"] = KeyMatch(of_events, of_candidates).total(long_weight)
        # one key from two: a brand within a leaf; an attribute of 0 is none and matches nothing
        joined_events = np.where(of_events > 0, (leaf_of_events << 32) + of_events, -1)
        joined_candidates = np.where(
            of_candidates > 0, (leaf_of_candidates << 32) + of_candidates, 0
        )
        joined = KeyMatch(joined_events, joined_candidates)
        columns[f"{name}_in_leaf_decayed_60d"] = joined.total(long_weight)
    leaf_total = columns["leaf_decayed_60d"]
    with np.errstate(invalid="ignore", divide="ignore"):
        columns["own_leaf_share"] = np.where(leaf_total > 0, own / leaf_total, 0.0)
        columns["brand_leaf_share"] = np.where(
            leaf_total > 0, columns["brand_in_leaf_decayed_60d"] / leaf_total, 0.0
        )
    return columns


def _shopper_features(page: Page, history: HistoryView) -> dict[str, np.ndarray]:
    count = history.rows.shape[0]
    discounted = float(history.discounted.mean()) if count else np.nan
    values = {
        "shopper_events": float(count),
        "shopper_baskets": float(history.baskets),
        "shopper_days_since": float(history.ages_days[-1]) if count else np.nan,
        "shopper_discounted_share": discounted,
    }
    return {name: np.full(page.size, value) for name, value in values.items()}
