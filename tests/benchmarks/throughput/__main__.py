"""Measures training as the log grows, and a step of it against the same network in PyTorch.

    python -m tests.benchmarks.throughput

Growth: the tiny log's pages twice, 8 and 32 times over, one epoch each in a process of its own.
Step: forward, loss, backward, clipping and AdamW of the default network on the tiny log, by turns
in both; only where PyTorch is installed, which is no dependency of this repository (`--threads`).
Writes the figures and prints them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from trainer.training.kernels import prefer_fast_kernels

prefer_fast_kernels(os.environ)  # before anything imports Paddle

from tests.benchmarks.throughput.growth import measure_growth, train_once  # noqa: E402
from trainer.atomic_text import write_text  # noqa: E402

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "tests" / "benchmarks" / "results" / "throughput.json"


def main() -> None:
    """Measure, write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help="of both (default: %(default)s)")
    options = parser.parse_args()
    if options.train is not None:
        print(json.dumps(train_once(options.train)))
        return
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        growth = measure_growth(Path(folder))
        step = _step(Path(folder), options.threads)
    results = {
        "command": "python -m tests.benchmarks.throughput",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "load_before": round(os.getloadavg()[0], 1),
        "growth": growth,
        "step": step,
    }
    text = json.dumps(results, indent=1)
    write_text(options.out, text + "\n")
    print(text)


def _step(work: Path, threads: int) -> dict[str, Any] | str:
    try:
        import torch  # type: ignore[import-not-found]  # noqa: F401, PLC0415
    except ImportError as error:
        return f"not measured: {error}"
    from tests.benchmarks.throughput.step import measure_step  # noqa: PLC0415

    return measure_step(work, threads)


if __name__ == "__main__":
    main()
