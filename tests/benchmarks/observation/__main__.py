"""Measures what tokens, metrics and the access log cost, as a ratio in one run.

    python -m tests.benchmarks.observation --bundle BUNDLE --products PRODUCTS

Servers and load generator are processes of their own. One server has everything off, one
everything on (a token with both rates, metrics, one call in a hundred logged, a trace in every
call), and one is a second copy of the first: its ratio to the first is the noise. Rounds of closed
load alternate between them, so that whatever else the machine does meets all alike. Beside
throughput, the server's CPU time per call is compared, which other programs disturb least.
Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc

from rerank_server.pb import rerank_pb2 as pb
from tests.rerank_server.token_files import write_tokens

METHOD = "/rerank.v1.RerankService/Rerank"
TRACE = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
_CALLERS = 16


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        address: Where it listens.
        pid: What is measured.
        metadata: What its callers send.
    """

    address: str
    pid: int
    metadata: tuple[tuple[str, str], ...]


@contextmanager
def running(
    bundle: Path, products: Path, flags: list[str], metadata: tuple[tuple[str, str], ...]
) -> Generator[Server]:
    """Serve on a free port while the block runs; the log goes to a file that is thrown away."""
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0"]
    command += ["--bundle", str(bundle), "--products", str(products), *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            address = _wait_for_address(process, log)
            yield Server(address, process.pid, metadata)
        finally:
            process.terminate()
            process.wait(20)


def _wait_for_address(process: subprocess.Popen[bytes], log: Any) -> str:
    started = perf_counter()
    while perf_counter() - started < 120:
        log.seek(0)
        for line in log.read().splitlines():
            value = json.loads(line)
            if value["message"] == "serving":
                return str(value["address"])
        if process.poll() is not None:
            break
        asyncio.run(asyncio.sleep(0.1))
    log.seek(0)
    raise SystemExit(f"the server did not start:\n{log.read()}")


async def one_round(server: Server, request: bytes, seconds: float) -> tuple[float, float]:
    """Return calls per second and microseconds of the server's CPU per call."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: Any = channel.unary_unary(METHOD)
        await call(request, metadata=server.metadata)
        count = 0

        async def caller(until: float) -> None:
            nonlocal count
            while perf_counter() < until:
                await call(request, metadata=server.metadata)
                count += 1

        before = _cpu_s(server.pid)
        started = perf_counter()
        await asyncio.gather(*(caller(started + seconds) for _ in range(_CALLERS)))
        took = perf_counter() - started
        used = _cpu_s(server.pid) - before
    return count / took, used / count * 1e6


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, in user mode and in the kernel (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    ids = [f"product-{number}" for number in range(options.candidates)]
    request = pb.RerankRequest(candidate_ids=ids, query="milk").SerializeToString()
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.toml"
        rates = "requests_per_s = 1e8\ncandidates_per_s = 1e8\n"
        (secret,) = write_tokens(tokens, "bench", more=rates)
        on = ["--tokens", str(tokens), "--metrics-port", "0", "--access-log-share", "0.01"]
        metadata = (("authorization", f"Bearer {secret}"), TRACE)
        folders = options.bundle, options.products
        servers = {
            "off": stack.enter_context(running(*folders, [], ())),
            "off again": stack.enter_context(running(*folders, [], ())),
            "on": stack.enter_context(running(*folders, on, metadata)),
        }
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for number in range(options.rounds + 1):
            for name, server in servers.items():
                seen = asyncio.run(one_round(server, request, options.seconds))
                if number:  # the first warms up
                    rounds[name].append(seen)
        print(json.dumps(_summary(rounds, options.candidates)))


def _summary(rounds: dict[str, list[tuple[float, float]]], candidates: int) -> dict[str, Any]:
    """Return medians, and medians of the ratios of neighbouring rounds."""

    def ratio(name: str, column: int) -> float:
        pairs = zip(rounds[name], rounds["off"], strict=True)
        return round(statistics.median(a[column] / b[column] for a, b in pairs), 4)

    return {
        "candidates": candidates,
        "callers": _CALLERS,
        "calls_per_s": {
            name: round(statistics.median(seen[0] for seen in values))
            for name, values in rounds.items()
        },
        "cpu_us_per_call": {
            name: round(statistics.median(seen[1] for seen in values), 1)
            for name, values in rounds.items()
        },
        "throughput_ratio": {name: ratio(name, 0) for name in ("on", "off again")},
        "cpu_ratio": {name: ratio(name, 1) for name in ("on", "off again")},
    }


if __name__ == "__main__":
    main()
