"""The port of metrics and probes: start-up, readiness and liveness are told apart."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from rerank_server.doors import Doors
from rerank_server.metrics import Metrics
from rerank_server.probes import STUCK_AFTER_S, ProbeAddressError, Probes, ProbeServer
from tests.rerank_server.running import tiny_rerank_server

ROOT = Path(__file__).resolve().parents[2]
PATHS = ("/livez", "/readyz", "/startupz")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def probe_port():
    """Answer for probes on a free port; returns a function from a path to its status."""
    servers = []

    def start(probes: Probes):
        server = ProbeServer("127.0.0.1", 0, probes, Metrics().registry())
        servers.append(server)
        return lambda path: httpx.get(f"http://127.0.0.1:{server.port}{path}").status_code

    yield start
    for server in servers:
        server.close()


def test_alive_started_and_ready_are_three_things(probe_port):
    probes = Probes()
    status = probe_port(probes)
    assert [status(path) for path in PATHS] == [200, 503, 503]
    probes.started = probes.ready = True
    assert [status(path) for path in PATHS] == [200, 200, 200]
    probes.ready = False
    assert [status(path) for path in PATHS] == [200, 503, 200]
    assert status("/elsewhere") == 404


def test_a_loop_that_no_longer_turns_is_not_alive():
    clock = Clock()
    probes = Probes(clock)
    probes.started = probes.ready = True
    clock.now = 1_000  # no beat yet: still starting, however long that takes
    assert probes.alive
    probes.beat()
    clock.now += STUCK_AFTER_S - 0.1
    assert probes.alive
    clock.now += 0.2
    assert [probes.answer(path) for path in PATHS] == [False, False, True]
    probes.beat()
    assert probes.alive


def test_metrics_come_in_the_format_that_is_asked_for():
    server = ProbeServer("127.0.0.1", 0, Probes(), Metrics().registry())
    url = f"http://127.0.0.1:{server.port}/metrics"
    plain = httpx.get(url)
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    openmetrics = httpx.get(url, headers=wanted)
    server.close()
    assert plain.headers["content-type"].startswith("text/plain")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    assert "crossrank_in_flight 0.0" in plain.text


def test_a_taken_port_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ProbeAddressError, match=rf"metrics, 127\.0\.0\.1:{port}: got Address"):
            ProbeServer("127.0.0.1", port, Probes(), Metrics().registry())


async def test_the_health_service_knows_the_probes_by_name(serving, tiny_reranker):
    running = await serving(tiny_reranker)
    stub = health_pb2_grpc.HealthStub(running.channel)
    for name in ("startup", "readiness", "liveness"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_stopping_server_is_not_ready_and_still_alive(tiny_reranker):
    probes = Probes()
    server = tiny_rerank_server(tiny_reranker, doors=Doors(probes=probes))
    assert [probes.answer(path) for path in PATHS] == [True, False, False]
    await server.start("localhost", 0)
    assert [probes.answer(path) for path in PATHS] == [True, True, True]
    await server.stop(timedelta(seconds=1))
    assert [probes.answer(path) for path in PATHS] == [True, False, True]


def test_the_process_answers_probes_before_it_serves_and_until_it_is_gone(tiny_folders):
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0"]
    command += ["--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)]
    process = subprocess.Popen(
        [*command, "--metrics-port", "0"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        line = json.loads(process.stderr.readline())
        assert line["message"] == "metrics and probes"
        url = f"http://{line['address']}"
        assert httpx.get(f"{url}/livez").status_code == 200  # the bundle is not read yet
        while json.loads(process.stderr.readline())["message"] != "serving":
            pass
        assert [httpx.get(url + path).status_code for path in PATHS] == [200, 200, 200]
        assert "crossrank_products 5.0" in httpx.get(f"{url}/metrics").text
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == 0
