"""The server as a process and in one: health, reflection, ports, and how it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection_pb2,
    reflection_pb2_grpc,
)

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.server import SERVICE_NAME, AddressError
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.scorers import SlowScorer, with_scorer

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["", "rerank.v1.RerankService"])
async def test_health_says_serving(tiny_server, name):
    stub = health_pb2_grpc.HealthStub(tiny_server.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_service(tiny_server):
    stub = reflection_pb2_grpc.ServerReflectionStub(tiny_server.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request])):
        names = {service.name for service in answer.list_services_response.service}
        assert {SERVICE_NAME, "grpc.health.v1.Health"} <= names


async def test_a_taken_port_is_a_clear_error(tiny_reranker):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = tiny_rerank_server(tiny_reranker)
        with pytest.raises(AddressError, match=rf"127\.0\.0\.1:{port}: got an address that is tak"):
            await server.start("127.0.0.1", port)


async def test_two_servers_never_share_a_port(tiny_server, tiny_reranker):
    second = tiny_rerank_server(tiny_reranker)
    with pytest.raises(AddressError, match="want a free one"):
        await second.start("localhost", tiny_server.port)


async def test_a_stopping_server_finishes_the_calls_in_flight(serving, tiny_reranker):
    scorer = SlowScorer(0.3)
    running = await serving(with_scorer(tiny_reranker, scorer))
    call = asyncio.ensure_future(running.stub.Rerank(pb.RerankRequest(candidate_ids=["a", "b"])))
    await asyncio.to_thread(scorer.began.wait, 2)
    stopping = asyncio.ensure_future(running.server.stop(timedelta(seconds=2)))
    await asyncio.sleep(0.05)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.stub.GetServerStatus(pb.GetServerStatusRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    response = await call
    assert not response.degraded
    await stopping


class Process:
    """`python -m rerank_server serve` on a free port."""

    def __init__(self, folders, **environment: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "rerank_server", "serve", "--port", "0"),
                *("--bundle", str(folders.bundle), "--products", str(folders.products)),
            ],
            cwd=ROOT,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if '"serving"' not in line:
            self.process.kill()
            pytest.fail(line + self.process.communicate()[1])
        self.address = json.loads(line)["address"]

    def stop(self, number: int) -> tuple[int, list[dict[str, Any]]]:
        """Send a signal and return the exit status and the rest of the log."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=20)
        return self.process.returncode, [json.loads(line) for line in rest.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_gracefully(tiny_folders, number):
    process = Process(tiny_folders)
    with grpc.insecure_channel(process.address) as channel:
        stub = RerankServiceStub(channel)
        response = stub.Rerank(pb.RerankRequest(candidate_ids=["milk-1"]), timeout=10)
        assert list(response.candidate_ids) == ["milk-1"]
    status, log = process.stop(number)
    assert status == 0
    assert [line["message"] for line in log] == ["stopping", "stopped"]


def test_the_log_holds_no_shopper_and_no_query(tiny_folders):
    process = Process(tiny_folders, RERANK_LOG_LEVEL="debug")
    request = pb.RerankRequest(candidate_ids=["milk-1"], shopper_id="shopper-7", query="secret")
    broken = pb.RerankRequest(candidate_ids=[], shopper_id="shopper-7", query="secret")
    with grpc.insecure_channel(process.address) as channel:
        stub = RerankServiceStub(channel)
        stub.Rerank(request, timeout=10)
        with pytest.raises(grpc.RpcError):
            stub.Rerank(broken, timeout=10)
    _, log = process.stop(signal.SIGTERM)
    calls = [line for line in log if line["message"] == "call"]
    assert [line["code"] for line in calls] == ["OK", "INVALID_ARGUMENT"]
    assert all(line["took_us"] > 0 for line in calls)
    assert "shopper-7" not in json.dumps(log)
    assert "secret" not in json.dumps(log)


def test_a_killed_server_leaves_nothing_that_stops_the_next(tiny_folders):
    first = Process(tiny_folders)
    first.stop(signal.SIGKILL)
    second = Process(tiny_folders)
    assert second.stop(signal.SIGTERM)[0] == 0


def test_the_server_never_imports_the_trainer_or_paddle():
    code = (
        "import sys, rerank_server.__main__\n"
        "found = {'trainer', 'paddle', 'polars', 'tqdm', 'onnx'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
