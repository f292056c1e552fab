"""A server of ours as a process of its own, on chosen cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        address: host:port of gRPC.
        pid: Of the process that was started.
        metrics: host:port of metrics; empty without them.
    """

    address: str
    pid: int
    metrics: str = ""

    def cpu_s(self) -> float:
        """Return the CPU seconds used by the server's processes, user and kernel (Linux)."""
        return sum(map(_cpu_s, family(self.pid)))

    def memory_mib(self) -> list[dict[str, float]]:
        """Return resident, proportional and own memory of each process, in MiB (Linux)."""
        return [memory_mib(pid) for pid in family(self.pid)]


@contextmanager
def running(
    bundle: Path, products: Path, flags: Sequence[str] = (), *, cores: set[int] | None = None
) -> Generator[Server]:
    """Serve on a free port while the block runs; the log goes to a file that is thrown away."""
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0"]
    command += ["--bundle", str(bundle), "--products", str(products), *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            stderr=log,
            preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - no thread yet
        )
        try:
            yield _wait(process, log)
        finally:
            process.terminate()
            process.wait(30)


def family(pid: int) -> list[int]:
    """Return a process and its children (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def memory_mib(pid: int) -> dict[str, float]:
    """Return resident, proportional and own memory of a process, in MiB (Linux)."""
    kib = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in kib:
            kib[name] = int(rest.split()[0])
    own = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"rss": kib["Rss"] / 1024, "pss": kib["Pss"] / 1024, "own": own / 1024}


def _wait(process: subprocess.Popen[Any], log: Any) -> Server:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        log.seek(0)
        lines = [json.loads(line) for line in log.read().splitlines() if line.startswith("{")]
        by_message = {line["message"]: line for line in lines}
        if "serving" in by_message:
            metrics = by_message.get("metrics and probes", {}).get("address", "")
            return Server(by_message["serving"]["address"], process.pid, metrics)
        time.sleep(0.1)
    log.seek(0)
    raise SystemExit(f"server: got no start, want it to serve:\n{log.read()}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
