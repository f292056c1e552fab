"""Signals to the server, and folders taken from under it, while calls come."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
import pytest

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from tests.rerank_server.conftest import TinyFolders
from tests.rerank_server.faults.table import fault
from tests.rerank_server.test_server import Process

PAGE = pb.RerankRequest(candidate_ids=["milk-1", "dog-1", "cat-1"], query="milk")


@dataclass
class Callers:
    """Threads that call a server until told to stop."""

    address: str
    timeout: float = 10.0
    seen: Counter[str] = field(default_factory=Counter)
    details: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        with grpc.insecure_channel(self.address) as channel:
            stub = RerankServiceStub(channel)
            while not self._stop.is_set():
                try:
                    answer = stub.Rerank(PAGE, timeout=self.timeout)
                except grpc.RpcError as error:
                    self.seen[error.code().name] += 1
                    self.details.add(error.details() or "")
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        return
                else:
                    self.seen["degraded" if answer.degraded else "good"] += 1

    def wait_for(self, what: str, more: int) -> None:
        until, wanted = time.monotonic() + 20, self.seen[what] + more
        while self.seen[what] < wanted and time.monotonic() < until:
            time.sleep(0.01)
        assert self.seen[what] >= wanted, self.seen

    def stop(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        return self.seen


@fault("SIGTERM under load", "calls in flight are answered, others UNAVAILABLE or CANCELLED")
def test_sigterm_under_load(tiny_folders):
    process = Process(tiny_folders)
    callers = Callers(process.address)
    callers.wait_for("good", 50)
    status, _ = process.stop(signal.SIGTERM)
    assert status == 0
    seen = callers.stop()
    assert set(seen) <= {"good", "degraded", "UNAVAILABLE", "CANCELLED"}
    assert seen["CANCELLED"] + seen["UNAVAILABLE"] <= 8  # each caller met it once or twice


@fault("SIGKILL under load", "UNAVAILABLE; the next server serves")
def test_sigkill_under_load(tiny_folders):
    process = Process(tiny_folders)
    callers = Callers(process.address)
    callers.wait_for("good", 50)
    process.stop(signal.SIGKILL)
    assert set(callers.stop()) <= {"good", "degraded", "UNAVAILABLE"}
    second = Process(tiny_folders)
    callers = Callers(second.address)
    callers.wait_for("good", 10)
    callers.stop()
    assert second.stop(signal.SIGTERM)[0] == 0


@fault("SIGSTOP for 5 s", "DEADLINE_EXCEEDED meanwhile; answers after it")
@pytest.mark.slow
def test_sigstop_for_5_s(tiny_folders):
    process = Process(tiny_folders)
    callers = Callers(process.address, timeout=0.5)
    callers.wait_for("good", 50)
    os.kill(process.process.pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(process.process.pid, signal.SIGCONT)
    callers.wait_for("good", 50)
    assert set(callers.stop()) <= {"good", "degraded", "DEADLINE_EXCEEDED", "CANCELLED"}
    assert process.stop(signal.SIGTERM)[0] == 0


@fault("folders of bundle and products deleted", "nothing: its pages are reranked")
def test_folders_deleted_while_serving(tiny_folders, tmp_path):
    folders = TinyFolders(tmp_path / "bundle", tmp_path / "products", tmp_path / "snapshot")
    shutil.copytree(tiny_folders.bundle, folders.bundle)
    shutil.copytree(tiny_folders.products, folders.products)
    process = Process(folders)
    callers = Callers(process.address)
    callers.wait_for("good", 20)
    shutil.rmtree(folders.bundle)
    shutil.rmtree(folders.products)
    callers.wait_for("good", 50)
    assert set(callers.stop()) <= {"good", "degraded"}
    assert process.stop(signal.SIGTERM)[0] == 0
