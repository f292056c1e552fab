"""An open or closed load of gRPC calls, and what came back of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from rerank_server.pb import rerank_pb2 as pb

METHOD = "/rerank.v1.RerankService/Rerank"
MOST_OUTSTANDING = 800


@dataclass(frozen=True)
class Load:
    """What is offered.

    Attributes:
        rate: Calls per second; 0 means closed, `callers` at a time.
        seconds: For how long.
        deadline_s: Of each call.
        callers: Of a closed load.
    """

    rate: float
    seconds: float
    deadline_s: float
    callers: int = 16


@dataclass(frozen=True)
class Seen:
    """What came back, per second; latencies in milliseconds from when a call was due."""

    offered: float
    goodput: float
    late: float
    degraded: dict[str, float]
    errors: dict[str, float]
    good_p50_ms: float
    good_p99_ms: float
    degraded_p99_ms: float


class Recorder:
    """Collects the outcome of each call."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self.good: list[float] = []
        self.late = 0
        self.degraded: Counter[str] = Counter()
        self.degraded_s: list[float] = []
        self.errors: Counter[str] = Counter()

    def answer(self, data: bytes, took_s: float) -> None:
        """Count an answer."""
        response = pb.RerankResponse.FromString(data)
        if response.degraded:
            self.degraded[pb.DegradedReason.Name(response.degraded_reason)] += 1
            self.degraded_s.append(took_s)
        elif took_s <= self._deadline_s:
            self.good.append(took_s)
        else:
            self.late += 1

    def seen(self, offered: int, seconds: float) -> Seen:
        """Return it all per second."""
        return Seen(
            offered=offered / seconds,
            goodput=len(self.good) / seconds,
            late=self.late / seconds,
            degraded={name: count / seconds for name, count in self.degraded.items()},
            errors={name: count / seconds for name, count in self.errors.items()},
            good_p50_ms=_percentile_ms(self.good, 50),
            good_p99_ms=_percentile_ms(self.good, 99),
            degraded_p99_ms=_percentile_ms(self.degraded_s, 99),
        )


def _percentile_ms(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) * 1_000 if values else float("nan")


async def offer(address: str, pages: list[bytes], load: Load) -> Seen:
    """Offer `load` and return what came back."""
    recorder = Recorder(load.deadline_s)
    channels = [
        grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        for _ in range(4)
    ]
    calls: list[Any] = [channel.unary_unary(METHOD) for channel in channels]

    async def one(number: int, due: float) -> None:
        left = load.deadline_s - (time.perf_counter() - due)
        try:
            data = await calls[number % 4](pages[number % len(pages)], timeout=max(left, 0.001))
        except grpc.aio.AioRpcError as error:
            recorder.errors[error.code().name] += 1
            return
        recorder.answer(data, time.perf_counter() - due)

    begin = time.perf_counter()
    offered = await (_offer_closed(one, load) if load.rate == 0 else _offer_open(one, load))
    seconds = load.seconds if load.rate else time.perf_counter() - begin
    recorder.errors["not sent"] = offered[1]
    for channel in channels:
        await channel.close()
    return recorder.seen(offered[0], seconds)


async def _offer_closed(one: Any, load: Load) -> tuple[int, int]:
    end = time.perf_counter() + load.seconds
    sent = 0

    async def caller() -> None:
        nonlocal sent
        while time.perf_counter() < end:
            sent += 1
            await one(sent, time.perf_counter())

    await asyncio.gather(*(caller() for _ in range(load.callers)))
    return sent, 0


async def _offer_open(one: Any, load: Load) -> tuple[int, int]:
    rng = np.random.default_rng(1)
    gaps = rng.exponential(1 / load.rate, int(load.rate * load.seconds * 1.2) + 10)
    due_at = np.cumsum(gaps)
    due_at = due_at[due_at < load.seconds]
    begin = time.perf_counter()
    outstanding: set[asyncio.Task[None]] = set()
    not_sent = 0
    for number, due in enumerate((begin + due_at).tolist()):
        wait = due - time.perf_counter()
        await asyncio.sleep(max(wait, 0))
        if len(outstanding) >= MOST_OUTSTANDING:
            not_sent += 1
            continue
        task = asyncio.ensure_future(one(number, due))
        outstanding.add(task)
        task.add_done_callback(outstanding.discard)
    if outstanding:
        await asyncio.wait(outstanding)
    return len(due_at), not_sent


def generate(address: str, pages: list[bytes], load: Load, cores: set[int], out: Any) -> None:
    """Offer `load` from a process of its own."""
    os.sched_setaffinity(0, cores)
    out.put(asyncio.run(offer(address, pages, load)))
