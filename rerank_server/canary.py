"""Which shoppers see the challenger, and how its order compares with the current bundle's."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from rerank_server.contract.page import Rows
from rerank_server.page import RankedPage

# Newest pages whose latencies are kept.
_KEPT_LATENCIES = 1_000
_STEPS = 10_000  # a hundredth of a percent


class Outcome(Enum):
    """What became of a page that the challenger was to rerank."""

    RANKED = "ranked"
    DEGRADED = "degraded"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class ChallengerFigures:
    """What was seen of a challenger.

    Attributes:
        canary_pages: Pages it answered.
        canary_degraded: Those of them that it answered in retrieval order.
        shadow_pages: Pages it reranked beside the current bundle.
        shadow_degraded: Pages where it had no scores.
        shadow_skipped: Pages left out because the one before was still being reranked.
        rank_agreement: Mean over shadow pages of Spearman's rank correlation of the two orders,
            -1 to 1; NaN before the first page of two candidates.
        same_first_share: Share of shadow pages where both put the same candidate first; NaN
            before the first page.
        current_us: Microseconds of the current bundle on the shadow pages, (p50, p99).
        challenger_us: Microseconds of the challenger on them, (p50, p99).
    """

    canary_pages: int
    canary_degraded: int
    shadow_pages: int
    shadow_degraded: int
    shadow_skipped: int
    rank_agreement: float
    same_first_share: float
    current_us: tuple[int, int]
    challenger_us: tuple[int, int]


def in_canary(shopper_id: str | None, percent: float, salt: str) -> bool:
    """Say whether a shopper is among `percent` of the shoppers.

    The same shopper gets the same answer for one `salt` on every server, and stays in when
    `percent` grows. An unknown shopper is never in.
    """
    if not shopper_id or percent <= 0:
        return False
    digest = hashlib.blake2b(
        f"{salt}\0{shopper_id}".encode(errors="surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "big") % _STEPS < percent * _STEPS / 100


def rank_agreement(ranks: Rows, other_ranks: Rows) -> float:
    """Return Spearman's rank correlation of two orders of one page.

    1 - 6 * sum(d^2) / (n * (n^2 - 1)), d the difference of a candidate's two positions, over the
    n candidates that stand in both orders.

    Args:
        ranks: Retrieval rank of each candidate returned, best first, none twice.
        other_ranks: The same by the other order.

    Returns:
        In [-1, 1]; NaN for fewer than two candidates, where there is no order.
    """
    both = np.intersect1d(ranks, other_ranks, assume_unique=True)
    size = both.shape[0]
    if size < 2:  # noqa: PLR2004 - two make an order
        return float("nan")
    difference = _positions(ranks, both) - _positions(other_ranks, both)
    return float(1 - 6 * (difference**2).sum() / (size * (size * size - 1)))


class ChallengerReport:
    """Collects what is seen of a challenger; may be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._canary = dict.fromkeys(Outcome, 0)
        self._shadow = dict.fromkeys(Outcome, 0)
        self._agreements = [0.0, 0]  # sum, pages
        self._same_first = [0, 0]
        self._current_us: deque[int] = deque(maxlen=_KEPT_LATENCIES)
        self._challenger_us: deque[int] = deque(maxlen=_KEPT_LATENCIES)

    def count_canary(self, ranked: RankedPage) -> None:
        """Count a page that the challenger answered."""
        with self._lock:
            self._canary[Outcome.DEGRADED if ranked.degraded else Outcome.RANKED] += 1

    def count_shadow_skipped(self) -> None:
        """Count a page that was left out."""
        with self._lock:
            self._shadow[Outcome.SKIPPED] += 1

    def count_shadow_failed(self) -> None:
        """Count a page that the challenger could not rerank."""
        with self._lock:
            self._shadow[Outcome.DEGRADED] += 1

    def compare(self, current: RankedPage, challenger: RankedPage) -> None:
        """Compare two orders of one page, neither of them degraded nor empty."""
        agreement = rank_agreement(current.retrieval_ranks, challenger.retrieval_ranks)
        with self._lock:
            self._shadow[Outcome.RANKED] += 1
            if np.isfinite(agreement):
                self._agreements[0] += agreement
                self._agreements[1] += 1
            self._same_first[0] += current.candidate_ids[0] == challenger.candidate_ids[0]
            self._same_first[1] += 1
            self._current_us.append(_reranking_us(current))
            self._challenger_us.append(_reranking_us(challenger))

    def figures(self) -> ChallengerFigures:
        """Return what was seen so far."""
        with self._lock:
            return ChallengerFigures(
                canary_pages=self._canary[Outcome.RANKED] + self._canary[Outcome.DEGRADED],
                canary_degraded=self._canary[Outcome.DEGRADED],
                shadow_pages=self._shadow[Outcome.RANKED],
                shadow_degraded=self._shadow[Outcome.DEGRADED],
                shadow_skipped=self._shadow[Outcome.SKIPPED],
                rank_agreement=_mean(*self._agreements),
                same_first_share=_mean(*self._same_first),
                current_us=_percentiles(self._current_us),
                challenger_us=_percentiles(self._challenger_us),
            )


def _reranking_us(ranked: RankedPage) -> int:
    timings = ranked.timings
    return (
        timings.lookup_us
        + timings.query_us
        + timings.encode_us
        + timings.score_us
        + timings.policy_us
    )


def _positions(ranks: Rows, both: Rows) -> npt.NDArray[np.int64]:
    """Return where each of `both`, ascending, stands among those of them in `ranks`."""
    order = np.searchsorted(both, ranks[np.isin(ranks, both)])
    positions = np.empty(both.shape[0], np.int64)
    positions[order] = np.arange(both.shape[0])
    return positions


def _mean(total: float, size: float) -> float:
    return total / size if size else float("nan")


def _percentiles(values: deque[int]) -> tuple[int, int]:
    if not values:
        return 0, 0
    middle, high = np.percentile(np.array(values), (50, 99))
    return round(middle), round(high)
