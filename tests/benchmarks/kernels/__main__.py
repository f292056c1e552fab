"""Measures Paddle's matrix product with the chosen kernels and with MKL's own choice, as a ratio.

    python -m tests.benchmarks.kernels

Each round is a process of its own; rounds alternate between the two, so that whatever else the
machine does meets both alike. Writes the figures and prints them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from pathlib import Path

from tests.benchmarks.matrix_product import default_environment, matrix_product
from trainer.atomic_text import write_text
from trainer.training.kernels import prefer_fast_kernels

RESULTS = Path(__file__).parents[1] / "results" / "kernels.json"


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    default = default_environment(os.environ)
    chosen = dict(default)
    prefer_fast_kernels(chosen)
    seconds: dict[str, list[float]] = {"default": [], "chosen": []}
    for _ in range(options.rounds):
        for name, environment in (("default", default), ("chosen", chosen)):
            seconds[name].append(matrix_product(environment).seconds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    results = {
        "command": f"python -m tests.benchmarks.kernels --rounds {options.rounds}",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "product": "20 times (4096, 512) by (512, 512), float32",
        "changed": chosen != default,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio": round(medians["chosen"] / medians["default"], 3),
    }
    write_text(options.out, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
