"""A server that is killed at random moments while its products change, again and again.

    python -m tests.rerank_server.killed_server --kills 200 [--out RESULTS.json]

Each round starts a real server process with little room for changes, so that it compacts all the
time; a client changes products over gRPC and remembers what was acknowledged, until SIGKILL. Then
the log and the store are opened and compared: every acknowledged change is there, of the one that
was under way all or nothing, and no product is half of one version.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from rerank_server.bundle_store import BundleStore
from rerank_server.doors import Doors
from rerank_server.live_products import LiveProducts
from rerank_server.pb import admin_pb2
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from rerank_server.reranker import Reranker
from tests.rerank_server.changing import version_of
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.tiny_bundle import write_tiny_bundle, write_tiny_store

NAMES = [f"p{number}" for number in range(12)]
SPARE_ROWS = 48
_BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED,)
_MODULE = "tests.rerank_server.killed_server"


@dataclass
class Folders:
    bundle: Path
    products: Path


@dataclass
class Acknowledged:
    """What the client knows.

    Attributes:
        versions: Version of each product by its last acknowledged change; 0 is deleted.
        under_way: Versions of the change whose acknowledgement never came.
        changes: How many were acknowledged.
    """

    versions: dict[str, int] = field(default_factory=dict)
    under_way: dict[str, int] = field(default_factory=dict)
    changes: int = 0


@dataclass
class Kills:
    """What the rounds came to."""

    kills: int = 0
    acknowledged: int = 0
    under_way_there: int = 0
    under_way_not_there: int = 0
    compacted_stores: int = 0
    left_behind: int = 0


def kill_again_and_again(work: Path, kills: int, seed: int = 0) -> Kills:
    """Kill a server `kills` times and check what is left after each."""
    folders = Folders(work / "bundle", work / "products")
    bundle = write_tiny_bundle(folders.bundle)
    write_tiny_store(folders.products, bundle, work / "snapshot")
    chance = random.Random(seed)
    known, seen = Acknowledged(), Kills()
    for _ in range(kills):
        known.under_way = {}
        before = known.changes
        _one_life(work, chance, known)
        seen.kills += 1
        seen.acknowledged += known.changes - before
        _check(folders, work / "changes", known, seen)
    return seen


def _one_life(work: Path, chance: random.Random, known: Acknowledged) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", _MODULE, "--serve", str(work)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        until = time.monotonic() + chance.uniform(0.0, 0.8)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            admin = AdminServiceStub(channel)
            killer = _kill_at(child, until)
            while change(admin, chance, known):
                pass
            killer.join()
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _kill_at(child: subprocess.Popen[str], until: float) -> Any:
    import threading  # noqa: PLC0415

    def kill() -> None:
        time.sleep(max(until - time.monotonic(), 0))
        os.kill(child.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def change(admin: Any, chance: random.Random, known: Acknowledged) -> bool:
    """Change some products; False once the server is gone."""
    names = chance.sample(NAMES, chance.randint(1, 6))
    deleted = chance.random() < 0.2
    version = max([0, *known.versions.values(), *known.under_way.values()]) + 1
    known.under_way = dict.fromkeys(names, 0 if deleted else version)
    try:
        if deleted:
            admin.DeleteProducts(admin_pb2.DeleteProductsRequest(product_ids=names), timeout=20)
        else:
            products = [_product(name, version) for name in names]
            admin.UpsertProducts(admin_pb2.UpsertProductsRequest(products=products), timeout=20)
    except grpc.RpcError as error:
        if error.code() in _BUSY:  # compaction is behind; nothing was changed
            known.under_way = {}
            time.sleep(0.02)
            return True
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    known.versions |= known.under_way
    known.under_way = {}
    known.changes += 1
    return True


def _product(name: str, version: int) -> admin_pb2.Product:
    return admin_pb2.Product(
        id=name,
        text="fresh milk",
        category="dairy" if version % 2 else "pet",
        columns={"price": version, "sales_28d": 2 * version},
    )


def _check(folders: Folders, changes: Path, known: Acknowledged, seen: Kills) -> None:
    reranker = Reranker.open(folders.bundle, folders.products, threads=1)
    live = LiveProducts(changes)
    live.attach(reranker, folders.products)
    got = {name: version_of(reranker.products, name) for name in NAMES}
    live.close()
    without = {name: known.versions.get(name, 0) for name in NAMES}
    assert got in (without, without | known.under_way), (got, without, known.under_way)
    if known.under_way and got == without | known.under_way != without:
        seen.under_way_there += 1
        known.versions |= known.under_way
    elif known.under_way:
        seen.under_way_not_there += 1
    seen.compacted_stores = max(
        [seen.compacted_stores, *(int(path.name[-15:]) for path in changes.glob("store-*"))]
    )
    seen.left_behind = sum(1 for _ in changes.glob(".store-*"))


async def _serve(work: Path) -> None:
    folders = Folders(work / "bundle", work / "products")
    reranker = Reranker.open(folders.bundle, folders.products, threads=1)
    live = LiveProducts(work / "changes", spare_rows=SPARE_ROWS)
    live.attach(reranker, folders.products)
    bundles = BundleStore(reranker, Reranker.open)

    def exchange(held: Reranker, store: Any) -> Reranker | None:
        other = held.with_products(store)
        return other if bundles.exchange(held, other) else None

    live.follow(exchange)
    server = tiny_rerank_server(bundles, doors=Doors(admin=True, changes=live))
    sys.stdout.write(f"{await server.start('127.0.0.1', 0)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(_serve(options.serve))
        return
    with tempfile.TemporaryDirectory() as work:
        seen = kill_again_and_again(Path(work), options.kills, options.seed)
    text = json.dumps({"command": " ".join(sys.orig_argv[1:]), **vars(seen)}, indent=1)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
