"""What would bring a product to the top of a page: the smallest change of what a shop can change.

Counterfactual explanations (Wachter, Mittelstadt and Russell 2018) over actionable features alone
(Ustun, Spangher and Liu 2019). Every candidate change is judged by scoring the whole page anew:
one action over a grid, then bisection between the last value that falls short and the first that
suffices; where no single action suffices, two, greedily: the one that lifts the product furthest
at its best, and a second one searched beside it, after which the first is given back as far as
it goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rerank_server.contract.errors import nearest
from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.page import Floats
from rerank_server.contract.schema import Normaliser, Schema
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.pageset import Doubles
from trainer.explanations.pages import ExplanationError, LoggedPage, Score

PRICE = "price"
_GRID = 25
_BISECTIONS = 8
_CHEAPEST_PRICE = 0.01
_SEEN_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a shop can change about a product, and how far.

    Attributes:
        feature: The raw feature; `price` moves the features that are made of it along.
        low: Least value.
        high: Largest value.
        relative: Whether `low` and `high` are factors on the product's own value.
        whole: Whether only whole numbers make sense, such as 0 and 1.
    """

    feature: str
    low: float
    high: float
    relative: bool = False
    whole: bool = False

    def values(self, current: float) -> Doubles:
        """Return the values to try, those nearest to `current` first; none without a bound.

        Args:
            current: The product's value; NaN when it has none, which a relative action needs.
        """
        low, high = self._bounds(current)
        if np.isnan(low) or np.isnan(high):
            return np.empty(0)
        grid = np.arange(np.ceil(low), np.floor(high) + 1) if self.whole else None
        grid = np.linspace(low, high, _GRID) if grid is None else grid
        start = current if np.isfinite(current) else low
        grid = grid[grid != start]
        order = np.argsort(np.abs(grid - start), kind="stable")
        return np.asarray(grid[order], np.float64)

    def cost(self, current: float, value: float) -> float:
        """Return the change as a share of the action's whole range; 0 is none, 1 all of it."""
        low, high = self._bounds(current)
        start = current if np.isfinite(current) else low
        return float(abs(value - start) / max(high - low, np.finfo(np.float64).tiny))

    def _bounds(self, current: float) -> tuple[float, float]:
        factor = current if self.relative else 1.0
        return min(self.low * factor, self.high * factor), max(
            self.low * factor, self.high * factor
        )


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What brings a product to the first places, or how far the bounds allow.

    Attributes:
        rank_before: The product's place as the page is, from 0.
        wanted: It is to be among so many first places.
        changes: Feature -> value before and after; empty when it stands there already, or when
            nothing within the bounds brings it there.
        rank_after: Its place with `changes`, or the best place that was reached.
        cost: Sum over the changes of the share of the action's range.
        found: Whether `rank_after` is among the places wanted.
        scored: Pages scored in the search.
    """

    rank_before: int
    wanted: int
    changes: dict[str, tuple[float, float]]
    rank_after: int
    cost: float
    found: bool
    scored: int


def default_actions(log: EncodedLog) -> tuple[Action, ...]:
    """Return what a shop can change at once: up to half off the price, and its own signals.

    A signal goes from the least to the largest value that the log has seen, in whole numbers
    where the log has no others. Signals that count sales cannot be set, and are left out.
    """
    names = log.schema.feature_names
    actions = [Action(PRICE, 0.5, 1.0, relative=True)] if PRICE in names else []
    for signal in log.schema.signals:
        if signal.window_days or signal.name not in names:
            continue
        step = max(log.dense.shape[0] // _SEEN_ROWS, 1)
        seen = np.asarray(log.dense[::step, names.index(signal.name)])
        seen = seen[np.isfinite(seen)]
        if seen.size and seen.min() < seen.max():
            whole = bool((seen == np.round(seen)).all())
            actions.append(Action(signal.name, float(seen.min()), float(seen.max()), whole=whole))
    return tuple(actions)


def parse_action(text: str, schema: Schema) -> Action:
    """Read `feature=low:high`; with an `x` behind both, they are factors on the product's value.

    `price=0.5x:1x` is up to half off, `promotion_display=0:1` on display or not. Bounds that are
    written without a point, as in the second, stand for whole numbers.

    Raises:
        ExplanationError: When it is not of this form, or the feature is unknown.
    """
    name, _, bounds = text.partition("=")
    low, colon, high = bounds.partition(":")
    if name not in schema.feature_names:
        raise ExplanationError(
            f"action: got {name!r}, want one of {', '.join(schema.feature_names)}"
            f"{nearest(name, schema.feature_names)}"
        )
    relative = low.endswith("x") and high.endswith("x")
    try:
        least, most = (float(part.removesuffix("x") if relative else part) for part in (low, high))
    except ValueError:
        least, most = 1.0, 0.0
    if not colon or not -np.inf < least < most < np.inf:
        raise ExplanationError(
            f"action {name}: got {bounds!r}, want low:high or lowx:highx, low below high"
        )
    whole = not relative and "." not in bounds and "e" not in bounds.lower()
    return Action(name, least, most, relative, whole)


class PageChanges:
    """One product of one page, scored under changes of its features; the search's work."""

    def __init__(self, page: LoggedPage, candidate: int, schema: Schema, score: Score) -> None:
        self._page, self._candidate, self._score = page, candidate, score
        self._names = schema.feature_names
        self._normalise = Normaliser(schema)
        self.scored = 0

    def current(self, feature: str) -> float:
        """Return the product's raw value of a feature."""
        return float(self._page.dense[self._candidate, self._names.index(feature)])

    def rank(self, changes: Mapping[str, float]) -> int:
        """Return the product's place, from 0, with these changes, from a call of their own."""
        return int(self.ranks([changes])[0])

    def ranks(self, several: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Return the product's place under each set of changes, shape (sets,)."""
        return self._ranks(self._scores(several))

    def best(self, several: Sequence[Mapping[str, float]]) -> tuple[int, int]:
        """Return which set of changes lifts the product most, and its place.

        Of equal places, the one that is nearest to the candidate before it.
        """
        scores = self._scores(several)
        ranks = self._ranks(scores)
        own = scores[:, self._candidate]
        ahead = [
            np.sort(row)[::-1][max(rank - 1, 0)] for row, rank in zip(scores, ranks, strict=True)
        ]
        lag = np.where(ranks > 0, np.array(ahead) - own, 0.0)
        at = int(np.lexsort((lag, ranks))[0])
        return at, int(ranks[at])

    def _ranks(self, scores: Doubles) -> np.ndarray:
        own = scores[:, self._candidate, None]
        before = np.arange(scores.shape[1]) < self._candidate
        above = (scores > own) | ((scores == own) & before)  # ties keep retrieval order
        ranks: np.ndarray = above.sum(axis=1)
        return ranks

    def _scores(self, several: Sequence[Mapping[str, float]]) -> Doubles:
        self.scored += len(several)
        return np.array(self._score([self._changed(changes) for changes in several]))

    def _changed(self, changes: Mapping[str, float]) -> ScorerPage:
        dense = changed_features(self._page.dense, self._candidate, changes, self._names)
        return replace(self._page.scored, dense=self._normalise(dense))


def changed_features(
    dense: Floats, candidate: int, changes: Mapping[str, float], names: tuple[str, ...]
) -> Floats:
    """Return raw features of a page, shape (candidates, features), with one product changed.

    With `price` its ratio to the prices of its leaf goes along, and every candidate's ratio to
    the middle price of the page is computed anew, as the encoder does it.
    """
    changed = np.array(dense, np.float32)
    for name, value in changes.items():
        column = names.index(name)
        if name == PRICE:
            before = max(float(dense[candidate, column]), _CHEAPEST_PRICE)
            moved = np.log(max(value, _CHEAPEST_PRICE) / before)
            if "price_leaf_ratio" in names:
                changed[candidate, names.index("price_leaf_ratio")] += moved
        changed[candidate, column] = value
    if PRICE in changes and "price_page_ratio" in names:
        logs = np.log(np.maximum(changed[:, names.index(PRICE)].astype(np.float64), 0.01))
        finite = np.isfinite(logs)
        if finite.any():
            changed[:, names.index("price_page_ratio")] = logs - np.median(logs[finite])
    return changed


def find_counterfactual(
    page: LoggedPage,
    candidate: int,
    top: int,
    actions: Sequence[Action],
    schema: Schema,
    score: Score,
) -> Counterfactual:
    """Search the smallest change that brings a product among the first `top` of its page.

    Args:
        page: Of the log.
        candidate: The product's index on the page.
        top: Places wanted, at least 1 and fewer than the page has candidates.
        actions: What may be changed.
        schema: Names and scales of the features.
        score: Scores pages.

    Raises:
        ExplanationError: When `top` or `candidate` is not on the page, or there is no action.
    """
    size = page.scored.size
    if not 1 <= top < size:
        raise ExplanationError(f"top: got {top}, want 1 to {size - 1}, of {size} candidates")
    if not 0 <= candidate < size:
        raise ExplanationError(f"candidate: got {candidate}, want 0 to {size - 1}")
    if not actions:
        raise ExplanationError("actions: got none, want at least one feature that may be changed")
    work = PageChanges(page, candidate, schema, score)
    before = work.rank({})
    if before < top:
        return Counterfactual(before, top, {}, before, 0.0, found=True, scored=work.scored)
    singles = [_smallest(work, action, {}, top) for action in actions]
    reached = [
        each for each in singles if each is not None and work.rank(each) < top
    ]  # verified by a page of its own
    held, best_rank = _furthest(work, actions, before)
    if not reached and held:
        reached = _pairs(work, actions, held, top)
    if not reached:
        pair, rank = _furthest_pair(work, actions, held)
        best_rank = min(best_rank, rank if pair else best_rank)
        return Counterfactual(before, top, {}, best_rank, 0.0, found=False, scored=work.scored)
    by_feature = {action.feature: action for action in actions}

    def cost(changes: Mapping[str, float]) -> float:
        return sum(
            by_feature[name].cost(work.current(name), value) for name, value in changes.items()
        )

    chosen = min(reached, key=cost)
    return Counterfactual(
        rank_before=before,
        wanted=top,
        changes={name: (work.current(name), value) for name, value in chosen.items()},
        rank_after=work.rank(chosen),
        cost=cost(chosen),
        found=True,
        scored=work.scored,
    )


def _smallest(
    work: PageChanges, action: Action, held: Mapping[str, float], top: int
) -> dict[str, float] | None:
    """Return `held` with the smallest change of one action that suffices; None when none does."""
    values = action.values(work.current(action.feature))
    if not values.size:
        return None
    tried = [{**held, action.feature: float(value)} for value in values]
    enough = np.flatnonzero(work.ranks(tried) < top)
    if not enough.size:
        return None
    first = int(enough[0])
    far = float(values[first])
    if action.whole:
        return tried[first]
    current = work.current(action.feature)
    near = current if np.isfinite(current) else far
    same_side = [value for value in values[:first] if (value - near) * (far - near) > 0]
    near = float(same_side[-1]) if same_side else near
    for _ in range(_BISECTIONS):
        middle = (near + far) / 2
        if work.rank({**held, action.feature: middle}) < top:
            far = middle
        else:
            near = middle
    return {**held, action.feature: far}


def _furthest(
    work: PageChanges, actions: Sequence[Action], before: int
) -> tuple[dict[str, float], int]:
    """Return the one change that lifts the product most, and its place; none when none does."""
    tried = [
        {action.feature: float(value)}
        for action in actions
        for value in action.values(work.current(action.feature))
    ]
    if not tried:
        return {}, before
    at, rank = work.best(tried)
    return tried[at], min(rank, before)


def _furthest_pair(
    work: PageChanges, actions: Sequence[Action], held: Mapping[str, float]
) -> tuple[dict[str, float], int]:
    """Return the second change that lifts the product most beside `held`, and its place."""
    tried = [
        {**held, action.feature: float(value)}
        for action in actions
        if action.feature not in held
        for value in action.values(work.current(action.feature))
    ]
    if not tried or not held:
        return {}, 0
    at, rank = work.best(tried)
    return tried[at], rank


def _pairs(
    work: PageChanges, actions: Sequence[Action], held: Mapping[str, float], top: int
) -> list[dict[str, float]]:
    """Return pairs of changes that suffice, the first one given back as far as it goes."""
    found: list[dict[str, float]] = []
    first = next(action for action in actions if action.feature in held)
    for action in actions:
        if action.feature in held:
            continue
        pair = _smallest(work, action, held, top)
        if pair is None:
            continue
        second = {action.feature: pair[action.feature]}
        given_back = _smallest(work, first, second, top)
        found += [each for each in (pair, given_back) if each is not None and work.rank(each) < top]
    return found
