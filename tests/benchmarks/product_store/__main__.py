"""Measures building, opening and asking product stores of 1 and 10 million products.

    python -m tests.benchmarks.product_store --work FOLDER [--sizes 1000000 10000000]

The results file keeps the figures of sizes measured before, so that each may have a run of its own.

Every step runs in a process of its own, so that its peak memory is its own. The bundle is
synthetic (128 wide vectors, a product graph of one matrix product), so the time of a build is that
of reading, tokenising and writing; `--bundle` names a real one whose golden pages say what float16
and int8 cost. Above `--full` products the float16 and int8 stores are made from the float32 one by
converting its vectors, for their build time follows from the smaller size; above `--from-lines`
the float32 store is assembled column by column, without JSON lines and product graph.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_server.contract.bundle import read_bundle
from rerank_server.cores import available_cores
from rerank_server.onnx_graph import open_graphs
from rerank_server.product_build import build_product_store
from rerank_server.product_columns import BLOCK_ROWS, ColumnReader, ColumnWriter
from rerank_server.product_ids import ProductIdWriter
from rerank_server.product_store import (
    COLUMN_TYPES,
    FORMAT_VERSION,
    ProductStore,
    StoreManifest,
    read_manifest,
    store_bytes,
    write_manifest,
)
from rerank_server.product_vectors import KINDS, VECTORS_FILE, VectorWriter, measure_loss
from rerank_server.store_memory import resident_memory
from tests.benchmarks.product_store.catalogue import (
    FACTORS,
    NEIGHBOURS,
    WIDTH,
    product_id,
    wide_bundle,
    write_snapshot,
)

RESULTS = Path(__file__).parents[1] / "results" / "product-store.json"
IDS, ROUNDS = 1_000, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--work", type=Path, required=True, help="scratch folder, emptied")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--full", type=int, default=1_000_000, help="largest size built thrice")
    parser.add_argument("--from-lines", type=int, default=10_000_000, help="largest size built")
    parser.add_argument("--bundle", type=Path, help="a real bundle, for the loss")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, *arguments = options.step
        print(json.dumps(_STEPS[name](options.work, *arguments)))
        return
    kept = json.loads(options.out.read_bytes()) if options.out.exists() else {}
    results = kept | measure(options, kept.get("stores", {}))
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace, stores_before: dict[str, Any]) -> dict[str, Any]:
    work = options.work
    shutil.rmtree(work, ignore_errors=True)
    wide_bundle(work / "bundle")
    sizes: dict[str, Any] = dict(stores_before)
    for size in options.sizes:
        shutil.rmtree(work / "snapshot", ignore_errors=True)
        from_lines = size <= options.from_lines
        if from_lines:
            write_snapshot(work / "snapshot", size)
        stores: dict[str, Any] = {}
        for kind in KINDS:
            name = "build"
            if kind != "float32" and size > options.full:
                name = "convert"
            elif not from_lines:
                name = "assemble"
            figures = {"made_by": _MADE_BY[name], **step(work, name, kind, str(size))}
            if kind == "float32" and size == min(options.sizes) and from_lines:
                figures["killed"] = step_killed(work, size)
            figures |= step(work, "ask", kind, str(size))
            stores[kind] = figures
            print(size, kind, figures, file=sys.stderr)
        sizes[str(size)] = stores
        for kind in KINDS:
            shutil.rmtree(work / kind)
    small, large = (sizes[str(size)] for size in (min(map(int, sizes)), max(map(int, sizes))))
    results: dict[str, Any] = {
        "command": "python -m tests.benchmarks.product_store",
        "machine": f"{platform.machine()}, {available_cores()} cores, shared with other work",
        "width": 128,
        "ids_of_a_lookup": IDS,
        "stores": sizes,
        "ratios_largest_to_smallest": {
            kind: {
                name: round(large[kind][name] / small[kind][name], 2)
                for name in ("bytes", "open_s", "lookup_p50_us", "lookup_min_us", "peak_mib")
            }
            for kind in KINDS
        },
    }
    if options.bundle is not None:
        bundle = read_bundle(options.bundle)
        graphs = open_graphs(bundle, threads=1)
        losses = {kind: measure_loss(bundle, graphs, kind) for kind in KINDS}
        results["loss_on_golden_pages"] = {
            "bundle_id": bundle.manifest.bundle_id,
            "pages": len(bundle.golden.pages),
            **{kind: asdict(loss) for kind, loss in losses.items() if loss},
        }
    shutil.rmtree(work)
    return results


def step(work: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", __package__ or "", "--work", str(work), "--step", *arguments],
        check=True,
        stdout=subprocess.PIPE,
    )
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def step_killed(work: Path, size: int) -> dict[str, Any]:
    """Kill a build of the float32 store at a third of its way, and let another go on."""
    store, aside = work / "float32", work / "aside"
    store.rename(aside)
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", __package__ or "", "--work", str(work)),
            *("--step", "build", "float32", str(size)),
        ],
        stdout=subprocess.DEVNULL,
    )
    note = work / ".float32.building" / "building.json"
    done = 0
    while done < size // 3 and child.poll() is None:
        time.sleep(0.2)
        try:
            done = json.loads(note.read_bytes())["products"]
        except (OSError, ValueError):
            continue
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = json.loads(note.read_bytes())["products"]
    figures = step(work, "build", "float32", str(size))
    equal = all(
        (store / path.name).read_bytes() == path.read_bytes()
        for path in aside.iterdir()
        if path.name != "store.json"
    )
    shutil.rmtree(aside)
    return {
        "products_kept": kept,
        "resumed_at": figures["first_progress"],
        "resumed_build_s": figures["build_s"],
        "files_equal_to_an_uninterrupted_build": equal,
    }


def build(work: Path, kind: str, size: str) -> dict[str, Any]:
    bundle = read_bundle(work / "bundle")
    graphs = open_graphs(bundle, threads=1)
    first: list[int] = []

    def seen(done: int, _: int) -> None:
        if not first:
            first.append(done)

    start = time.perf_counter()
    build_product_store(bundle, graphs, work / "snapshot", work / kind, seen, vectors=kind)
    took = time.perf_counter() - start
    return {
        "build_s": round(took, 1),
        "products_per_s": round(int(size) / took),
        "peak_mib": peak_mib(),
        "bytes": store_bytes(work / kind),
        "first_progress": first[0],
    }


def assemble(work: Path, kind: str, size: str) -> dict[str, Any]:
    bundle, count, folder = read_bundle(work / "bundle"), int(size), work / kind
    folder.mkdir()
    random = np.random.default_rng(1)
    start = time.perf_counter()
    shapes = {"levels": (2,), "attributes": (2,), "stats": (2,), "factors": (FACTORS,)}
    shapes |= dict.fromkeys(("neighbours", "neighbour_weights"), (NEIGHBOURS,))
    columns = {
        name: ColumnWriter(folder / f"{name}.npy", dtype, (count + 1, *shapes.get(name, ())))
        for name, dtype in COLUMN_TYPES.items()
    }
    vectors = VectorWriter(folder, kind, (count + 1, WIDTH))
    ids = ProductIdWriter(folder, count)
    for first in range(0, count + 1, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, count + 1 - first)
        ids.add([product_id(number) for number in range(first, min(first + rows, count))])
        vectors.append(random.standard_normal((rows, WIDTH), np.float32))
        for name, column in columns.items():
            column.append(np.zeros((rows, *shapes.get(name, ())), COLUMN_TYPES[name]))
    for column in columns.values():
        column.close()
    vectors.close()
    indexed = time.perf_counter()
    ids.close()
    np.save(folder / "gram.npy", np.eye(FACTORS))
    write_manifest(
        folder,
        StoreManifest(
            format_version=FORMAT_VERSION,
            bundle_id=bundle.manifest.bundle_id,
            products=count,
            rows=count,
            as_of_day=20_000,
            origin="0" * 32,
            vectors=kind,
        ),
    )
    return {
        "build_s": round(time.perf_counter() - start, 1),
        "index_s": round(time.perf_counter() - indexed, 1),
        "peak_mib": peak_mib(),
        "bytes": store_bytes(folder),
    }


def convert(work: Path, kind: str, size: str) -> dict[str, Any]:
    source, target = work / "float32", work / kind
    target.mkdir()
    for path in source.iterdir():
        if path.name not in {VECTORS_FILE, "store.json"}:
            os.link(path, target / path.name)
    reader = ColumnReader(source / VECTORS_FILE)
    writer = VectorWriter(target, kind, (int(size) + 1, reader.shape[1]))
    start = time.perf_counter()
    for block in reader.blocks():
        writer.append(block)
    writer.close()
    write_manifest(target, replace(read_manifest(source), vectors=kind))
    return {
        "build_s": round(time.perf_counter() - start, 1),
        "peak_mib": peak_mib(),
        "bytes": store_bytes(target),
    }


def ask(work: Path, kind: str, size: str) -> dict[str, Any]:
    for path in (work / kind).iterdir():  # so that opening reads the disk
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    bundle = read_bundle(work / "bundle")
    before = resident_memory()
    start = time.perf_counter()
    store = ProductStore.open(work / kind, bundle)
    opened = time.perf_counter() - start
    after = resident_memory()
    random = np.random.default_rng(2)
    pages = [
        [product_id(number) for number in random.integers(0, int(size), IDS).tolist()]
        for _ in range(ROUNDS)
    ]
    start = time.perf_counter()
    store.vectors[store.rows(pages[0])]
    first = time.perf_counter() - start
    cold = times(store.rows, pages)
    warm = times(store.rows, pages)
    assert int(store.rows(["nothing"])[0]) == int(size)
    for page in pages:
        assert (store.rows(page) == [int(product[:12]) for product in page]).all()
    rows = [store.rows(page) for page in pages]
    gather = times(lambda at: store.vectors[at], rows)
    asked = resident_memory()
    return {
        "open_s": round(opened, 4),
        "open_resident_mib": round((after.total - before.total) / 2**20, 1),
        "first_page_us": round(first * 1e6),
        "lookup_cold_p50_us": cold[1],
        "lookup_min_us": warm[0],
        "lookup_p50_us": warm[1],
        "lookup_p99_us": warm[2],
        "gather_p50_us": gather[1],
        "resident_mib_after_pages": round(asked.total / 2**20),
        "resident_file_mib_after_pages": round(asked.file / 2**20),
    }


def times(function: Callable[[Any], Any], arguments: list[Any]) -> list[int]:
    """Return the least, the median and the 99th percentile, in microseconds."""
    took = []
    for argument in arguments:
        start = time.perf_counter()
        function(argument)
        took.append(time.perf_counter() - start)
    return [round(value * 1e6) for value in np.percentile(took, [0, 50, 99]).tolist()]


def peak_mib() -> int:
    # ru_maxrss of a child begins with its parent's
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "build": build,
    "assemble": assemble,
    "convert": convert,
    "ask": ask,
}
_MADE_BY = {
    "build": "building it from JSON lines",
    "assemble": "writing its columns",
    "convert": "converting the vectors of the float32 store",
}

if __name__ == "__main__":
    main()
