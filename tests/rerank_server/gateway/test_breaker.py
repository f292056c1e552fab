from __future__ import annotations

from rerank_server.gateway.breaker import FAILURES, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        assert breaker.lets_through()
        breaker.count(failed=True)
    return breaker, clock


def test_it_opens_after_five_failures_in_a_row():
    breaker, _ = opened()
    assert breaker.is_open
    assert not breaker.lets_through()


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(Clock())
    for _ in range(3 * FAILURES):
        breaker.count(failed=True)
        breaker.count(failed=False)
    assert breaker.lets_through()


def test_one_call_tries_after_the_pause():
    breaker, clock = opened()
    clock.now += 0.5
    assert breaker.lets_through()
    assert not breaker.lets_through()
    breaker.count(failed=False)
    assert not breaker.is_open
    assert breaker.lets_through()


def test_pauses_grow_to_five_seconds():
    breaker, clock = opened()
    for pause in (1.0, 2.0, 4.0, 5.0, 5.0):
        clock.now += 10.0
        assert breaker.lets_through()
        breaker.count(failed=True)
        clock.now += pause - 0.01
        assert not breaker.lets_through()
        clock.now += 0.01


def test_a_try_that_never_ends_is_followed_by_another():
    breaker, clock = opened()
    clock.now += 0.5
    assert breaker.lets_through()
    clock.now += 0.5
    assert breaker.lets_through()
