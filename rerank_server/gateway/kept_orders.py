"""The order of a search for a while, so that its further pages continue the first one.

Between two pages the shopper clicks, the server gets a new bundle or fails: ranked anew, the second
page would repeat hits of the first and leave others out.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from rerank_server.gateway.candidates import Candidates
from rerank_server.gateway.errors import RankingError
from rerank_server.gateway.ranking import Ranking

MOST_CANDIDATES = 200_000


@dataclass(frozen=True, slots=True)
class KeptOrder:
    """What a first page was shown as.

    Attributes:
        candidate_ids: What was ranked.
        ranking: In which order; None when it could not be ranked.
        problem: Why not.
    """

    candidate_ids: frozenset[str]
    ranking: Ranking | None
    problem: RankingError | None


class KeptOrders:
    """Keeps orders for `keep_s` seconds, of at most 200,000 candidates, newest first."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep nothing yet; `keep_s` of 0 never keeps anything."""
        self._keep_s = keep_s
        self._clock = clock
        self._size = 0
        self._orders: OrderedDict[bytes, tuple[float, KeptOrder]] = OrderedDict()

    def keep(
        self,
        fingerprint: bytes,
        candidates: Candidates,
        ranking: Ranking | None,
        problem: RankingError | None,
    ) -> None:
        """Keep the order of a search in place of an older one."""
        if not self._keep_s:
            return
        self._forget(fingerprint)
        order = KeptOrder(frozenset(candidates.ids), ranking, problem)
        self._orders[fingerprint] = (self._clock() + self._keep_s, order)
        self._size += len(order.candidate_ids)
        while self._size > MOST_CANDIDATES:
            self._forget(next(iter(self._orders)))

    def find(self, fingerprint: bytes, candidates: Candidates) -> KeptOrder | None:
        """Return the order of a search, if it is still of these candidates."""
        until, order = self._orders.get(fingerprint, (0.0, None))
        if order is None or until <= self._clock():
            return None
        return order if order.candidate_ids == frozenset(candidates.ids) else None

    def _forget(self, fingerprint: bytes) -> None:
        kept = self._orders.pop(fingerprint, None)
        if kept is not None:
            self._size -= len(kept[1].candidate_ids)
