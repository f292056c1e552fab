"""Fuzzes a reader guided by its coverage, with Atheris (libFuzzer); needs `pip install atheris`.

    python -m tests.rerank_server.faults.fuzz "policy" --runs 200000

Ends with status 0 after that many inputs; a crash, a hang of 10 s or 2 GiB of memory ends it
before, and the input is written to a file. Each run prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

atheris = import_module("atheris")  # not in the environment of the tests

with atheris.instrument_imports(include=["rerank_server"]):
    from tests.rerank_server.faults.readers import READERS, read, seeds


def fuzz(name: str, runs: int, folder: str) -> None:
    """Read `runs` inputs; ends the process."""
    (Path(folder) / "good").write_bytes(seeds()[name])
    arguments = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=20000"]
    inputs = 0

    def one(data: bytes) -> None:
        nonlocal inputs
        inputs += 1
        read(name, data)
        if inputs >= runs:
            os._exit(0)  # libFuzzer would wait for threads that the fork left behind

    atheris.Setup([sys.argv[0], *arguments, "-verbosity=0", folder], one)
    atheris.Fuzz()


def main() -> None:
    """Fuzz one reader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--runs", type=int, default=200_000)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("fork").Process(
            target=fuzz, args=(options.reader, options.runs, folder)
        )
        process.start()
        process.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "reader": options.reader,
        "inputs": options.runs,
        "status": process.exitcode,
        "seconds": round(time.monotonic() - began),
        "peak_mib": used.ru_maxrss // 1024,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
