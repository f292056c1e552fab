"""Measures what preparing a log costs as the log grows: seconds and peak memory, as ratios.

    python -m tests.benchmarks.preparation

A quarter, a half and all of the households of the Complete Journey log are prepared, with limits
on pages that grow alike, so that there is once, twice and four times as much to do. The catalogue
and the promotions are the whole ones every time. Each size is prepared by a process of its own,
whose CPU time and peak of resident memory the kernel tells; other programs disturb these least.
Writes the figures and prints them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from trainer.atomic_text import write_text
from trainer.logs.complete_journey import package_folder, source_files
from trainer.logs.log_config import LogConfig, read_log_config

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "trainer" / "configs" / "complete_journey_log.toml"
RESULTS = ROOT / "tests" / "benchmarks" / "results" / "preparation.json"
ALL = 4
SIZES = (1, 2, ALL)
_KIBIBYTES_PER_GIBIBYTE = 1 << 20


def write_part(folder: Path, quarters: int) -> int:
    """Write the log of so many quarters of the households into `folder`; return its lines."""
    sources = source_files(package_folder())
    lines = pl.read_parquet(sources["transactions"])
    lines = lines.filter(pl.col("household_id").cast(pl.Int64) % ALL < quarters)
    lines.write_parquet(folder / "transactions.parquet")
    for table in ("products", "promotions"):
        (folder / f"{table}.parquet").symlink_to(sources[table])
    return lines.height


def write_config(folder: Path, quarters: int) -> Path:
    """Write the log's configuration with so many quarters of the pages; return its path."""
    config: LogConfig = read_log_config(CONFIG)
    lines = [
        f'adapter = "complete_journey"\nfolder = "{folder}"\n',
        *(f"{name} = {getattr(config, name).isoformat()}\n" for name in (
            "train_from", "validation_from", "test_from")),
    ]  # fmt: skip
    defaults = {field.name: field.default for field in dataclasses.fields(LogConfig)}
    written = {"adapter", "folder", "train_from", "validation_from", "test_from"}
    for name, default in defaults.items():
        value = getattr(config, name)
        if name in ("search_pages", "promotion_pages"):
            lines.append(f"{name} = {[quarters * limit // ALL for limit in value]}\n")
        elif name not in written and value != default:
            lines.append(f"{name} = {json.dumps(value)}\n")
    path = folder / "log.toml"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def measure(quarters: int, folder: Path) -> dict[str, Any]:
    """Prepare so many quarters of the log in a process of its own; return the figures."""
    folder.mkdir()
    lines = write_part(folder, quarters)
    config = write_config(folder, quarters)
    command = [sys.executable, "-m", "tests.benchmarks.preparation", "--prepare", str(config)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return {
        "households": quarters / ALL,
        "lines": lines,
        **json.loads(done.stdout.splitlines()[-1]),
    }


def prepare_once(config: Path) -> None:
    """Prepare, and print seconds, peak memory and counts as one line of JSON."""
    from trainer.logs.prepare import prepare  # noqa: PLC0415  imported in the measured process alone

    began = perf_counter()
    folder = prepare(config, config.parent / "out", progress=False)
    seconds = perf_counter() - began
    counts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["counts"]
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "pages": counts["pages"],
                "candidates": counts["candidates"],
                "seconds": round(seconds, 1),
                "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
                "peak_gib": round(used.ru_maxrss / _KIBIBYTES_PER_GIBIBYTE, 2),
            }
        )
    )


def main() -> None:
    """Measure every size, write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare is not None:
        prepare_once(options.prepare)
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="preparation-") as folder:
        for quarters in SIZES:
            rows.append(measure(quarters, Path(folder) / str(quarters)))
            print(json.dumps(rows[-1]), flush=True)
    first = rows[0]
    for row in rows:
        for name in ("lines", "seconds", "cpu_seconds", "peak_gib"):
            row[f"{name}_ratio"] = round(row[name] / first[name], 2)
    results = {
        "command": "python -m tests.benchmarks.preparation",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "sizes": rows,
    }
    write_text(options.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
