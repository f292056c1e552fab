"""What an epoch costs as the log grows: seconds, and the memory that cannot be given back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from tests.benchmarks.throughput.repeated_log import write_repeated
from trainer.config import TrainConfig, read_config

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "trainer" / "configs" / "tiny.toml"
SIZES = (1, 4, 16)
_BASE = 2  # copies of the tiny log that are once
_EVERY_SECONDS = 0.02


def growth_config() -> TrainConfig:
    """Return a run of one epoch that is evaluated once, on as many pages whatever the size."""
    return replace(
        read_config(CONFIG), epochs=1, evaluations_per_epoch=1, validation_pages=64, trees=False
    )


def measure_growth(work: Path) -> list[dict[str, Any]]:
    """Return the figures of each size, every one trained in a process of its own."""
    from trainer.pipeline import prepare_and_encode  # noqa: PLC0415  it brings Paddle

    log = prepare_and_encode(CONFIG, growth_config(), work, progress=False)
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        folder = work / f"times-{size}"
        write_repeated(log, _BASE * size, folder)
        command = [sys.executable, "-m", "tests.benchmarks.throughput", "--train", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        rows.append({"size": size, **json.loads(done.stdout.splitlines()[-1])})
        sys.stderr.write(json.dumps(rows[-1]) + "\n")
    for row in rows:
        for name in ("rows", "seconds", "cpu_seconds", "held_mib"):
            row[f"{name}_ratio"] = round(row[name] / rows[0][name], 2)
    return rows


def train_once(folder: Path) -> dict[str, Any]:
    """Train an epoch on the log in `folder`; return seconds and memory of the training."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

    from trainer.encoding.catalogue import read_catalogue  # noqa: PLC0415
    from trainer.encoding.dataset import read_prepared  # noqa: PLC0415
    from trainer.encoding.encoded import read_encoded  # noqa: PLC0415
    from trainer.training.train import train  # noqa: PLC0415

    log = read_encoded(read_prepared(folder / "prepared"), folder / "encoded")
    with threadpool_limits(1, "blas"):
        catalogue = read_catalogue(log.prepared)
    config = replace(growth_config(), objectives=log.schema.objectives[:3])
    with sampled() as peak:
        began, busy = perf_counter(), process_time()
        result = train(config, log, catalogue, folder / "run", progress=False)
        seconds, busy = perf_counter() - began, process_time() - busy
    return {
        "pages": int(log.splits.size),
        "rows": int(log.offsets[-1]),
        "dense_mib": round(log.dense.nbytes / 2**20, 1),
        "steps": result.progress.step,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(busy, 2),
        "held_mib": round(peak["RssAnon"] / 2**10, 1),
        "mapped_mib": round(peak["RssFile"] / 2**10, 1),
    }


@contextmanager
def sampled() -> Iterator[dict[str, int]]:
    """Yield the largest `RssAnon` and `RssFile` seen so far, KiB, looked at every 20 ms."""
    peak = {"RssAnon": 0, "RssFile": 0}
    done = threading.Event()

    def look() -> None:
        while not done.wait(_EVERY_SECONDS):
            status = Path("/proc/self/status").read_text(encoding="ascii")
            for name, value in re.findall(r"(RssAnon|RssFile):\s+(\d+) kB", status):
                peak[name] = max(peak[name], int(value))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
