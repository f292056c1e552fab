"""The processes that the demo starts, and how none of them outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from deploy.demo.errors import RerankServerError
from deploy.demo.watched import die_with_parent

SERVICE = "rerank.v1.RerankService"
START_S = 120.0
STOP_S = 8.0
_POLL_S = 0.05
_LAST_CHARACTERS = 300


class Stopped(BaseException):
    """The demo was told to end by a signal."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that shells give a program that a signal ended."""
        return 128 + self.number


def stop_on_signals() -> None:
    """Raise `Stopped` in the main thread on SIGINT, SIGTERM and SIGHUP.

    To be called again after a library has put handlers of its own in their place.
    """

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def end_forks_with_this_process() -> None:
    """Let every process that is forked from now on die with the one that forked it.

    Such workers leave Ctrl-C, which a terminal sends to all, to their parent.
    """

    def after_fork() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(os.getppid(), signal.SIGKILL)

    os.register_at_fork(after_in_child=after_fork)


class RerankServerProcess:
    """A rerank server of our own, on a free port of 127.0.0.1; a context that ends it."""

    def __init__(self, bundle: Path, products: Path, log_path: Path) -> None:
        """Start the server; `wait_until_serving` says when it can be called.

        Args:
            bundle: Folder of the bundle.
            products: Folder of its product store.
            log_path: File that takes the server's log; what was in it goes.

        Raises:
            RerankServerError: The process cannot be started.
        """
        self.log_path = log_path
        watched = [sys.executable, "-m", "deploy.demo.watched", str(os.getpid())]
        served = ["serve", "--port", "0", "--bundle", str(bundle), "--products", str(products)]
        try:
            with log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    [*watched, "rerank_server", *served],
                    stdin=subprocess.PIPE,  # held open for as long as this process lives
                    stdout=log,
                    stderr=log,
                    env=_without_server_settings(os.environ),
                    start_new_session=True,  # Ctrl-C is for the demo, which then ends the server
                )
        except OSError as error:
            raise RerankServerError(
                f"rerank server: got {error}, want it to start; its log is {log_path}"
            ) from error

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """End the server."""
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def wait_until_serving(self, timeout_s: float = START_S) -> str:
        """Return host:port once the server's health says SERVING.

        Raises:
            RerankServerError: The server ended, or did not serve in time.
        """
        until = monotonic() + timeout_s
        target = None
        while monotonic() < until:
            if self.status is not None:
                raise RerankServerError(
                    f"rerank server: got exit status {self.status} ({self._last_line()}), "
                    f"want it to serve; its log is {self.log_path}"
                )
            target = target or self._address()
            if target is not None and _is_serving(target):
                return target
            sleep(_POLL_S)
        raise RerankServerError(
            f"rerank server: got no health SERVING in {timeout_s:g} s, want it; "
            f"its log is {self.log_path}"
        )

    def stop(self) -> None:
        """End the server, gracefully if it can be; returns when it is gone."""
        try:
            self._process.terminate()
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _address(self) -> str | None:
        """Where the server's log says that it listens."""
        for line in self.log_path.read_text(encoding="utf-8", errors="replace").splitlines():
            entry = _json_object(line)
            if entry.get("message") == "serving":
                return str(entry["address"])
        return None

    def _last_line(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "its log is empty")
        return str(_json_object(last).get("message", last)).strip()[:_LAST_CHARACTERS]


def _json_object(line: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:  # not written to its end yet, or not the server's own line
        return {}
    return value if isinstance(value, dict) else {}


def _is_serving(target: str) -> bool:
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options=options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=SERVICE), timeout=1.0
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _without_server_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop settings that are meant for another server."""
    return {name: value for name, value in environment.items() if not name.startswith("RERANK_")}
