"""Several processes behind one port: they answer, change, fall and stop together."""

from __future__ import annotations

import json
import os
import signal
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
import pytest

from rerank_server.pb import admin_pb2
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
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


@pytest.fixture(scope="module")
def group(tiny_folders, tmp_path_factory):
    with serve_group(tiny_folders, tmp_path_factory.mktemp("group") / "log") as running:
        yield running


def test_both_processes_answer_and_count_together(group):
    before = group.scrape()
    assert len(group.bundles()) == 1
    after = group.scrape()
    name = 'crossrank_calls_total{code="OK",method="/rerank.v1.RerankService/Rerank"}'
    name = name if name in after else next(key for key in after if "calls_total{" in key)
    assert after[name] - before.get(name, 0) == CONNECTIONS
    for process in ("0", "1"):
        assert after[f'process_resident_memory_bytes{{process="{process}"}}'] > 0
    buckets = [key for key in after if key.startswith("crossrank_page_candidates_bucket")]
    assert after[buckets[-1]] == after["crossrank_page_candidates_count"]


def test_a_bundle_is_changed_in_every_process_or_in_none(group, other_folders, broken_copy):
    (first,) = group.bundles()
    with group.channel() as channel:
        admin = AdminServiceStub(channel)
        broken = broken_copy("scorer.onnx")
        with pytest.raises(grpc.RpcError) as refused:
            admin.LoadBundle(
                admin_pb2.LoadBundleRequest(
                    bundle_path=str(broken.bundle), products_path=str(broken.products)
                )
            )
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "scorer.onnx" in (refused.value.details() or "")
        assert group.bundles() == {first}
        admin.LoadBundle(
            admin_pb2.LoadBundleRequest(
                bundle_path=str(other_folders.bundle), products_path=str(other_folders.products)
            )
        )
        admin.DivertPages(admin_pb2.DivertPagesRequest(canary_percent=50))
        held = admin.PromoteBundle(admin_pb2.PromoteBundleRequest()).bundles
    assert held.previous_id == first
    assert group.bundles() == {held.current_id} != {first}


def test_a_killed_process_comes_back_with_what_the_others_hold(group):
    (serving,) = group.bundles()
    with group.channel() as channel:
        held = AdminServiceStub(channel)
        before = group.scrape()
        victim = group.children()[0]
        started = len([one for one in group.messages() if one["message"] == "process serving"])
        os.kill(victim, signal.SIGKILL)
        group.wait_for("process ended, it is started anew")
        group.wait_for("process serving", started + 1)
        assert len(group.children()) == 2
        assert group.bundles() == {serving}
        after = group.scrape()
        for name, count in before.items():
            if name.startswith(("crossrank_calls_total", "crossrank_page_seconds_count")):
                assert after[name] >= count, name
    with group.channel() as channel:  # the one that came back can go back as well
        held = AdminServiceStub(channel).RollBackBundle(
            admin_pb2.RollBackBundleRequest(), wait_for_ready=True
        )
    assert held.bundles.previous_id == serving
    assert group.bundles() == {held.bundles.current_id} != {serving}


def test_no_other_server_takes_the_port(group, tiny_folders):
    port = group.address.rpartition(":")[2]
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", port]
    command += ["--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)]
    for processes in ("1", "2"):
        done = subprocess.run(
            [*command, "--processes", processes],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "crossrank: " in done.stderr
        assert "want a free" in done.stderr


def test_what_is_wrong_is_said_once_and_nothing_stays(tiny_folders, tmp_path):
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0", "--processes", "2"]
    command += ["--bundle", str(tmp_path), "--products", str(tiny_folders.products)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("manifest.json") == 1
    assert "before it served" in done.stderr


def test_a_signal_stops_all_and_the_supervisors_death_too(tiny_folders, tmp_path):
    with serve_group(tiny_folders, tmp_path / "first") as group:
        children = group.children()
        group.process.terminate()
        assert group.process.wait(20) == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)
    with serve_group(tiny_folders, tmp_path / "second") as group:
        children = group.children()
        group.process.kill()
        until = time.monotonic() + 20
        while any(_runs(child) for child in children) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(_runs(child) for child in children)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
