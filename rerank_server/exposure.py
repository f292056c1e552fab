"""Places for candidates under exposure floors and caps, with pinned candidates where they are.

Greedy, best candidate first: each free place takes the best candidate that no cap refuses, or,
where a floor could otherwise not be met any more, the best one that serves it (the deterministic
constrained ranking of Geyik, Ambler and Kenthapadi 2019, with floors served as late as possible).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rerank_server.contract.page import Flags, Rows
from rerank_server.policy_trace import TraceWriter

NO_GROUP = -1
_TAKEN = 1 << 20  # more than there can be caps


@dataclass(frozen=True, slots=True)
class Limit:
    """An exposure rule on one page.

    Attributes:
        rule: Its name.
        groups: Group of each candidate of the page, shape (candidates,); -1 is none.
        places: How many of the first places are meant.
        cap: The most of each group among them; None is no cap.
        floor: The fewest of group 0 among them; 0 is no floor.
    """

    rule: str
    groups: Rows
    places: int
    cap: int | None = None
    floor: int = 0


@dataclass(slots=True)
class _State:
    """What a limit has seen so far: candidates placed per group, and groups at their cap."""

    limit: Limit
    placed: dict[int, int] = field(default_factory=dict)
    full: set[int] = field(default_factory=set)

    def place(self, group: int) -> bool:
        """Count a candidate and return whether its group is now at the cap."""
        count = self.placed.get(group, 0) + 1
        self.placed[group] = count
        if self.limit.cap is not None and count >= self.limit.cap and group not in self.full:
            self.full.add(group)
            return True
        return False

    @property
    def missing(self) -> int:
        """How many candidates the floor still wants."""
        return max(0, self.limit.floor - self.placed.get(0, 0))


def place_candidates(
    queue: Rows,
    sunk: Rows,
    pinned: Mapping[int, int],
    limits: Sequence[Limit],
    trace: TraceWriter | None = None,
) -> Rows:
    """Return the candidates in their places; without limits the queue fills the free places.

    Args:
        queue: Candidates, best first.
        sunk: Candidates for the end of the page, best first; no limit moves them.
        pinned: Candidate by place, from 0; every place exists.
        limits: In the order of the policy.
        trace: Takes what the limits did.
    """
    order = np.full(len(queue) + len(sunk) + len(pinned), -1, np.int32)
    for place, candidate in pinned.items():
        order[place] = candidate
    free = np.flatnonzero(order < 0)
    order[free] = np.concatenate([queue, sunk])
    places = free[: len(queue)].astype(np.int32)
    if len(queue) == 0 or not limits:
        return order
    end = int(places[-1]) + 1
    bounded = [limit if limit.places <= end else replace(limit, places=end) for limit in limits]
    if any(_shortfall(limit, order) for limit in bounded):
        reachable = [_reachable(limit, queue, pinned) for limit in bounded]
        order[places] = _Placement(queue, places, pinned, reachable, trace).fill()
    if trace is not None:
        for limit in bounded:
            trace.fell_short(limit.rule, _shortfall(limit, order))
    return order


class _Placement:
    """Fills the free places of one page."""

    def __init__(
        self,
        queue: Rows,
        places: Rows,
        pinned: Mapping[int, int],
        limits: Sequence[Limit],
        trace: TraceWriter | None,
    ) -> None:
        self._queue = queue
        self._places = places
        self._trace = trace
        # how many caps refuse each, _TAKEN more where it has its place: 0 is free to choose
        self._refused = np.zeros(queue.shape[0], np.int32)
        self._groups = np.stack([limit.groups[queue] for limit in limits])  # (limits, queue)
        self._states = [_State(limit) for limit in limits]
        # how many free places each limit has
        self._reach = np.searchsorted(places, [limit.places for limit in limits]).tolist()
        self._floors = [index for index, limit in enumerate(limits) if limit.floor]
        candidates = np.fromiter(pinned.values(), np.intp, len(pinned))
        for index, state in enumerate(self._states):
            if state.limit.cap == 0:
                state.full = set(self._groups[index].tolist()) - {NO_GROUP}
                self._refused += self._groups[index] != NO_GROUP
            groups = state.limit.groups[candidates].tolist()
            for place, group in zip(pinned, groups, strict=True):
                if group != NO_GROUP and place < state.limit.places:
                    self._count(index, group)

    def fill(self) -> Rows:
        """Return the queue in the order of its places."""
        last = max(state.limit.places for state in self._states)
        filled: list[int] = []
        for number, place in enumerate(self._places.tolist()):
            if place >= last:
                break
            self._close_before(place)
            filled.append(self._choose(number, place))
        rest = np.flatnonzero(self._refused < _TAKEN)
        order: Rows = self._queue[np.concatenate([np.array(filled, np.intp), rest])]
        return order

    def _choose(self, number: int, place: int) -> int:
        chosen = int(np.argmin(self._refused))
        if self._refused[chosen]:  # every candidate left is at a cap: the page has no others
            chosen = int(np.argmax(self._refused < _TAKEN))
        urgent = self._urgent(number, place)
        if urgent is not None:
            serving = np.flatnonzero(urgent & (self._refused == 0))
            chosen = int(serving[0]) if serving.shape[0] else chosen
        if self._trace is not None:
            self._note(self._trace, chosen, place)
        self._refused[chosen] += _TAKEN
        for index, group in enumerate(self._groups[:, chosen].tolist()):
            if group != NO_GROUP and place < self._states[index].limit.places:
                self._count(index, group)
        return chosen

    def _urgent(self, number: int, place: int) -> Flags | None:
        """Return the candidates that serve floors for which every place left is needed."""
        open_floors = [
            (self._states[index].limit.places, self._states[index].missing, index)
            for index in self._floors
            if place < self._states[index].limit.places and self._states[index].missing
        ]
        wanted = 0
        indexes: list[int] = []
        for _, missing, index in sorted(open_floors):
            wanted += missing
            indexes.append(index)
            if wanted >= self._reach[index] - number:
                serving: Flags = np.logical_or.reduce([self._groups[i] == 0 for i in indexes])
                return serving
        return None

    def _close_before(self, place: int) -> None:
        """Lift the caps of limits whose places are all filled."""
        for index, state in enumerate(self._states):
            if state.limit.places <= place and state.full:
                for group in state.full:
                    self._refused -= self._groups[index] == group
                state.full.clear()

    def _count(self, index: int, group: int) -> None:
        if self._states[index].place(group):
            self._refused += self._groups[index] == group

    def _note(self, trace: TraceWriter, chosen: int, place: int) -> None:
        """Trace the caps that refused better candidates, and the floors that preferred this."""
        better = np.flatnonzero(self._refused[:chosen] < _TAKEN)
        if better.shape[0] == 0:
            return
        for index, state in enumerate(self._states):
            if place >= state.limit.places:
                continue
            groups = self._groups[index]
            held = better[np.isin(groups[better], list(state.full))]
            trace.acted(state.limit.rule, self._queue[held].tolist())
            if state.missing and groups[chosen] == 0 and (self._refused[better] == 0).any():
                trace.acted(state.limit.rule, [int(self._queue[chosen])])


def _reachable(limit: Limit, queue: Rows, pinned: Mapping[int, int]) -> Limit:
    """Return the limit with a floor that the page can serve."""
    if limit.floor == 0:
        return limit
    inside = [candidate for place, candidate in pinned.items() if place < limit.places]
    members = np.count_nonzero(limit.groups[queue] == 0) + np.count_nonzero(
        limit.groups[np.array(inside, np.intp)] == 0
    )
    return replace(limit, floor=min(limit.floor, int(members), limit.places))


def _shortfall(limit: Limit, order: Rows) -> int:
    """Return by how many candidates the first places miss the floor or exceed the caps."""
    counts = Counter(limit.groups[order[: limit.places]].tolist())
    short = max(0, limit.floor - counts[0])
    if limit.cap is not None:
        del counts[NO_GROUP]
        short += sum(count - limit.cap for count in counts.values() if count > limit.cap)
    return short
