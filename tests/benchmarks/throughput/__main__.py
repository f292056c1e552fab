"""Measures training as the log grows, and a step of it against the same network in PyTorch.

    python -m tests.benchmarks.throughput

Growth: the tiny log's pages twice, 8 and 32 times over, one epoch each in a process of its own.
Writes the figures and prints them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from tests.benchmarks.throughput.growth import measure_growth, train_once
from trainer.atomic_text import write_text

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "tests" / "benchmarks" / "results" / "throughput.json"


def main() -> None:
    """Measure, write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        print(json.dumps(train_once(options.train)))
        return
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        growth = measure_growth(Path(folder))
    results = {
        "command": "python -m tests.benchmarks.throughput",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "load_before": round(os.getloadavg()[0], 1),
        "growth": growth,
    }
    text = json.dumps(results, indent=1)
    write_text(options.out, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
