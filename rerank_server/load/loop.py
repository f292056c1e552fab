"""Closed loop: each caller waits for its answer. Open loop: pages come at their own times.

In an open loop a latency counts from the time at which the page should have been sent. Counted from
when it was sent, a server that stalls would delay the pages that would have shown it (coordinated
omission; Tene 2013, "How not to measure latency").
"""

from __future__ import annotations

import asyncio
from time import perf_counter

import numpy as np

from rerank_server.client.async_client import AsyncRerankClient
from rerank_server.client.connection import Connection
from rerank_server.load.figures import LoadFigures, LoadRecord
from rerank_server.page import SearchPage

_WARM_UP_PAGES = 5
_SEED = 7


async def closed_loop(
    connection: Connection, page: SearchPage, *, callers: int, seconds: float
) -> LoadFigures:
    """Let `callers` ask for the page again and again, each once its answer is there.

    Raises:
        CallError: When the server does not answer the first page.
    """
    record = LoadRecord()
    async with AsyncRerankClient(connection) as client:
        await _warm_up(client, page)
        began = perf_counter()

        async def ask_again_and_again() -> None:
            while perf_counter() - began < seconds:
                await _ask(client, page, perf_counter(), record)

        await asyncio.gather(*(ask_again_and_again() for _ in range(callers)))
        return record.figures("closed", perf_counter() - began)


async def open_loop(
    connection: Connection, page: SearchPage, *, rate: float, seconds: float
) -> LoadFigures:
    """Send the page at random times (Poisson), `rate` a second, whether answers come or not.

    Raises:
        CallError: When the server does not answer the first page.
    """
    record = LoadRecord()
    gaps = np.random.default_rng(_SEED).exponential(1 / rate, size=max(1, round(rate * seconds)))
    calls: set[asyncio.Task[None]] = set()
    async with AsyncRerankClient(connection) as client:
        await _warm_up(client, page)
        began = perf_counter()
        for due in began + np.cumsum(gaps):
            wait_s = due - perf_counter()
            # also without a wait: answers are read between pages that are late
            await asyncio.sleep(max(wait_s, 0))
            record.lateness_s.append(max(perf_counter() - due, 0.0))
            call = asyncio.create_task(_ask(client, page, float(due), record))
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)
        return record.figures("open", perf_counter() - began)


async def _warm_up(client: AsyncRerankClient, page: SearchPage) -> None:
    for _ in range(_WARM_UP_PAGES):
        await client.ask(page)


async def _ask(
    client: AsyncRerankClient, page: SearchPage, since: float, record: LoadRecord
) -> None:
    answer = await client.rerank(page)
    record.latencies_s.append(perf_counter() - since)
    if answer.answered:
        record.server_us.append(answer.server_us)
    if answer.degraded:
        record.degraded[answer.degraded_reason] += 1
