"""Measures what a server still answers in time when it is offered more than it can do.

    python -m tests.benchmarks.overload --bundle BUNDLE --products PRODUCTS --snapshot SNAPSHOT

Server and load generator are processes of their own on loopback, each on its own core where there
are two. The load is open: calls start when they are due (Poisson), whatever the server does, and
a latency counts from when the call was due (coordinated omission corrected). Goodput counts calls
answered by the model within the deadline. Each load is a multiple of what the server answers to 16
callers who wait as long as it takes, the peak is the most goodput of any of them, and the last line
compares the heaviest with it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.load.generator import Load, Seen, offer, write_pages
from tests.benchmarks.load.pages import make_pages, page_time, read_product_ids
from tests.benchmarks.load.results import circumstances, write_result
from tests.benchmarks.load.server import running

PATIENT_MS = 10_000.0
FACTORS = (0.5, 0.7, 0.9, 1.0, 1.1, 1.5, 2.0, 3.0)


def main() -> None:
    """Measure one load after another and print a table."""
    options = _parser().parse_args()
    cores = sorted(os.sched_getaffinity(0))
    server_cores, load_cores = set(cores[: options.cores]), set(cores[options.cores :] or cores)
    pages = make_pages(
        read_product_ids(options.snapshot),
        options.candidates,
        options.events,
        page_time(options.snapshot),
    )
    rows: list[tuple[str, Seen]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = write_pages(Path(folder) / "pages", [page.SerializeToString() for page in pages])

        def measure(name: str, rate: float, seconds: float) -> Seen:
            deadline_ms = options.deadline_ms if rate else PATIENT_MS
            load = Load(rate, seconds, deadline_ms, connections=options.connections)
            seen = offer(server.address, file, load, cores=load_cores)
            if name:
                rows.append((name, seen))
                print(_line(name, seen), flush=True)
            return seen

        with running(
            options.bundle, options.products, options.flags.split(), cores=server_cores
        ) as server:
            measure("", 0, 2)  # warms up
            print(_HEADER)
            closed = measure("closed, 16 callers", 0, options.seconds)
            if closed.goodput == 0:
                raise SystemExit(f"goodput: got 0 of {closed}, want a server that answers in time")
            for factor in FACTORS:
                measure(f"open, {factor:g}x", factor * closed.goodput, options.seconds)
    peak = max(seen.goodput for name, seen in rows if name.startswith("open"))
    kept = rows[-1][1].goodput / peak
    print(f"goodput at {FACTORS[-1]:g}x: {kept:.0%} of the peak of {peak:.0f}/s")
    if options.out:
        result = circumstances() | {
            "candidates": options.candidates,
            "deadline_ms": options.deadline_ms,
            "flags": options.flags,
            "server_cores": len(server_cores),
            "kept_at_heaviest": round(kept, 3),
            "peak_per_s": round(peak, 1),
            "loads": {name: asdict(seen) for name, seen in rows},
        }
        earlier = json.loads(options.out.read_text())["runs"] if options.append else []
        write_result(options.out, {"runs": [*earlier, result]})


_HEADER = f"{'load':20} offered goodput  late degraded errors   p50   p99 degraded p99 ms  errors"


def _line(name: str, seen: Seen) -> str:
    def total(kind: str) -> float:
        return sum(rate for what, rate in seen.outcomes.items() if what.startswith(kind))

    degraded = [
        value["p99"] for what, value in seen.latency_ms.items() if what.startswith("degraded")
    ]
    errors = {what: round(rate) for what, rate in seen.outcomes.items() if what.startswith("error")}
    return (
        f"{name:20} {seen.offered:7.0f} {seen.goodput:7.0f} {total('late'):5.0f}"
        f" {total('degraded'):8.0f} {total('error'):6.0f} {seen.good_ms('p50'):5.1f}"
        f" {seen.good_ms('p99'):5.1f} {max(degraded, default=0):15.1f}  {errors or ''}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="what the store is built from")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--deadline-ms", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--cores", type=int, default=1, help="cores of the server")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--flags", default="", help="more flags of the server, in one text")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--append", action="store_true", help="keep the runs of the file")
    return parser


if __name__ == "__main__":
    main()
