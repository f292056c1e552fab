"""Who is served next: a bounded queue in front of the workers, fair between callers."""

from __future__ import annotations

import asyncio
import enum
import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

# What a page costs beside its candidates, in candidates: its share of wire, lookup and encoding.
PAGE_COST = 100
# What is left of the longest time that callers gave, page after page: half after 7,000.
_FORGETTING = 0.9999
# Weight of the newest page in the running mean of the time that a page takes.
_NEWEST = 0.05
# A page may join the queue when this many times what it expects to take is left: what others
# still send, and the answers to them, slow it down.
_SLACK = 1.4
# After a refusal the server counts as pressed for this long, while enough pages wait.
_PRESSED_S = 0.2
# Pages that have to wait for it, for each that may be reranked at the same time.
_ENOUGH_WAITING = 2
# Then the queue is kept shorter, so that what is served is fresh.
_PRESSED_SLACK = 2.5
# Above this many callers, those without a claim left are forgotten.
_REMEMBERED_CALLERS = 1_024


class Refusal(enum.Enum):
    """Why a page is not let in."""

    LATE = "late"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be under way.

    Attributes:
        pages: Pages reranked at the same time.
        candidates: Their candidates in all; a page that is larger goes alone.
        queued_candidates: Candidates of the pages that wait.
    """

    pages: int
    candidates: int
    queued_candidates: int


@dataclass(eq=False, slots=True)
class _Waiting:
    """A page in the queue."""

    candidates: int
    caller: str
    deadline: float
    start: float  # virtual time
    future: asyncio.Future[Refusal | None]


@dataclass(slots=True)
class _Caller:
    """A caller's claim.

    Attributes:
        finish: The virtual time up to which it has claimed service.
        queued: Candidates waiting, and their pages' cost.
        pages: The pages waiting, oldest first.
    """

    finish: float = 0.0
    queued: int = 0
    pages: deque[_Waiting] = field(default_factory=deque)


class Admission:
    """Lets pages in by candidates in flight; used by one event loop only.

    An idle server lets every page in at once. Past the limits pages wait, in the order of
    start-time fair queueing (Goyal, Vin and Cheng 1996) over callers: each caller gets the same
    share of candidates however many it sends. A page is refused as soon as it is clear that it
    cannot be answered before its deadline, and never begun when it no longer can be. When the
    queue is full, the newest page of the caller with the longest queue makes room.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        """Start empty.

        Args:
            limits: What may be under way.
            now: The clock of the deadlines, in seconds.
        """
        self._limits = limits
        self._now = now
        self._pages = 0
        self._candidates = 0
        self._queued = 0
        self._waiting = 0
        self._virtual = 0.0
        self._callers: dict[str, _Caller] = {}
        self._heap: list[tuple[float, int, _Waiting]] = []
        self._sequence = count()
        self._seconds_per_cost = 0.0
        self._seconds_per_page = 0.0
        self._allowed_s = 0.0
        self._deviation = 0.0
        self._learned = 0
        self._pressed_until = -math.inf

    @property
    def pressed(self) -> bool:
        """Whether pages were refused just now and more wait than the workers take next."""
        enough = self._waiting >= _ENOUGH_WAITING * self._limits.pages
        return enough and self._now() < self._pressed_until

    def drain_s(self, pages: int) -> float:
        """Return the seconds in which `pages` pages like the recent ones are served."""
        return pages * self._seconds_per_page / self._limits.pages

    @property
    def allowed_s(self) -> float:
        """The most seconds that a recent page had until its deadline when it was looked at.

        Of those that lay unread before, less is left: the most is nearest to what callers give.
        """
        return self._allowed_s

    @property
    def queued_candidates(self) -> int:
        """Candidates of the pages that wait."""
        return self._queued

    @property
    def candidates_in_flight(self) -> int:
        """Candidates of the pages that are being reranked."""
        return self._candidates

    def is_hopeless(self, candidates: int, left_s: float | None) -> bool:
        """Say whether a page that has `left_s` for all cannot be answered in time; while pressed.

        Looks at no caller and counts nothing: for turning pages away before they are read.
        """
        if left_s is None or not self._pages or self._now() >= self._pressed_until:
            return False
        hopeless = _PRESSED_SLACK * self.expected_s(candidates) > left_s
        if hopeless:
            self._press()
        return hopeless

    async def enter(self, candidates: int, caller: str, deadline: float) -> Refusal | None:
        """Wait for a place; the caller of an admitted page owes one `leave`.

        Args:
            candidates: Of the page.
            caller: Whose share it counts against.
            deadline: By the clock of `now`.

        Returns:
            None when it may start, otherwise why not.
        """
        self._allowed_s = max(deadline - self._now(), _FORGETTING * self._allowed_s)
        if not self._queued and self._has_room(candidates):
            if self._pages and self._now() + self.expected_s(candidates) > deadline:
                return Refusal.LATE
            self._begin(candidates)
            return None
        refusal = self._refuse_at_once(candidates, caller, deadline)
        if refusal is not None:
            self._press()
            return refusal
        waiting = self._append(candidates, caller, deadline)
        try:
            async with asyncio.timeout(deadline - self._now()):
                return await asyncio.shield(waiting.future)
        except TimeoutError:
            self._press()
            return self._give_up(waiting)
        except asyncio.CancelledError:
            if self._give_up(waiting) is None:
                self.leave(candidates)
            raise

    def leave(self, candidates: int, took_s: float | None = None) -> None:
        """Give a place back and let the next pages in.

        Args:
            candidates: As at `enter`.
            took_s: Seconds since the page was let in; None when it was not reranked.
        """
        self._pages -= 1
        self._candidates -= candidates
        if took_s is not None:
            self._learn(took_s, candidates + PAGE_COST)
        self._let_in()

    def expected_s(self, candidates: int) -> float:
        """Return the time in which a page let in is nearly surely done; 0 before the first.

        Mean + 2 * mean deviation of the time per cost, as TCP expects its answers
        (Jacobson 1988).
        """
        seconds = self._seconds_per_cost + 2 * self._deviation
        return seconds * (candidates + PAGE_COST)

    def _press(self) -> None:
        self._pressed_until = self._now() + _PRESSED_S

    def _learn(self, took_s: float, cost: int) -> None:
        self._learned += 1
        weight = max(1 / self._learned, _NEWEST)  # a plain mean at first
        self._seconds_per_page += weight * (took_s - self._seconds_per_page)
        error = took_s / cost - self._seconds_per_cost
        self._seconds_per_cost += weight * error
        if self._learned > 1:
            self._deviation += weight * (abs(error) - self._deviation)

    def _refuse_at_once(self, candidates: int, caller: str, deadline: float) -> Refusal | None:
        wait = self._ahead(candidates, caller) * self._seconds_per_cost / self._limits.pages
        now = self._now()
        slack = _PRESSED_SLACK if now < self._pressed_until else _SLACK
        if slack * (wait + self.expected_s(candidates)) > deadline - now:
            return Refusal.LATE
        while self._queued and self._queued + candidates > self._limits.queued_candidates:
            longest = max(self._callers.values(), key=lambda one: one.queued)
            own = self._callers.get(caller)
            if own is longest or (own and own.queued + candidates >= longest.queued):
                return Refusal.FULL
            self._drop(longest.pages[-1], Refusal.FULL)
        return None

    def _ahead(self, candidates: int, caller: str) -> float:
        """Return the cost of the pages that fairness puts before the next one of `caller`."""
        own = self._callers.get(caller)
        claim = candidates + (own.queued if own else 0)
        ahead = sum(
            min(one.queued + PAGE_COST * len(one.pages), claim + PAGE_COST)
            for one in self._callers.values()
            if one is not own
        )
        return ahead + (own.queued + PAGE_COST * len(own.pages) if own else 0)

    def _append(self, candidates: int, caller: str, deadline: float) -> _Waiting:
        if len(self._callers) > _REMEMBERED_CALLERS:
            self._forget_idle_callers()
        claim = self._callers.setdefault(caller, _Caller())
        start = max(self._virtual, claim.finish)
        future: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(candidates, caller, deadline, start, future)
        claim.finish = start + candidates + PAGE_COST
        claim.queued += candidates
        claim.pages.append(waiting)
        self._queued += candidates
        self._waiting += 1
        heapq.heappush(self._heap, (start, next(self._sequence), waiting))
        return waiting

    def _let_in(self) -> None:
        while self._heap:
            start, _, waiting = self._heap[0]
            if waiting.future.done():
                heapq.heappop(self._heap)
                continue
            if self._now() + self.expected_s(waiting.candidates) > waiting.deadline and self._pages:
                # an idle server tries all the same: the expectation may be out of date
                self._press()
                self._drop(waiting, Refusal.LATE)
                continue
            if not self._has_room(waiting.candidates):
                return
            self._virtual = max(self._virtual, start)
            self._begin(waiting.candidates)
            self._drop(waiting, None)
        if not self._queued:  # nobody competes, so nothing is owed
            self._callers.clear()
            self._virtual = 0.0

    def _has_room(self, candidates: int) -> bool:
        if self._pages >= self._limits.pages:
            return False
        return self._pages == 0 or self._candidates + candidates <= self._limits.candidates

    def _begin(self, candidates: int) -> None:
        self._pages += 1
        self._candidates += candidates

    def _drop(self, waiting: _Waiting, answer: Refusal | None) -> None:
        """Take a page out of the queue and answer it."""
        claim = self._callers[waiting.caller]
        if claim.pages[-1] is waiting and answer is not None:
            claim.finish = waiting.start  # what was not served is not counted
        claim.pages.remove(waiting)
        claim.queued -= waiting.candidates
        self._queued -= waiting.candidates
        self._waiting -= 1
        waiting.future.set_result(answer)

    def _give_up(self, waiting: _Waiting) -> Refusal | None:
        if waiting.future.done():
            return waiting.future.result()
        self._drop(waiting, Refusal.LATE)
        self._let_in()
        return Refusal.LATE

    def _forget_idle_callers(self) -> None:
        self._callers = {
            name: claim
            for name, claim in self._callers.items()
            if claim.pages or claim.finish > self._virtual
        }
