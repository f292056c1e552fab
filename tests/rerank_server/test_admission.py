"""Who is let in, who waits, and who is told at once that it would be too late."""

from __future__ import annotations

import asyncio

import pytest

from rerank_server.admission import PAGE_COST, Admission, Limits, Refusal

FAR = 1e9


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admission(pages: int = 1, candidates: int = 1_000, queued: int = 10_000) -> Admission:
    return Admission(Limits(pages, candidates, queued), Clock())


async def started(tasks) -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert all(task.get_coro().cr_frame is not None or task.done() for task in tasks)


def enter(gate: Admission, candidates: int, caller: str = "a", deadline: float = FAR):
    return asyncio.ensure_future(gate.enter(candidates, caller, deadline))


async def test_an_idle_server_lets_every_page_in():
    gate = admission(pages=2)
    assert await gate.enter(900, "a", FAR) is None
    assert await gate.enter(100, "b", FAR) is None
    assert gate.candidates_in_flight == 1_000
    gate.leave(900, 0.1)
    gate.leave(100, 0.1)
    assert gate.candidates_in_flight == 0


async def test_a_page_waits_for_candidates_in_flight_and_not_only_for_pages():
    gate = admission(pages=4, candidates=1_000)
    assert await gate.enter(900, "a", FAR) is None
    second = enter(gate, 200)
    await started([second])
    assert not second.done()
    assert gate.queued_candidates == 200
    gate.leave(900, 0.1)
    assert await second is None
    assert gate.queued_candidates == 0


async def test_a_page_over_the_limit_goes_alone():
    gate = admission(pages=4, candidates=500)
    assert await gate.enter(1_000, "a", FAR) is None
    second = enter(gate, 1)
    await started([second])
    assert not second.done()
    gate.leave(1_000, 0.1)
    assert await second is None


async def test_callers_take_turns_however_many_pages_each_sends():
    gate = admission()
    await gate.enter(100, "first", FAR)
    order: list[str] = []

    async def one(caller: str) -> None:
        assert await gate.enter(100, caller, FAR) is None
        order.append(caller)
        await asyncio.sleep(0)
        gate.leave(100)

    tasks = [asyncio.ensure_future(one("flood")) for _ in range(20)]
    await started(tasks)
    tasks += [asyncio.ensure_future(one("light")) for _ in range(3)]
    await started(tasks)
    gate.leave(100)
    await asyncio.gather(*tasks)
    assert order.count("flood") == 20
    # alternating from the start: the light caller is through after 6 or 7 pages
    assert [index for index, caller in enumerate(order) if caller == "light"][-1] <= 6


async def test_shares_are_of_candidates_not_of_pages():
    gate = admission()
    await gate.enter(1, "first", FAR)
    order: list[str] = []

    async def one(caller: str, candidates: int) -> None:
        assert await gate.enter(candidates, caller, FAR) is None
        order.append(caller)
        await asyncio.sleep(0)
        gate.leave(candidates)

    tasks = [asyncio.ensure_future(one("large", 900)) for _ in range(5)]
    tasks += [asyncio.ensure_future(one("small", 100)) for _ in range(20)]
    await started(tasks)
    gate.leave(1)
    await asyncio.gather(*tasks)
    # a large page costs 900 + 100, a small one 100 + 100: five small ones to one large one
    assert PAGE_COST == 100
    assert order[:12].count("large") == 2


async def test_a_full_queue_refuses_the_caller_that_filled_it():
    gate = admission(queued=1_000)
    await gate.enter(100, "first", FAR)
    flood = [enter(gate, 100, "flood") for _ in range(10)]
    await started(flood)
    assert await gate.enter(100, "flood", FAR) is Refusal.FULL
    light = enter(gate, 100, "light")
    await started([light])
    # the newest page of the flood made room
    assert await flood[-1] is Refusal.FULL
    assert [task.done() for task in flood] == [False] * 9 + [True]
    assert gate.queued_candidates == 1_000
    for task in (*flood, light):
        task.cancel()
    await asyncio.gather(*flood, light, return_exceptions=True)


async def test_a_page_whose_deadline_cannot_be_met_is_refused_at_once():
    gate = admission()
    await gate.enter(100, "a", FAR)
    gate.leave(100, took_s=1.0)  # 200 units of cost in 1 s
    await gate.enter(100, "a", FAR)
    waiting = enter(gate, 100, "a", deadline=2.5)
    await started([waiting])
    assert not waiting.done()
    # one page of 1 s is before it, and it takes 1 s itself
    assert await gate.enter(100, "a", 1.9) is Refusal.LATE
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_light_caller_is_not_refused_for_the_queue_of_another():
    gate = admission()
    await gate.enter(100, "a", FAR)
    gate.leave(100, took_s=1.0)
    await gate.enter(100, "flood", FAR)
    flood = [enter(gate, 100, "flood") for _ in range(10)]
    await started(flood)
    assert await gate.enter(100, "flood", 5.0) is Refusal.LATE
    light = enter(gate, 100, "light", deadline=5.0)
    await started([light])
    assert not light.done()
    gate.leave(100)
    gate.leave(100)
    assert await light is None
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_page_that_can_no_longer_be_in_time_is_never_begun():
    clock = Clock()
    gate = Admission(Limits(2, 10_000, 10_000), clock)
    await gate.enter(100, "a", FAR)
    gate.leave(100, took_s=1.0)
    await gate.enter(100, "a", FAR)
    await gate.enter(100, "a", FAR)
    short, long = enter(gate, 100, "a", deadline=2.0), enter(gate, 100, "b")
    await started([short, long])
    clock.now = 1.5
    gate.leave(100)
    assert await short is Refusal.LATE
    assert await long is None


async def test_an_idle_server_tries_whatever_it_expects():
    gate = admission()
    await gate.enter(100, "a", FAR)
    gate.leave(100, took_s=60.0)  # a machine that stood still, say
    assert await gate.enter(100, "a", 1.0) is None


async def test_a_page_is_refused_when_its_deadline_passes_in_the_queue():
    loop = asyncio.get_running_loop()
    gate = Admission(Limits(1, 1_000, 1_000), loop.time)
    await gate.enter(100, "a", FAR)
    assert await gate.enter(100, "a", loop.time() + 0.02) is Refusal.LATE
    assert gate.queued_candidates == 0


async def test_a_client_that_goes_away_leaves_no_trace():
    gate = admission()
    await gate.enter(100, "a", FAR)
    gone, stays = enter(gate, 100), enter(gate, 100)
    await started([gone, stays])
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert gate.queued_candidates == 100
    gate.leave(100)
    assert await stays is None
    gate.leave(100)
    assert gate.candidates_in_flight == 0


async def test_a_client_that_goes_away_as_it_is_let_in_gives_its_place_back():
    gate = admission()
    await gate.enter(100, "a", FAR)
    gone = enter(gate, 100)
    await started([gone])
    gate.leave(100)  # lets it in
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gate.candidates_in_flight == 0


async def test_thousands_of_callers_are_forgotten_when_served():
    gate = admission(queued=10**9)
    await gate.enter(1, "first", FAR)
    tasks = [enter(gate, 1, f"caller {number}") for number in range(3_000)]
    await started(tasks)
    gate.leave(1)
    for task in tasks:
        assert await task is None
        gate.leave(1)
    assert gate._callers == {}
    assert gate._heap == []


async def test_a_server_is_pressed_while_it_refuses_and_enough_pages_wait():
    clock = Clock()
    gate = Admission(Limits(1, 1_000, 10_000), clock)
    assert await gate.enter(100, "a", FAR) is None
    gate.leave(100, 0.1)  # a page of 100 takes 0.1 s
    assert gate.drain_s(5) == pytest.approx(0.5)
    assert await gate.enter(100, "a", FAR) is None
    waiting = [enter(gate, 100), enter(gate, 100)]
    await started(waiting)
    assert not gate.pressed  # nobody was refused
    assert await gate.enter(100, "a", deadline=0.2) is Refusal.LATE
    assert gate.pressed
    clock.now = 0.21  # a refusal counts for 0.2 s
    assert not gate.pressed
    clock.now = 0
    for page in waiting:
        page.cancel()
    await started(waiting)
    assert not gate.pressed  # nothing waits


async def test_a_page_is_hopeless_only_while_others_are_refused():
    clock = Clock()
    gate = Admission(Limits(1, 1_000, 10_000), clock)
    assert await gate.enter(100, "a", FAR) is None
    gate.leave(100, 0.1)
    assert await gate.enter(100, "a", FAR) is None
    assert not gate.is_hopeless(100, 0.2)
    assert await gate.enter(100, "a", deadline=0.12) is Refusal.LATE
    assert gate.is_hopeless(100, 0.2)  # 2.5 times 0.1 s is more than it has
    assert not gate.is_hopeless(100, 0.3)
    assert not gate.is_hopeless(100, None)
    gate.leave(100, None)
    assert not gate.is_hopeless(100, 0.2)  # an idle server tries


async def test_what_callers_give_is_the_most_that_a_recent_page_had_left():
    gate = Admission(Limits(1, 1_000, 10_000), lambda: 5.0)
    assert await gate.enter(10, "a", 5.2) is None
    gate.leave(10)
    assert gate.allowed_s == pytest.approx(0.2)
    assert await gate.enter(10, "a", 5.05) is None  # lay unread before
    assert gate.allowed_s == pytest.approx(0.2, rel=1e-3)
    for _ in range(20_000):
        gate.leave(10)
        assert await gate.enter(10, "a", 5.05) is None
    assert gate.allowed_s == pytest.approx(0.05)
