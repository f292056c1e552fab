"""Measures what a server still answers in time when it is offered more than it can do.

    python -m tests.benchmarks.overload --bundle BUNDLE --products PRODUCTS

Server and load generator are processes of their own on loopback, each on its own core where there
are two. The load is open: calls start when they are due (Poisson), whatever the server does, and
a latency counts from when the call was due, so a late start is the server's fault as well
(coordinated omission corrected). Goodput counts calls answered by the model within the deadline.
The capacity is the most goodput of any load; the last line compares it with three times that load.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rerank_server.contract.bundle import read_bundle
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.product_store import ProductStore
from tests.benchmarks.overload.load import Load, Seen, generate

_DAY_S = 86_400


def request_bytes(bundle: Path, products: Path, candidates: int, events: int) -> list[bytes]:
    """Return 64 pages of known products, serialised."""
    opened = read_bundle(bundle)
    store = ProductStore.open(products, opened)
    ids = store._ids
    offsets = np.asarray(ids._offsets)
    names = [
        bytes(ids._ids[start:end]).decode()
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    ]
    rng = np.random.default_rng(0)
    now = store.table.as_of_day * _DAY_S + 3_600
    pages = []
    for number in range(64):
        known = [names[row] for row in rng.permutation(len(names))[:candidates]]
        page = pb.RerankRequest(
            candidate_ids=known + [f"unknown-{row}" for row in range(candidates - len(known))],
            retrieval_scores=rng.random(candidates).tolist(),
            query=f"milk {number % 8}",
            time=now,
            history=pb.History(
                product_ids=[names[row] for row in rng.integers(0, len(names), events)],
                times=np.sort(now - rng.integers(60, 300 * _DAY_S, events)).tolist(),
            ),
        )
        pages.append(page.SerializeToString())
    return pages


def measure(address: str, pages: list[bytes], load: Load, cores: set[int]) -> Seen:
    """Offer `load` from another process and return what it saw."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    process = context.Process(target=generate, args=(address, pages, load, cores, out))
    process.start()
    seen: Seen = out.get(timeout=load.seconds + 60)
    process.join()
    return seen


def start_server(options: argparse.Namespace, cores: set[int]) -> tuple[Any, str]:
    """Start the server on `cores` and return it with its address."""
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0"]
    command += ["--bundle", str(options.bundle), "--products", str(options.products)]
    if options.workers:
        command += ["--workers", str(options.workers)]
    server = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - no thread yet
    )
    assert server.stderr is not None
    for line in server.stderr:
        if '"serving"' in line:
            # a full pipe would stop the server at its next line of log
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, json.loads(line)["address"]
    raise SystemExit(f"server: got exit status {server.wait()}, want it to serve")


def main() -> None:
    """Measure one load after another and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--deadline-ms", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    server_cores, load_cores = set(cores[:1]), set(cores[1:2] or cores)
    pages = request_bytes(options.bundle, options.products, options.candidates, options.events)
    server, address = start_server(options, server_cores)
    deadline_s = options.deadline_ms / 1_000
    rows: list[tuple[str, Seen]] = []
    try:
        measure(address, pages, Load(0, 2, deadline_s), load_cores)  # warms up
        closed = measure(address, pages, Load(0, options.seconds, deadline_s), load_cores)
        rows.append(("closed, 16 callers", closed))
        if closed.goodput == 0:
            raise SystemExit(f"goodput: got 0 of {closed}, want a server that answers in time")
        for factor in (0.5, 0.7, 0.9, 1.0, 1.1, 1.5, 2.0, 3.0):
            load = Load(factor * closed.goodput, options.seconds, deadline_s)
            rows.append((f"open, {factor:g}x", measure(address, pages, load, load_cores)))
        print(f"{'load':20} offered goodput  late  degraded    errors   p50   p99 degraded p99 ms")
        for name, seen in rows:
            print(
                f"{name:20} {seen.offered:7.0f} {seen.goodput:7.0f} {seen.late:5.0f}"
                f" {sum(seen.degraded.values()):9.0f} {sum(seen.errors.values()):9.0f}"
                f" {seen.good_p50_ms:5.1f} {seen.good_p99_ms:5.1f} {seen.degraded_p99_ms:12.1f}"
            )
        peak = max(seen.goodput for name, seen in rows if name.startswith("open"))
        kept = rows[-1][1].goodput / peak
        print(f"goodput at 3x: {kept:.0%} of the peak of {peak:.0f}/s")
        if options.out:
            result = {name: asdict(seen) for name, seen in rows}
            temporary = options.out.with_suffix(".tmp")
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            temporary.replace(options.out)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


if __name__ == "__main__":
    main()
