"""The encoding as it was first written: what every faster version must equal bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_server.contract.features import EncodedPage
from rerank_server.contract.page import SECONDS_PER_DAY, Flags, Floats, Page, Rows, Times
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import CLIP, Schema

Doubles = npt.NDArray[np.float64]


class KeyMatch:
    """Which events share a key with which candidates; key 0 or below matches nothing."""

    def __init__(
        self, event_keys: npt.NDArray[np.integer], candidate_keys: npt.NDArray[np.integer]
    ) -> None:
        """Match `event_keys`, shape (events,), with `candidate_keys`, shape (candidates,)."""
        keys, self._inverse = np.unique(candidate_keys, return_inverse=True)
        position = np.minimum(np.searchsorted(keys, event_keys), keys.shape[0] - 1)
        self.matched = (keys[position] == event_keys) & (event_keys > 0)
        self._position = position[self.matched]
        self._size = keys.shape[0]

    def total(self, weights: Doubles) -> Doubles:
        """Sum `weights`, shape (events,), over the events of each candidate's key."""
        sums = np.bincount(self._position, weights[self.matched], minlength=self._size)
        return sums[self._inverse].astype(np.float64)

    def count(self) -> Doubles:
        """Count the events of each candidate's key."""
        return np.bincount(self._position, minlength=self._size)[self._inverse].astype(np.float64)

    def latest(self, times: Doubles) -> Doubles:
        """Return the latest of `times` (ascending) of each candidate's key; NaN without any."""
        latest = np.full(self._size, np.nan)
        latest[self._position] = times[self.matched]  # ascending: the last write wins
        return latest[self._inverse]

    def earliest(self, times: Doubles) -> Doubles:
        """Return the earliest of `times` (ascending) of each candidate's key; NaN without any."""
        earliest = np.full(self._size, np.nan)
        earliest[self._position[::-1]] = times[self.matched][::-1]
        return earliest[self._inverse]


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
    page: Page, products: ProductTable, history: HistoryView
) -> dict[str, np.ndarray]:
    """Return the shopper's own features of each candidate."""
    long_weight = 0.5 ** (history.ages_days / LONG_HALF_LIFE_DAYS)
    columns = _own_product_features(page, products, history, long_weight)
    columns |= _affinity_features(page, products, history, long_weight)
    columns |= _shopper_features(page, history)
    return columns


def _own_product_features(
    page: Page, products: ProductTable, history: HistoryView, long_weight: np.ndarray
) -> dict[str, np.ndarray]:
    own = history.match(page.rows, products.unknown_row)
    count = own.count()
    decayed = own.total(long_weight)
    since = own.latest(history.ages_days)
    first = own.earliest(history.ages_days)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(count > 1, (first - since) / (count - 1), np.nan)
        gap_ratio = since / np.maximum(gap, 0.5)
        discounted = own.total(history.discounted.astype(np.float64)) / count
    baskets = np.unique(history.ages_days).shape[0]
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
    page: Page, products: ProductTable, history: HistoryView, long_weight: np.ndarray
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
    own = history.match(page.rows, products.unknown_row).total(long_weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns["own_leaf_share"] = np.where(leaf_total > 0, own / leaf_total, 0.0)
        columns["brand_leaf_share"] = np.where(
            leaf_total > 0, columns["brand_in_leaf_decayed_60d"] / leaf_total, 0.0
        )
    return columns


def _shopper_features(page: Page, history: HistoryView) -> dict[str, np.ndarray]:
    count = history.rows.shape[0]
    ages = np.unique(history.ages_days)
    discounted = float(history.discounted.mean()) if count else np.nan
    values = {
        "shopper_events": float(count),
        "shopper_baskets": float(ages.shape[0]),
        "shopper_days_since": float(ages[0]) if count else np.nan,
        "shopper_discounted_share": discounted,
    }
    return {name: np.full(page.size, value) for name, value in values.items()}


class FeatureEncoder:
    """Encodes pages against a product table; holds scratch memory, so one per thread."""

    def __init__(self, schema: Schema, product_rows: int) -> None:
        """Prepare for tables of `product_rows` rows, the unknown row included."""
        self._schema = schema
        self._slots = np.full(product_rows, -1, np.int32)

    def encode(self, page: Page, products: ProductTable) -> EncodedPage:
        """Return the arrays of one page; deterministic, and in the order of the candidates."""
        history = view_history(page, self._schema.history_limit)
        columns = retrieval_features(page)
        columns |= product_features(page, products, history, self._schema)
        columns |= history_features(page, products, history)
        columns |= self._collaborative_features(page, products, history)
        dense = np.stack([columns[name] for name in self._schema.feature_names], axis=1)
        sequence = sequence_positions(page, products, history, self._schema.sequence_length)
        return EncodedPage(
            dense=dense.astype(np.float32),
            rows=page.rows,
            categories=products.categories[page.rows],
            sequence_rows=history.rows[sequence],
            sequence_features=sequence_features(page, products, history, sequence),
        )

    def _collaborative_features(
        self, page: Page, products: ProductTable, history: HistoryView
    ) -> dict[str, np.ndarray]:
        known = page.rows != products.unknown_row
        self._slots[page.rows[known]] = np.flatnonzero(known)
        past_rows, past_ages = history.distinct(products.unknown_row)
        weights = (0.5 ** (past_ages / self._schema.half_life_days)).astype(np.float32)
        own, other = knn_scores(page.rows, self._slots, past_rows, weights, products)
        self._slots[page.rows[known]] = -1
        als = als_scores(
            page.rows,
            past_rows,
            weights,
            products,
            regularisation=self._schema.als_regularisation,
            confidence=self._schema.als_confidence,
        )
        return {
            "knn_own_category": own,
            "knn_other_categories": other,
            "knn_all": own + other,
            "als": als,
        }


def retrieval_features(page: Page) -> dict[str, np.ndarray]:
    """Return what the first pass says of each candidate."""
    scores = page.retrieval_scores.astype(np.float64)
    best = np.nanmax(scores) if np.isfinite(scores).any() else np.nan
    return {
        "retrieval_score": scores,
        "retrieval_score_gap": best - scores,
        "retrieval_log_rank": np.log1p(np.arange(page.size)),
        "page_log_size": np.full(page.size, np.log1p(page.size)),
    }


def product_features(
    page: Page, products: ProductTable, history: HistoryView, schema: Schema
) -> dict[str, np.ndarray]:
    """Return product statistics and the caller's signals without the shopper's own purchases."""
    # what needs a column that this shop does not have is missing
    missing = np.full(page.size, np.nan)
    columns = dict.fromkeys(("sales_trend", "sales_page_share", "price_page_ratio"), missing)
    day = products.as_of_day
    stats = products.stats[page.rows]
    own = history.match(page.rows, products.unknown_row)
    for index, column in enumerate(schema.product_columns):
        values = stats[:, index].astype(np.float64)
        if column.window_days:
            inside = history.within_days(day, column.window_days)
            values = np.maximum(values - own.total(inside.astype(np.float64)), 0)
        columns[column.name] = values
    for index, signal in enumerate(schema.signals):
        values = page.signals[:, index].astype(np.float64)
        if signal.window_days:
            inside = history.within_days(page.day, signal.window_days) & history.same_place
            values = np.maximum(values - own.total(inside.astype(np.float64)), 0)
        columns[signal.name] = values
    if {"sales_28d", "sales_91d"} <= columns.keys():
        monthly, quarterly = columns["sales_28d"], columns["sales_91d"]
        columns["sales_trend"] = np.log((monthly + 1) / (quarterly * 28 / 91 + 1))
        total = np.nansum(monthly)
        columns["sales_page_share"] = monthly / total if total > 0 else np.zeros(page.size)
    if "price" in columns:
        price = np.log(np.maximum(columns["price"], 0.01))
        finite = np.isfinite(price)
        middle = np.median(price[finite]) if finite.any() else np.nan
        columns["price_page_ratio"] = price - middle
    return columns


def sequence_positions(
    page: Page, products: ProductTable, history: HistoryView, length: int
) -> np.ndarray:
    """Choose the events the sequence encoder sees, oldest first.

    Events of the page's categories come first, filled up with the most recent others: the
    hard search of SIM (Pi et al. 2020), so that a long past does not hide what matters here.
    """
    count = history.rows.shape[0]
    if count <= length:
        return np.arange(count)
    relevant = np.isin(products.categories[history.rows], np.unique(products.categories[page.rows]))
    recent_first = np.arange(count)[::-1]
    order = np.concatenate([recent_first[relevant[::-1]], recent_first[~relevant[::-1]]])
    return np.sort(order[:length])


def sequence_features(
    page: Page, products: ProductTable, history: HistoryView, positions: np.ndarray
) -> Floats:
    """Return what the sequence encoder knows of each event beside its product."""
    ages = history.ages_days[positions]
    same_basket = np.zeros(positions.shape[0])
    if positions.shape[0] > 1:
        same_basket[1:] = ages[1:] == ages[:-1]
    on_page = np.isin(
        products.categories[history.rows[positions]], np.unique(products.categories[page.rows])
    )
    return np.stack(
        [
            np.log1p(ages) / np.log1p(365.0),
            history.same_place[positions],
            history.discounted[positions],
            on_page,
            same_basket,
        ],
        axis=1,
    ).astype(np.float32)


def normalise(schema: Schema, dense: Floats) -> Floats:
    """Return what the network sees: transformed, standardised, clipped; missing becomes 0.

    Args:
        schema: Holds transform, mean and scale of each column.
        dense: Raw features, shape (..., features); NaN is missing.

    Returns:
        float32, the same shape, within [-5, 5]; 0 is the training mean.
    """
    is_log = np.array([spec.transform == "log1p" for spec in schema.features])
    mean = np.array([spec.mean for spec in schema.features], np.float32)
    scale = np.array([spec.scale for spec in schema.features], np.float32)
    with np.errstate(invalid="ignore"):
        values = np.where(is_log, np.log1p(np.maximum(dense, 0)), dense)
        values = np.clip((values - mean) / scale, -CLIP, CLIP)
    known: Floats = np.nan_to_num(values, nan=0.0).astype(np.float32)
    return known


def knn_scores(
    rows: Rows,
    slots: Rows,
    past_rows: Rows,
    past_weights: Floats,
    products: ProductTable,
) -> tuple[Floats, Floats]:
    """Sum the similarities of each candidate to the shopper's past products.

    score(c) = sum over past products h of weight(h) * similarity(h, c), the item-based
    neighbourhood model of Deshpande and Karypis (2004), split by whether h is of the
    candidate's own category.

    Args:
        rows: Product row of each candidate, shape (candidates,).
        slots: Position of each product among the candidates, -1 elsewhere, shape
            (products + 1,).
        past_rows: Distinct known products of the past, shape (past,).
        past_weights: Recency weight of each, shape (past,).
        products: Holds the neighbours.

    Returns:
        Scores from the candidate's own category and from all others, each shape (candidates,).
    """
    neighbours = products.neighbours[past_rows]  # (past, neighbours)
    # -1 pads the neighbours and reads the unknown row, whose slot is always -1
    position = slots[neighbours]
    past, column = np.nonzero(position >= 0)
    if past.shape[0] == 0:
        zeros = np.zeros(rows.shape[0], np.float32)
        return zeros, zeros
    candidate = position[past, column]
    weights = products.neighbour_weights[past_rows][past, column] * past_weights[past]
    same = products.categories[past_rows][past] == products.categories[rows][candidate]
    size = rows.shape[0]
    own = np.bincount(candidate[same], weights[same], minlength=size)
    other = np.bincount(candidate[~same], weights[~same], minlength=size)
    return own.astype(np.float32), other.astype(np.float32)


def als_scores(
    rows: Rows,
    past_rows: Rows,
    past_weights: Floats,
    products: ProductTable,
    *,
    regularisation: float,
    confidence: float,
) -> Floats:
    """Score candidates with ALS, the shopper's factor folded in from the past alone.

    x = (Y'Y + Y'(C - I)Y + lambda I)^-1 Y'C p with C - I = confidence * weight
    (Hu, Koren and Volinsky 2008, eq. 4).

    Returns:
        The dot products with the candidates' factors, shape (candidates,); zeros for a
        shopper without a past.
    """
    if past_rows.shape[0] == 0:
        return np.zeros(rows.shape[0], np.float32)
    factors = products.factors[past_rows].astype(np.float64)  # (past, width)
    extra = confidence * past_weights.astype(np.float64)
    left = products.gram + (factors * extra[:, None]).T @ factors
    left[np.diag_indices_from(left)] += regularisation
    shopper = np.linalg.solve(left, factors.T @ (1.0 + extra))
    return (products.factors[rows] @ shopper.astype(np.float32)).astype(np.float32)
