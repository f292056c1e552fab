"""The load generator, `main.go`, built once and run as a process on cores of its own.

It is compiled, so that it is not what limits a load; it needs Go.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent
BINARY = Path(__file__).resolve().parents[3] / "var" / "benchmark" / "load"


@dataclass(frozen=True)
class Load:
    """What is offered.

    Attributes:
        rate: Calls per second, each due at a Poisson time; 0 means closed, `callers` at a time.
        seconds: For how long.
        deadline_ms: Of each call, from when it is due.
        callers: Of a closed load.
        connections: HTTP/2 connections.
    """

    rate: float
    seconds: float
    deadline_ms: float
    callers: int = 16
    connections: int = 4


@dataclass(frozen=True)
class Seen:
    """What came back; latencies in milliseconds from when a call was due.

    Attributes:
        offered: Calls per second.
        outcomes: Calls per second by how they ended: "good", "late", "degraded ...", "error ...".
        latency_ms: p50, p90, p99 and p999 of each outcome.
        cpu_us: The generator's own CPU per call.
    """

    offered: float
    outcomes: dict[str, float]
    latency_ms: dict[str, dict[str, float]]
    cpu_us: float

    @property
    def goodput(self) -> float:
        """Calls per second that the model answered within the deadline."""
        return self.outcomes.get("good", 0.0)

    def good_ms(self, percentile: str) -> float:
        """Return a percentile of the good calls' latency; NaN without any."""
        return self.latency_ms.get("good", {}).get(percentile, float("nan"))


def build_generator() -> Path:
    """Compile the generator where its source is newer, and return its path."""
    newest = max(path.stat().st_mtime for path in SOURCE.iterdir())
    if BINARY.exists() and BINARY.stat().st_mtime > newest:
        return BINARY
    if shutil.which("go") is None:
        raise SystemExit("load generator: got no `go`, want Go 1.22 or newer to compile it")
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", str(BINARY), "."], cwd=SOURCE, check=True)
    return BINARY


def write_pages(path: Path, pages: Sequence[bytes]) -> Path:
    """Write messages as the generator reads them and return the path."""
    path.write_bytes(b"".join(struct.pack(">I", len(page)) + page for page in pages))
    return path


def offer(
    address: str,
    pages: Path,
    load: Load,
    *,
    cores: set[int] | None = None,
    flags: Sequence[str] = (),
) -> Seen:
    """Offer `load` from a process of its own, on `cores`, and return what it saw.

    Args:
        address: host:port of a gRPC server.
        pages: Written by `write_pages`.
        load: What to offer.
        cores: Where the generator may run; None means anywhere.
        flags: More flags of `main.go`, for other servers than ours.
    """
    command = [str(build_generator()), "-target", address, "-pages", str(pages)]
    command += ["-rate", str(load.rate), "-seconds", str(load.seconds)]
    command += ["-deadline-ms", str(load.deadline_ms), "-callers", str(load.callers)]
    command += ["-connections", str(load.connections), *flags]
    before = os.times()
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        timeout=load.seconds + load.deadline_ms / 1_000 + 60,
        preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
    )
    after = os.times()
    used_s = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    value: dict[str, Any] = json.loads(done.stdout)
    calls = max(value["offered_per_s"] * value["seconds"], 1)
    return Seen(
        offered=value["offered_per_s"],
        outcomes=value["per_s"],
        latency_ms=value["latency_ms"],
        cpu_us=used_s / calls * 1e6,
    )
