"""Changes the bundle of a loaded server again and again, and watches failures and memory.

    python -m tests.benchmarks.soak --promotes 1000

Two tiny bundles of opposite order take turns behind two processes: load, canary of half of the
shoppers, promote. The load is open, at 70 % of what the server answers at 16 callers; the policy's
file is written anew with every tenth promote. The result says how long it ran, what every call
came to, and the memory of each process over time.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from rerank_server.contract.bundle import write_bundle
from rerank_server.pb import admin_pb2
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from tests.benchmarks.load.generator import Load, offer, write_pages
from tests.benchmarks.load.pages import make_pages
from tests.benchmarks.load.results import circumstances, write_result
from tests.benchmarks.load.server import Server, running
from tests.rerank_server.tiny_bundle import (
    NOW,
    PRODUCTS,
    tiny_content,
    tiny_graph_bytes,
    write_tiny_bundle,
    write_tiny_store,
)

LOAD_SHARE = 0.7
_CHUNK_S = 10.0
_DEADLINE_MS = 2_000.0


class Offering:
    """Offers an open load, ten seconds at a time, until stopped."""

    def __init__(self, address: str, pages: Path, rate: float) -> None:
        self.outcomes: Counter[str] = Counter()
        self.p99_ms: list[float] = []
        self._stop = threading.Event()
        self._load = Load(rate, _CHUNK_S, _DEADLINE_MS, connections=8)
        self._address, self._pages = address, pages
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            seen = offer(self._address, self._pages, self._load)
            for name, rate in seen.outcomes.items():
                self.outcomes[name] += round(rate * _CHUNK_S)
            self.p99_ms.append(round(seen.good_ms("p99"), 1))

    def stop(self) -> None:
        """End after the chunk under way."""
        self._stop.set()
        self._thread.join()


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--promotes", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("tests/benchmarks/results/soak.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folders = _two_bundles(folder)
        policy = folder / "policy.toml"
        _write_policy(policy, 0)
        ids = [product[0] for product in PRODUCTS]
        messages = [page.SerializeToString() for page in make_pages(ids, 20, 8, NOW)]
        pages = write_pages(folder / "pages", messages)
        flags = ["--processes", str(options.processes), "--admin", "--policy", str(policy)]
        with running(*folders[0], flags) as server:
            closed = offer(server.address, pages, Load(0, 3, _DEADLINE_MS))
            result = circumstances() | {"promotes": options.promotes}
            result |= _soak(server, pages, folders, policy, options.promotes, closed.goodput)
    write_result(options.out, result)


def _soak(
    server: Server,
    pages: Path,
    folders: list[tuple[Path, Path]],
    policy: Path,
    promotes: int,
    goodput: float,
) -> dict[str, Any]:
    began = time.monotonic()
    offering = Offering(server.address, pages, LOAD_SHARE * goodput)
    memory: list[list[int]] = []
    try:
        with grpc.insecure_channel(server.address) as channel:
            admin = AdminServiceStub(channel)
            for number in range(1, promotes + 1):
                _promote(admin, *folders[number % 2])
                if number % 10 == 0:
                    _write_policy(policy, number)
                if number % max(promotes // 20, 1) == 0:
                    memory.append([round(one["own"]) for one in server.memory_mib()])
                    print(number, "promotes,", memory[-1], "MiB of own memory", flush=True)
    finally:
        offering.stop()
    return {
        "seconds": round(time.monotonic() - began),
        "offered_per_s": round(LOAD_SHARE * goodput),
        "calls": dict(offering.outcomes),
        "p99_ms": offering.p99_ms,
        "own_memory_mib": memory,
    }


def _promote(admin: AdminServiceStub, bundle: Path, products: Path) -> None:
    folders = {"bundle_path": str(bundle), "products_path": str(products)}
    admin.LoadBundle(admin_pb2.LoadBundleRequest(**folders), timeout=120)
    admin.DivertPages(admin_pb2.DivertPagesRequest(canary_percent=50), timeout=60)
    admin.PromoteBundle(admin_pb2.PromoteBundleRequest(), timeout=60)


def _two_bundles(folder: Path) -> list[tuple[Path, Path]]:
    first, second = folder / "first", folder / "second"
    first.mkdir()
    second.mkdir()
    write_tiny_store(first / "products", write_tiny_bundle(first / "bundle"), first / "snapshot")
    other = write_bundle(second / "bundle", tiny_content(tiny_graph_bytes(sign=-1.0)))
    write_tiny_store(second / "products", other, second / "snapshot")
    return [(place / "bundle", place / "products") for place in (first, second)]


def _write_policy(path: Path, number: int) -> None:
    temporary = path.with_suffix(".tmp")
    rule = f'[[boost]]\nname = "own brand"\nbrands = ["Acme"]\nadd = {number % 7 / 100 + 0.01}\n'
    temporary.write_text(rule, encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    main()
