"""When the event loop lets calls lie, and for how long."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from rerank_server.admission import Admission, Limits, Refusal
from rerank_server.brake import Brake, BrakeInterceptor

RERANK = "/rerank.v1.RerankService/Rerank"
GIVEN_S = 0.2


class CountingBrake(Brake):
    def __init__(self) -> None:
        super().__init__()
        self.held = 0

    def hold(self) -> None:
        self.held += 1


async def pressed_admission(took_s: float) -> Admission:
    gate = Admission(Limits(1, 1_000, 10_000), lambda: 0.0)
    assert await gate.enter(100, "a", GIVEN_S) is None
    gate.leave(100, took_s)
    assert await gate.enter(100, "a", GIVEN_S) is None
    for _ in range(2):
        gate._append(100, "a", GIVEN_S)
    assert await gate.enter(100, "a", 2 * took_s) is Refusal.LATE
    assert gate.pressed
    return gate


@pytest.mark.parametrize(
    ("method", "unread_calls", "held"),
    [
        (RERANK, 32, 1),  # 32 calls of 2 ms are fresh when their turn comes
        (RERANK, 256, 0),  # 256 are not: better look at them at once
        ("/grpc.health.v1.Health/Check", 32, 0),
    ],
)
async def test_only_pages_are_held_back_and_only_where_they_stay_fresh(method, unread_calls, held):
    brake = CountingBrake()
    interceptor = BrakeInterceptor(brake, await pressed_admission(0.002), unread_calls)
    called = []

    async def go_on(details):
        called.append(details.method)

    await interceptor.intercept_service(go_on, SimpleNamespace(method=method))
    assert called == [method]
    assert brake.held == held


async def test_an_unpressed_server_is_never_held_back():
    brake = CountingBrake()
    interceptor = BrakeInterceptor(brake, Admission(Limits(1, 10, 10), lambda: 0.0), 32)

    async def go_on(details):
        return None

    await interceptor.intercept_service(go_on, SimpleNamespace(method=RERANK))
    assert brake.held == 0


def test_the_brake_is_let_go_by_a_worker_or_by_time():
    brake = Brake()
    began = time.monotonic()
    brake.hold()
    assert 0.004 < time.monotonic() - began < 1
    brakes = [time.monotonic()]
    worker = threading.Timer(0.001, brake.page_done)
    worker.start()
    brake.hold()
    assert time.monotonic() - brakes[0] < 1
    worker.join()
