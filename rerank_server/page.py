"""A page by product ids, as a caller knows it, and the page that comes back."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rerank_server.contract.errors import PageError
from rerank_server.contract.page import Floats, Rows, Times
from rerank_server.policy_trace import PolicyTrace

MAX_CANDIDATES = 1_000
MAX_EVENTS = 4_096
MAX_ID_BYTES = 256
MAX_NAME_BYTES = 256
MAX_QUERY_BYTES = 1_024
# Unix seconds stay below this until the year 5138; milliseconds have been above it since 1973.
_TIME_LIMIT = 100_000_000_000


@dataclass(frozen=True, slots=True)
class ShopperHistory:
    """The shopper's past events as columns, in any order.

    Attributes:
        product_ids: The product of each event, at most 4,096.
        times: Unix seconds, shape (events,).
        kinds: What was done, for example "purchase"; empty means all are purchases.
        places: Where; an empty text is unknown, no texts mean that no place is known.
        discounted: Whether bought at a discount; empty means that none was.
    """

    product_ids: Sequence[str] = ()
    times: Times | Sequence[int] = field(default_factory=lambda: np.empty(0, np.int64))
    kinds: Sequence[str] = ()
    places: Sequence[str] = ()
    discounted: Sequence[bool] = ()

    def __post_init__(self) -> None:
        """Check the rules of `rerank.proto`.

        Raises:
            PageError: When one is broken.
        """
        times = np.asarray(self.times, np.int64)
        object.__setattr__(self, "times", times)
        size = len(self.product_ids)
        if size > MAX_EVENTS:
            raise PageError(f"history: got {size} events, want at most {MAX_EVENTS}, the newest")
        _check_size("history.times", len(times), size, optional=False)
        _check_size("history.kinds", len(self.kinds), size, optional=True)
        _check_size("history.places", len(self.places), size, optional=True)
        _check_size("history.discounted", len(self.discounted), size, optional=True)
        _check_ids("history.product_ids", self.product_ids)
        wrong = times[(times < 0) | (times >= _TIME_LIMIT)]
        if wrong.shape[0]:
            raise PageError(f"history.times: got {wrong[0]}, want Unix seconds (not milliseconds)")
        for place in set(self.places):
            _check_text("history.places", place, MAX_NAME_BYTES)


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One search's candidates in retrieval order, by product id.

    Attributes:
        candidate_ids: 1 to 1,000 different product ids, best first.
        retrieval_scores: First-pass scores, shape (candidates,); NaN or no scores at all when
            absent.
        signals: Numbers per candidate by name, each shape (candidates,); NaN when absent.
        query: What the shopper typed; empty for a recommendation slot.
        surface: Where the page is shown.
        time: Unix seconds; None or 0 means now.
        place: Store or market of the page.
        shopper_id: Who sees it; in no log and no `repr`.
        history: The shopper's past events.
        category: Category of candidates that the product store does not hold.
        objective_weights: Replaces the bundle's weights when not empty.
        explain: Whether to say which feature groups moved each candidate.
        top_k: How many candidates to return; None means all.
        policy_trace: Whether to say which rules of the policy moved what.
        texts: What each candidate is in words, one per candidate or none at all; read for
            candidates that the product store does not hold, an empty text says nothing.
    """

    candidate_ids: Sequence[str]
    retrieval_scores: Floats | Sequence[float] = ()
    signals: Mapping[str, Floats] = field(default_factory=dict)
    query: str = ""
    surface: str = ""
    time: int | None = None
    place: str | None = None
    shopper_id: str | None = field(default=None, repr=False)
    history: ShopperHistory = field(default_factory=ShopperHistory)
    category: str | None = None
    objective_weights: Mapping[str, float] = field(default_factory=dict)
    explain: bool = False
    top_k: int | None = None
    texts: Sequence[str] = ()
    policy_trace: bool = False

    def __post_init__(self) -> None:
        """Check the rules of `rerank.proto`.

        Raises:
            PageError: When one is broken.
        """
        size = len(self.candidate_ids)
        if not 1 <= size <= MAX_CANDIDATES:
            raise PageError(f"candidates: got {size}, want 1 to {MAX_CANDIDATES}")
        _check_ids("candidate_ids", self.candidate_ids)
        _check_distinct(self.candidate_ids)
        object.__setattr__(
            self, "retrieval_scores", _column("retrieval_scores", self.retrieval_scores, size)
        )
        columns = {}
        for name, values in self.signals.items():
            _check_text("signals.name", name, MAX_NAME_BYTES)
            _check_size(f"signal {name!r}", len(values), size, optional=False)
            columns[name] = _column(f"signal {name!r}", values, size)
        object.__setattr__(self, "signals", columns)
        _check_text("query", self.query, MAX_QUERY_BYTES)
        _check_size("texts", len(self.texts), size, optional=True)
        for name in ("surface", "place", "shopper_id", "category"):
            _check_text(name, getattr(self, name) or "", MAX_NAME_BYTES)
        if self.time is not None and not 0 <= self.time < _TIME_LIMIT:
            raise PageError(f"time: got {self.time}, want Unix seconds (not milliseconds)")
        if self.top_k is not None and not 1 <= self.top_k <= MAX_CANDIDATES:
            raise PageError(f"top_k: got {self.top_k}, want 1 to {MAX_CANDIDATES}")
        for objective, weight in self.objective_weights.items():
            if not math.isfinite(weight):
                raise PageError(
                    f"objective_weights[{objective!r}]: got {weight}, want a finite number"
                )

    @property
    def size(self) -> int:
        """The number of candidates."""
        return len(self.candidate_ids)


class DegradedReason(enum.Enum):
    """Why a page came back in retrieval order."""

    DEADLINE = "deadline"
    SCORER_FAILED = "scorer_failed"
    SCORES_NOT_FINITE = "scores_not_finite"
    OVERLOADED = "overloaded"


@dataclass(frozen=True, slots=True)
class Timings:
    """Microseconds spent in each stage of one page; 0 for a stage that was not reached."""

    lookup_us: int = 0
    query_us: int = 0
    encode_us: int = 0
    score_us: int = 0
    policy_us: int = 0


@dataclass(frozen=True, slots=True)
class RankedPage:
    """The page as it should be shown.

    Attributes:
        candidate_ids: Best first; equal scores keep retrieval order.
        retrieval_ranks: Where each stood, from 0.
        bundle_id: The bundle that answered.
        scores: Not increasing unless a policy moved candidates, shape (returned,); empty when
            degraded.
        objectives: What the columns of `probabilities` are of.
        probabilities: Shape (returned, objectives); no rows when degraded.
        explanations: Score minus the score without a feature group, shape (returned,), by
            group; empty unless asked for.
        degraded_reason: Why this is the retrieval order; None when it is not.
        degraded_detail: The same in words.
        timings: Where the time went.
        policy_trace: Which rule moved what; None unless asked for.
        unknown_candidates: How many candidates the product store does not hold; 0 when degraded.
    """

    candidate_ids: Sequence[str]
    retrieval_ranks: Rows
    bundle_id: str
    scores: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    objectives: tuple[str, ...] = ()
    probabilities: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))
    explanations: Mapping[str, Floats] = field(default_factory=dict)
    degraded_reason: DegradedReason | None = None
    degraded_detail: str = ""
    timings: Timings = field(default_factory=Timings)
    policy_trace: PolicyTrace | None = None
    unknown_candidates: int = 0

    @property
    def degraded(self) -> bool:
        """Whether this is the retrieval order because the page could not be scored."""
        return self.degraded_reason is not None


def retrieval_order(
    page: SearchPage, bundle_id: str, reason: DegradedReason, detail: str, timings: Timings
) -> RankedPage:
    """Return `page` as it came, cut to `top_k`, marked degraded."""
    count = min(page.top_k or page.size, page.size)
    return RankedPage(
        candidate_ids=list(page.candidate_ids[:count]),
        retrieval_ranks=np.arange(count, dtype=np.int32),
        bundle_id=bundle_id,
        degraded_reason=reason,
        degraded_detail=detail,
        timings=timings,
    )


def _column(what: str, values: Floats | Sequence[float], size: int) -> Floats:
    """Return float32 values, NaN where absent."""
    _check_size(what, len(values), size, optional=True)
    if len(values) == 0:
        return np.full(size, np.nan, np.float32)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, refused below
        column = np.asarray(values).astype(np.float32)
    if np.isinf(column).any():
        at = int(np.flatnonzero(np.isinf(column))[0])
        raise PageError(f"{what}[{at}]: got {column[at]}, want a finite number or NaN")
    return column


def _check_size(what: str, got: int, size: int, *, optional: bool) -> None:
    if got == size or (optional and got == 0):
        return
    want = f"{size} or none" if optional else f"{size}"
    raise PageError(f"{what}: got {got} values, want {want}")


def _check_ids(what: str, ids: Sequence[str]) -> None:
    if not ids:
        return
    if min(map(len, ids)) > 0 and max(map(len, ids)) <= MAX_ID_BYTES // 4:
        return  # a character is at most 4 bytes
    for index, product_id in enumerate(ids):
        size = _byte_size(product_id)
        if not 1 <= size <= MAX_ID_BYTES:
            raise PageError(f"{what}[{index}]: got {size} bytes, want 1 to {MAX_ID_BYTES}")


def _check_distinct(ids: Sequence[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    for index, product_id in enumerate(ids):
        if product_id in first:
            raise PageError(
                f"candidate_ids: got {product_id!r} at {first[product_id]} and at {index},"
                " want each candidate once"
            )
        first[product_id] = index


def _check_text(what: str, text: str, limit: int) -> None:
    if len(text) > limit // 4 and (size := _byte_size(text)) > limit:
        raise PageError(f"{what}: got {size} bytes, want at most {limit}")


def _byte_size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
