"""Lets pages of concurrent requests share one scorer call where that is faster."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from rerank_server.contract.features import SEQUENCE_FEATURES
from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.contract.page import Floats
from rerank_server.cores import available_cores
from rerank_server.reranker import Reranker
from rerank_server.scorer import Scorer, ScorerError

# Candidates of one call, padding included; more only lengthens the wait of those behind it.
BATCH_CANDIDATES = 2_000
# A call's fixed cost is measured between pages of these sizes.
_FEW, _MANY = 8, 136
_MAX_CALL_COST = 1_000.0


class BatchingScorer:
    """Scores pages of several threads together; an idle one scores at once.

    The first page goes alone. Pages that arrive while calls run wait for the first of them to
    end and then share the next, so the wait is at most one call and grows only with the load.
    A page joins a call when the padding it causes costs less than the call that it saves.
    """

    def __init__(self, scorer: Scorer, *, call_cost: float, calls: int = 1) -> None:
        """Stand in front of `scorer`.

        Args:
            scorer: Scores several pages in one call.
            call_cost: What one more call costs, in candidates (see `measure_call_cost`).
            calls: Calls at the same time, >= 1.
        """
        self._scorer = scorer
        self._call_cost = call_cost
        self._free_calls = calls
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._scorer.provider

    @property
    def threads(self) -> int:
        """Threads of one call."""
        return self._scorer.threads

    def score(self, pages: Sequence[ScorerPage]) -> list[Floats]:
        """Return probabilities, shape (candidates, objectives), for each page.

        Pages given together stay together in one call of their own.

        Raises:
            ScorerError: When these pages cannot be scored; a neighbour's failure is not theirs.
        """
        entry = _Entry(pages)
        with self._lock:
            waits = self._free_calls == 0
            if waits:
                self._waiting.append(entry)
            else:
                self._free_calls -= 1
                entry.batch = [entry]
        if waits:
            entry.woken.wait()
        if entry.batch:  # otherwise another thread scored it
            self._run(entry.batch)
        return entry.take()

    def _run(self, batch: list[_Entry]) -> None:
        """Score `batch`, hand the call on, and wake the threads of the batch."""
        try:
            _score_together(self._scorer, batch)
        finally:
            with self._lock:
                following = next_batch(self._waiting, self._call_cost)
                if not following:
                    self._free_calls += 1
            if following:
                following[0].batch = following
                following[0].woken.set()
            for entry in batch[1:]:
                entry.woken.set()


def share_calls(reranker: Reranker) -> None:
    """Let the threads that use `reranker` share its scorer's calls.

    As many calls run at the same time as the cores allow.

    Raises:
        ScorerError: When the scorer fails.
    """
    scorer, bundle = reranker.scorer, reranker.bundle
    widths, schema = bundle.manifest.widths, bundle.schema
    page = ScorerPage(
        query_vector=np.zeros(widths.query, np.float32),
        surface=0,
        candidate_vectors=np.zeros((_MANY, widths.product), np.float32),
        categories=np.zeros(_MANY, np.int32),
        dense=np.zeros((_MANY, len(schema.features)), np.float32),
        sequence_vectors=np.zeros((schema.sequence_length, widths.product), np.float32),
        sequence_features=np.zeros((schema.sequence_length, len(SEQUENCE_FEATURES)), np.float32),
    )
    reranker.scorer = BatchingScorer(
        scorer,
        call_cost=measure_call_cost(scorer, page),
        calls=max(1, available_cores() // scorer.threads),
    )


def measure_call_cost(scorer: Scorer, page: ScorerPage) -> float:
    """Return what a call of `scorer` costs beside its candidates, in candidates, 0 to 1,000.

    The time of a call is taken as fixed + per candidate * candidates, from pages of two sizes
    made of `page`, the best of five each.

    Raises:
        ScorerError: When the scorer fails.
    """
    few, many = (_best_time(scorer, _resize(page, size)) for size in (_FEW, _MANY))
    per_candidate = (many - few) / (_MANY - _FEW)
    if per_candidate <= 0:
        return _MAX_CALL_COST
    return min(max(few / per_candidate - _FEW, 0.0), _MAX_CALL_COST)


@dataclass(eq=False, slots=True)
class _Entry:
    """The pages of one thread, and where it gets their probabilities.

    Attributes:
        pages: What to score.
        woken: Set when `batch` is to be run by this thread, or the pages are scored.
        batch: What this thread has to run, itself first; empty when another thread does.
        probabilities: The result.
        error: Why there is none.
    """

    pages: Sequence[ScorerPage]
    woken: threading.Event = field(default_factory=threading.Event)
    batch: list[_Entry] = field(default_factory=list)
    probabilities: list[Floats] | None = None
    error: Exception | None = None

    @property
    def size(self) -> int:
        """Candidates of its largest page."""
        return max(page.size for page in self.pages)

    def take(self) -> list[Floats]:
        """Return the probabilities or raise what went wrong."""
        self.batch = []  # it holds itself
        if self.error is not None:
            raise self.error
        if self.probabilities is None:
            raise ScorerError("scorer: got an interrupted call, want probabilities")
        return self.probabilities


def next_batch(waiting: list[_Entry], call_cost: float) -> list[_Entry]:
    """Take the next call's entries out of `waiting`: the oldest, and those that fit it best.

    With `count` pages of at most `longest` candidates in the call, a page joins while
    padded(with it) - padded(without it) <= its size + call_cost.
    """
    if not waiting:
        return []
    batch = [waiting[0]]
    longest = waiting[0].size
    if len(waiting[0].pages) == 1:
        others = [entry for entry in waiting[1:] if len(entry.pages) == 1]
        others.sort(key=lambda entry: abs(entry.size - longest))  # stable: older first
        for entry in others:
            count, size = len(batch), entry.size
            padded = max(longest, size) * (count + 1)
            if padded > BATCH_CANDIDATES:
                continue
            if padded - longest * count <= size + call_cost:
                batch.append(entry)
                longest = max(longest, size)
    taken = set(map(id, batch))
    waiting[:] = [entry for entry in waiting if id(entry) not in taken]
    return batch


def _score_together(scorer: Scorer, batch: list[_Entry]) -> None:
    if len(batch) > 1:
        try:
            results = scorer.score([entry.pages[0] for entry in batch])
        except Exception:  # noqa: BLE001 - one page fails them all: find out which, below
            results = []
        if len(results) == len(batch):
            for entry, probabilities in zip(batch, results, strict=True):
                entry.probabilities = [probabilities]
            return
    for entry in batch:
        try:
            entry.probabilities = scorer.score(entry.pages)
        except Exception as error:  # noqa: BLE001 - raised in the thread it belongs to
            entry.error = error


def _best_time(scorer: Scorer, page: ScorerPage) -> float:
    times = []
    for _ in range(6):  # the first warms up
        start = perf_counter()
        scorer.score([page])
        times.append(perf_counter() - start)
    return min(times[1:])


def _resize(page: ScorerPage, size: int) -> ScorerPage:
    rows = np.arange(size) % page.size
    return replace(
        page,
        candidate_vectors=page.candidate_vectors[rows],
        categories=page.categories[rows],
        dense=page.dense[rows],
    )
