"""Pages that share scorer calls: each gets its own scores, whoever fails or arrives meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server import batcher
from rerank_server.batcher import (
    BATCH_CANDIDATES,
    BatchingScorer,
    measure_call_cost,
    next_batch,
    share_calls,
)
from rerank_server.contract.golden import golden_scorer_pages
from rerank_server.contract.graph_inputs import ScorerPage
from rerank_server.onnx_graph import open_graphs
from rerank_server.page import SearchPage
from rerank_server.scorer import OnnxScorer, ScorerError
from tests.rerank_server.scorers import with_scorer
from tests.rerank_server.tiny_bundle import NOW, SCHEMA


def page_of(number: int, size: int) -> ScorerPage:
    """A page whose scores are `number`, by `EchoScorer`."""
    return ScorerPage(
        query_vector=np.full(2, number, np.float32),
        surface=0,
        candidate_vectors=np.zeros((size, 2), np.float32),
        categories=np.zeros(size, np.int32),
        dense=np.zeros((size, 4), np.float32),
        sequence_vectors=np.zeros((0, 2), np.float32),
        sequence_features=np.zeros((0, 5), np.float32),
    )


class EchoScorer:
    """Gives each page its number and each candidate its position; remembers its calls."""

    provider = "CPUExecutionProvider"
    threads = 1

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[list[int]] = []
        self.running = self.most_running = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self._lock = threading.Lock()

    def score(self, pages):
        with self._lock:
            self.calls.append([int(page.query_vector[0]) for page in pages])
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        assert self.may_end.wait(10)
        time.sleep(self.seconds)
        with self._lock:
            self.running -= 1
        if any(page.query_vector[0] < 0 for page in pages):
            raise ScorerError("scorer: got a page below 0, want none")
        return [
            np.stack([np.full(page.size, page.query_vector[0]), np.arange(page.size)], axis=1)
            for page in pages
        ]


def assert_own_scores(number: int, size: int, scores) -> None:
    np.testing.assert_array_equal(scores[:, 0], np.full(size, number))
    np.testing.assert_array_equal(scores[:, 1], np.arange(size))


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_an_idle_scorer_scores_at_once_and_alone():
    scorer = EchoScorer()
    batching = BatchingScorer(scorer, call_cost=100)
    for number in range(3):
        assert_own_scores(number, 4, batching.score([page_of(number, 4)])[0])
    assert scorer.calls == [[0], [1], [2]]


def test_pages_that_arrive_during_a_call_share_the_next():
    scorer = EchoScorer()
    scorer.may_end.clear()
    batching = BatchingScorer(scorer, call_cost=100)
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(batching.score, [page_of(0, 9)])]
        wait_until(lambda: scorer.calls)
        futures += [
            pool.submit(batching.score, [page_of(number, 9 + number)]) for number in range(1, 5)
        ]
        wait_until(lambda: len(batching._waiting) == 4)
        scorer.may_end.set()
        for number, future in enumerate(futures):
            assert_own_scores(number, 9 + number if number else 9, future.result()[0])
    assert [len(call) for call in scorer.calls] == [1, 4]


def test_as_many_calls_run_at_once_as_allowed():
    scorer = EchoScorer(seconds=0.02)
    batching = BatchingScorer(scorer, call_cost=0, calls=2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: batching.score([page_of(number, number + 1)]), range(16)))
    assert scorer.most_running == 2


def test_a_page_that_fails_does_not_fail_its_neighbours():
    scorer = EchoScorer()
    scorer.may_end.clear()
    batching = BatchingScorer(scorer, call_cost=100)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batching.score, [page_of(1, 5)])
        wait_until(lambda: scorer.calls)
        good = [pool.submit(batching.score, [page_of(number, 5)]) for number in (2, 3)]
        bad = pool.submit(batching.score, [page_of(-1, 5)])
        wait_until(lambda: len(batching._waiting) == 3)
        scorer.may_end.set()
        assert_own_scores(1, 5, first.result()[0])
        for number, future in zip((2, 3), good, strict=True):
            assert_own_scores(number, 5, future.result()[0])
        with pytest.raises(ScorerError, match="got a page below 0"):
            bad.result()
    assert_own_scores(7, 5, batching.score([page_of(7, 5)])[0])  # the call was given back


def test_a_failure_alone_gives_the_call_back():
    batching = BatchingScorer(EchoScorer(), call_cost=100)
    for _ in range(3):
        with pytest.raises(ScorerError):
            batching.score([page_of(-1, 5)])
    assert_own_scores(7, 5, batching.score([page_of(7, 5)])[0])


def test_pages_given_together_stay_in_one_call():
    scorer = EchoScorer()
    got = BatchingScorer(scorer, call_cost=0).score([page_of(1, 3), page_of(2, 3)])
    assert_own_scores(1, 3, got[0])
    assert_own_scores(2, 3, got[1])
    assert scorer.calls == [[1, 2]]


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    call_cost=st.floats(0, 500),
    calls=st.integers(1, 3),
)
def test_no_answer_goes_to_another_page(sizes, call_cost, calls):
    scorer = EchoScorer()
    batching = BatchingScorer(scorer, call_cost=call_cost, calls=calls)

    def score(number: int) -> None:
        failing = number % 7 == 3
        page = page_of(-1 - number if failing else number, sizes[number])
        try:
            assert_own_scores(number, sizes[number], batching.score([page])[0])
        except ScorerError:
            assert failing
        else:
            assert not failing

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(score, range(len(sizes))))
    assert batching._waiting == []
    assert batching._free_calls == calls


def entries(*sizes: int) -> list[batcher._Entry]:
    return [batcher._Entry([page_of(number, size)]) for number, size in enumerate(sizes)]


def sizes_of(batch) -> list[int]:
    return [entry.size for entry in batch]


def test_pages_of_similar_length_go_together():
    waiting = entries(100, 1000, 90, 5, 110)
    # beside 100: 90 pads 10, 110 pads 10 each of two; 5 would pad 105, more than a call costs
    assert sizes_of(next_batch(waiting, call_cost=20)) == [100, 90, 110]
    assert sizes_of(waiting) == [1000, 5]
    assert sizes_of(next_batch(waiting, call_cost=20)) == [1000]
    assert sizes_of(next_batch(waiting, call_cost=20)) == [5]
    assert next_batch(waiting, call_cost=20) == []


def test_a_dear_call_is_shared_by_different_lengths():
    assert sizes_of(next_batch(entries(100, 10), call_cost=90)) == [100, 10]
    assert sizes_of(next_batch(entries(100, 10), call_cost=89)) == [100]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50), st.floats(0, 1000))
def test_a_call_holds_the_oldest_page_and_its_budget(sizes, call_cost):
    waiting = entries(*sizes)
    all_pages, taken = list(waiting), []
    while waiting:
        oldest = waiting[0]
        batch = next_batch(waiting, call_cost)
        assert batch[0] is oldest
        padded = max(sizes_of(batch)) * len(batch)
        assert len(batch) == 1 or padded <= BATCH_CANDIDATES
        # no dearer than one call each
        assert padded <= sum(sizes_of(batch)) + (len(batch) - 1) * call_cost + 1e-6
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, all_pages))


class TimedScorer(EchoScorer):
    """A call takes 4 ms and 20 us per candidate."""

    def score(self, pages):
        end = time.perf_counter() + 0.004 + 20e-6 * sum(page.size for page in pages)
        while time.perf_counter() < end:
            pass
        return super().score(pages)


def test_the_cost_of_a_call_is_measured_in_candidates():
    assert measure_call_cost(TimedScorer(), page_of(0, 10)) == pytest.approx(200, rel=0.25)


def test_padded_scores_are_those_of_the_page_alone(tiny_bundle):
    graphs = open_graphs(tiny_bundle, threads=1)
    long, short = golden_scorer_pages(tiny_bundle.golden, SCHEMA, tiny_bundle.text_encoder, graphs)
    scorer = OnnxScorer(graphs.scorer, provider="CPUExecutionProvider", threads=1)
    pages = [long, short, replace(long, dense=long.dense + 1), short]
    alone = [scorer.score([page])[0] for page in pages]
    for got, want in zip(scorer.score(pages), alone, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_reranker_shares_calls_and_gives_the_same_pages(tiny_reranker):
    graphs = open_graphs(tiny_reranker.bundle, threads=1)
    scorer = OnnxScorer(graphs.scorer, provider="CPUExecutionProvider", threads=1)
    sharing = with_scorer(tiny_reranker, scorer)
    share_calls(sharing)
    assert isinstance(sharing.scorer, BatchingScorer)
    assert (sharing.scorer.provider, sharing.scorer.threads) == ("CPUExecutionProvider", 1)
    pages = [
        SearchPage(
            [f"p{index}" for index in range(number % 9)] + ["milk-1", "dog-1", "milk-2"],
            query=f"milk {number % 5}",
            time=NOW,
            explain=number % 11 == 0,
        )
        for number in range(200)
    ]
    want = [tiny_reranker.rerank(page) for page in pages]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(sharing.rerank, pages))
    for one, other in zip(got, want, strict=True):
        assert one.candidate_ids == other.candidate_ids
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
        assert one.explanations.keys() == other.explanations.keys()
