"""Changes all that a loaded server serves again and again, and watches failures and memory.

    python -m tests.benchmarks.soak --promotes 1000 --minutes 60

Two tiny bundles of opposite order take turns: load, canary of half of the shoppers, promote.
Meanwhile products are upserted and deleted every second, and the policy's file is written anew
with every tenth promote. The load is open, at 70 % of what the server answers at 16 callers. The
promotes are spread over the minutes. The result says how long it ran, what every call came to, how
many changes of products were behind in a process when they were acknowledged, and the memory of
each process over time; `--cores 1` keeps server and load on so many cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
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


class Changing:
    """Upserts products, and deletes one, every second until the block ends.

    Attributes:
        done: Changes that were acknowledged.
        behind: Those of them that some process did not show yet.
    """

    def __init__(self, address: str) -> None:
        self.done = 0
        self.behind = 0
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Changing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            admin = AdminServiceStub(channel)
            number = 0
            while not self._stop.wait(1.0):
                number += 1
                products = [_product(f"new-{(number + k) % 50}", number) for k in range(5)]
                deleted = [f"new-{(number + 7) % 50}"]
                try:
                    put = admin.UpsertProducts(
                        admin_pb2.UpsertProductsRequest(products=products), timeout=30
                    )
                    gone = admin.DeleteProducts(
                        admin_pb2.DeleteProductsRequest(product_ids=deleted), timeout=30
                    )
                except grpc.RpcError as error:
                    # full until the changes before are compacted: a caller tries again
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                else:
                    self.done += len(products) + len(deleted)
                    self.behind += len(products) * (put.processes_behind > 0)
                    self.behind += len(deleted) * (gone.processes_behind > 0)


@dataclass(frozen=True)
class Rounds:
    """What is promoted and when.

    Attributes:
        folders: Bundle and products of each of the two that take turns.
        policy: The policy's file.
        count: Promotes in all.
        every_s: Seconds from one to the next; 0 promotes at once.
    """

    folders: list[tuple[Path, Path]]
    policy: Path
    count: int
    every_s: float


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--promotes", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="to spread them over")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--cores", type=int, default=0, help="of server and load; 0 takes all")
    parser.add_argument("--out", type=Path, default=Path("tests/benchmarks/results/soak.json"))
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.cores :])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folders = _two_bundles(folder)
        policy = folder / "policy.toml"
        _write_policy(policy, 0)
        ids = [product[0] for product in PRODUCTS]
        messages = [page.SerializeToString() for page in make_pages(ids, 20, 8, NOW)]
        pages = write_pages(folder / "pages", messages)
        flags = ["--processes", str(options.processes), "--admin", "--policy", str(policy)]
        flags += ["--changes", str(folder / "changes")]
        with running(*folders[0], flags) as server:
            offer(server.address, pages, Load(0, 2, _DEADLINE_MS))  # warms up
            closed = offer(server.address, pages, Load(0, 5, _DEADLINE_MS))
            result = circumstances() | {"promotes": options.promotes, "cores": options.cores}
            with Changing(server.address) as changing:
                every_s = 60 * options.minutes / options.promotes
                rounds = Rounds(folders, policy, options.promotes, every_s)
                result |= _soak(server, pages, rounds, closed.goodput)
            result["product_changes"] = changing.done
            result["product_changes_behind"] = changing.behind
    write_result(options.out, result)


def _soak(server: Server, pages: Path, rounds: Rounds, goodput: float) -> dict[str, Any]:
    began = time.monotonic()
    offering = Offering(server.address, pages, LOAD_SHARE * goodput)
    memory: list[list[int]] = []
    try:
        with grpc.insecure_channel(server.address) as channel:
            admin = AdminServiceStub(channel)
            for number in range(1, rounds.count + 1):
                time.sleep(max(began + (number - 1) * rounds.every_s - time.monotonic(), 0))
                _promote(admin, *rounds.folders[number % 2])
                if number % 10 == 0:
                    _write_policy(rounds.policy, number)
                if number % max(rounds.count // 20, 1) == 0:
                    memory.append([round(one["own"]) for one in server.memory_mib()])
                    seen = dict(offering.outcomes)
                    print(number, "promotes,", memory[-1], "MiB of own memory,", seen, flush=True)
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


def _product(name: str, number: int) -> admin_pb2.Product:
    return admin_pb2.Product(
        id=name,
        text="fresh milk",
        category="dairy" if number % 2 else "pet",
        columns={"price": number % 9 + 1.0, "sales_28d": 2.0},
    )


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
