"""Rerank servers for tests: the real one as a process, and one that answers as told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb import rerank_pb2_grpc

ROOT = Path(__file__).resolve().parents[3]


class RealServer:
    """`python -m rerank_server serve` as a process of its own."""

    def __init__(self, bundle: Path, products: Path, *arguments: str, port: int = 0) -> None:
        self._command = [
            *(sys.executable, "-m", "rerank_server", "serve"),
            *("--bundle", str(bundle), "--products", str(products), *arguments),
        ]
        self.address = self._start(port)

    def _start(self, port: int) -> str:
        self._process = subprocess.Popen(
            [*self._command, "--port", str(port)],
            cwd=ROOT,
            env=os.environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if '"serving"' in line:
                return str(json.loads(line)["address"])
        status = self._process.wait()
        raise RuntimeError(f"rerank server: got exit status {status}, want it serving")

    def pause(self) -> None:
        """Stop it in the middle of whatever it does; it keeps its connections."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Go on after a pause, if there was one and it lives."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word; safe to call twice."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def restart(self) -> None:
        """Serve again at the same address."""
        self._start(int(self.address.rpartition(":")[2]))


Answering = Callable[[pb.RerankRequest, grpc.ServicerContext], pb.RerankResponse]


def backwards(page: pb.RerankRequest, _: grpc.ServicerContext) -> pb.RerankResponse:
    """The page in reverse order."""
    ids = list(page.candidate_ids)[::-1]
    scores = [1 - place / len(ids) for place in range(len(ids))]
    return pb.RerankResponse(candidate_ids=ids, scores=scores, bundle_id="backwards")


class ToldServer(rerank_pb2_grpc.RerankServiceServicer):
    """Speaks the real protocol, answers what the test says and keeps what it was asked."""

    def __init__(self) -> None:
        self.answering: Answering = backwards
        self.pages: list[pb.RerankRequest] = []
        self.began = threading.Event()
        self.address = ""

    def Rerank(  # noqa: N802 - gRPC's name
        self, request: pb.RerankRequest, context: grpc.ServicerContext
    ) -> pb.RerankResponse:
        self.pages.append(request)
        self.began.set()
        return self.answering(request, context)

    def GetServerStatus(  # noqa: N802 - gRPC's name
        self, request: pb.GetServerStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetServerStatusResponse:
        return pb.GetServerStatusResponse(bundle_id="told")


@contextlib.contextmanager
def told_server(files: tuple[Path, Path] | None = None) -> Iterator[ToldServer]:
    """A server in this process, on a free port, for the length of the block.

    Args:
        files: Of its certificate and key; None speaks clear text.
    """
    told = ToldServer()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    rerank_pb2_grpc.add_RerankServiceServicer_to_server(told, server)
    if files is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (files[1].read_bytes(), files[0].read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    told.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield told
    finally:
        server.stop(0.5).wait()
