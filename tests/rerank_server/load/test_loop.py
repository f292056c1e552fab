"""The load generator against real servers: it counts what callers really wait for."""

from __future__ import annotations

import asyncio
import signal

import numpy as np
import pytest

from rerank_server.client.connection import Connection
from rerank_server.client.messages import CallError
from rerank_server.load.figures import LoadRecord
from rerank_server.load.loop import closed_loop, open_loop
from rerank_server.page import SearchPage
from tests.rerank_server.client.processes import ServerProcess
from tests.rerank_server.tiny_bundle import NOW

PAGE = SearchPage(["dog-1", "milk-2", "milk-1"], time=NOW)


@pytest.fixture
def server(tiny_folders):
    process = ServerProcess(tiny_folders)
    yield process
    process.kill()


def test_figures_are_those_of_the_pages():
    record = LoadRecord(
        latencies_s=[0.001, 0.002, 0.003, 0.1],
        server_us=[500, 700, 900],
        lateness_s=[0.0, 0.0005, 0.002, 0.5],
    )
    record.degraded["unavailable"] += 1
    figures = record.figures("open", 2.0).as_json()
    assert figures["pages"] == 4
    assert figures["scored_pages"] == 3
    assert figures["scored_pages_per_s"] == 1.5
    assert figures["latency_p50_ms"] == pytest.approx(2.5)
    assert figures["latency_max_ms"] == pytest.approx(100)
    assert figures["server_p50_ms"] == 0.7
    assert figures["sent_late_share"] == 0.5
    assert figures["degraded"] == {"unavailable": 1}


def test_no_page_has_no_latency():
    figures = LoadRecord().figures("open", 1.0).as_json()
    assert np.isnan(figures["latency_p50_ms"])
    assert figures["scored_pages_per_s"] == 0


async def test_callers_of_a_closed_loop_wait_for_their_answers(server):
    connection = Connection(server.address, timeout_ms=10_000)
    figures = await closed_loop(connection, PAGE, callers=3, seconds=0.5)
    assert figures.scored >= 3
    assert not figures.degraded
    assert figures.seconds >= 0.5
    assert figures.server_us.shape == figures.latencies_ms.shape
    assert figures.latencies_ms.min() > 0


async def test_a_stall_counts_for_every_page_that_it_delays(server):
    """The server stands still for 1 s in the middle of 2 s: half of the pages see it."""
    connection = Connection(server.address, timeout_ms=10_000)
    run = asyncio.create_task(open_loop(connection, PAGE, rate=50, seconds=2))
    await asyncio.sleep(1.0)
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.0)
    server.process.send_signal(signal.SIGCONT)
    figures = await run
    assert figures.latencies_ms.shape == (100,)
    assert not figures.degraded
    delayed = figures.latencies_ms[figures.latencies_ms > 100]
    assert delayed.shape[0] >= 15
    assert delayed.max() > 500


async def test_a_server_that_is_not_there_is_an_error_and_no_figure():
    with pytest.raises(CallError, match="got unavailable"):
        await closed_loop(Connection("localhost:1"), PAGE, callers=1, seconds=0.1)
