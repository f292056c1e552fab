"""A server of several processes, as a command starts it, for tests that look into it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub

PAGE = pb.RerankRequest(candidate_ids=["milk-1", "dog-1", "cat-1"], query="milk")
CONNECTIONS = 24


@dataclass
class Group:
    process: subprocess.Popen[str]
    address: str
    metrics: str
    log: Path

    def children(self) -> list[int]:
        pid = self.process.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def bundles(self) -> set[str]:
        """Who answers, over many connections: the kernel deals them out to all processes."""
        seen = set()
        for _ in range(CONNECTIONS):
            with self.channel() as channel:
                answer = RerankServiceStub(channel).Rerank(PAGE, timeout=20, wait_for_ready=True)
                assert not answer.degraded
                seen.add(answer.bundle_id)
        return seen

    def another_than_that_of(self, channel: grpc.Channel) -> int:
        """The first child that does not answer on an open channel, found by its CPU time."""
        stub = RerankServiceStub(channel)
        before = {pid: _cpu_ticks(pid) for pid in self.children()}
        for _ in range(200):
            stub.Rerank(PAGE, timeout=20)
        took = {pid: _cpu_ticks(pid) - ticks for pid, ticks in before.items()}
        return min(took, key=lambda pid: took[pid])

    def channel(self) -> grpc.Channel:
        options = (("grpc.use_local_subchannel_pool", 1),)
        return grpc.insecure_channel(self.address, options=options)

    def scrape(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def messages(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")
        ]

    def count(self, message: str) -> int:
        return sum(line["message"] == message for line in self.messages())

    def wait_for(self, message: str, count: int = 1) -> dict[str, Any]:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = [line for line in self.messages() if line["message"] == message]
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())


@contextmanager
def serve_group(folders, log: Path, *flags: str) -> Iterator[Group]:
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0", "--processes", "2"]
    command += ["--bundle", str(folders.bundle), "--products", str(folders.products)]
    command += ["--metrics-port", "0", "--admin", *flags]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, text=True)
    group = Group(process, "", "", log)
    try:
        group.address = group.wait_for("serving")["address"]
        group.metrics = group.wait_for("metrics and probes")["address"]
        yield group
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def runs(pid: int) -> bool:
    """Whether a process runs, and is not one that ended and that nobody waits for."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
