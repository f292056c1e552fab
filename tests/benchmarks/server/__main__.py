"""Measures our server against general model servers around the same scorer, in one run.

    python -m tests.benchmarks.server --bundle BUNDLE --products PRODUCTS --snapshot SNAPSHOT

Ours gets product ids and a shopper's past, looks products up, encodes features, scores, orders and
applies its policy. The peers get the tensors that come of it, as one run of bytes, and only score.
All are offered the same pages by one load generator (`tests/benchmarks/load`): closed loads of 1,
4, 16 and 64 callers, then open loads whose latency counts from when each call was due. Servers,
peers and generator share the machine's cores, so ratios tell more than figures; the rounds go from
server to server, so that what else the machine does meets all alike. Peers are installed in
environments of their own under `var/benchmark/peers`; which could not be is said in the result.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_server.contract.graph_inputs import scorer_inputs
from rerank_server.convert import page_from_pb
from rerank_server.lookup import locate_page
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.reranker import Reranker
from tests.benchmarks.load.generator import Load, Seen, offer, write_pages
from tests.benchmarks.load.pages import make_pages, page_time, read_product_ids
from tests.benchmarks.load.results import circumstances, write_result
from tests.benchmarks.load.server import Server, running
from tests.benchmarks.server.peers.tensors import pack
from tests.benchmarks.server.section import CALLERS, CANDIDATES
from tests.benchmarks.server.setup import (
    METARANK,
    PEERS,
    MissingPeerError,
    Peer,
    last_error,
    peer_running,
    v2_requests,
)

OPEN_SHARE = 0.7
EVENTS = 100
DEADLINE_MS = 10_000.0


@dataclass(frozen=True)
class Target:
    """A server to measure.

    Attributes:
        address: host:port.
        pages: File of pages by candidates.
        flags: Of the load generator.
    """

    address: str
    pages: dict[int, Path]
    flags: tuple[str, ...] = ()


def main() -> None:
    """Measure and write the result."""
    options = _parser().parse_args()
    result: dict[str, Any] = circumstances() | {"events": EVENTS, "missing": dict(METARANK)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        reranker = Reranker.open(options.bundle, options.products, threads=1)
        files, tensors = _write_pages(reranker, options.snapshot, folder)
        result["in_process_ms"] = _in_process(reranker, options.snapshot)
        targets: dict[str, Target] = {}
        with running(options.bundle, options.products, ("--processes", "4")) as server:
            four = Target(server.address, files)
            result["memory_mib"] = {"crossrank, 4 processes": _memory(server, four)}
        for name, flags in _OURS.items():
            server = stack.enter_context(running(options.bundle, options.products, flags))
            targets[name] = Target(server.address, files)
            result["memory_mib"][name] = _memory(server, targets[name])
        for peer in PEERS:
            try:
                address = stack.enter_context(peer_running(peer, options.bundle, options.products))
                targets[peer.name] = (
                    _try(peer, Target(address, files))
                    if peer.features
                    else _target(peer, address, tensors, folder)
                )
            except MissingPeerError as missing:
                result["missing"][peer.name] = str(missing)
                print(f"{peer.name}: {missing}", flush=True)
        result["closed"] = _closed(targets, options.rounds, options.seconds)
        result["open"] = _open(targets, result["closed"], options.seconds)
        result["load_average_after"] = circumstances()["load_average"]
    write_result(options.out, result)


_OURS = {
    "crossrank": ("--processes", "1"),
    "crossrank, 2 processes": ("--processes", "2"),
}


def _write_pages(
    reranker: Reranker, snapshot: Path, folder: Path
) -> tuple[dict[int, Path], dict[int, list[bytes]]]:
    """Return our requests as files, and the tensors that come of them."""
    ids, now = read_product_ids(snapshot), page_time(snapshot)
    files, tensors = {}, {}
    for candidates in CANDIDATES:
        pages = make_pages(ids, candidates, EVENTS, now)
        messages = [page.SerializeToString() for page in pages]
        files[candidates] = write_pages(folder / f"ours-{candidates}", messages)
        tensors[candidates] = [pack(_tensors(reranker, page)) for page in pages]
    return files, tensors


def _tensors(reranker: Reranker, request: pb.RerankRequest) -> dict[str, Any]:
    page = page_from_pb(request)
    located = locate_page(page, reranker.bundle.schema, reranker.products)
    encoded = reranker._encode(page, located)
    query = reranker._queries.vector(page.query)
    return scorer_inputs([reranker._gather(located, encoded, query)])


def _in_process(reranker: Reranker, snapshot: Path) -> dict[str, dict[str, float]]:
    """Return milliseconds of onnxruntime alone and of our whole page, without a wire."""
    ids, now = read_product_ids(snapshot), page_time(snapshot)
    result = {}
    for candidates in CANDIDATES:
        requests = make_pages(ids, candidates, EVENTS, now)
        inputs = [_tensors(reranker, request) for request in requests]
        pages = [page_from_pb(request) for request in requests]
        graph = reranker.scorer._graph  # type: ignore[attr-defined]
        result[str(candidates)] = {
            "onnxruntime": _best_half_ms(graph, inputs),
            "whole page": _best_half_ms(reranker.rerank, pages),
        }
    return result


def _best_half_ms(call: Any, arguments: list[Any]) -> float:
    """Return the median of the faster half of 200 calls: what else runs makes the others slow."""
    times = []
    for number in range(200):
        began = time.perf_counter()
        call(arguments[number % len(arguments)])
        times.append(time.perf_counter() - began)
    return round(statistics.median(sorted(times)[:100]) * 1e3, 3)


def _memory(server: Server, target: Target) -> list[dict[str, float]]:
    offer(server.address, target.pages[100], Load(0, 1.0, DEADLINE_MS, connections=16))
    return [{name: round(value) for name, value in one.items()} for one in server.memory_mib()]


def _target(peer: Peer, address: str, tensors: dict[int, list[bytes]], folder: Path) -> Target:
    flags: tuple[str, ...] = ("-crossrank=false",)
    if peer.method:
        flags += ("-method", peer.method)
    files = {}
    for candidates, pages in tensors.items():
        path = folder / f"{peer.name.replace(' ', '-')}-{candidates}"
        if peer.http:
            flags = ("-crossrank=false", "-url", f"http://{address}{peer.http}")
        write_pages(path, [_json(page) for page in pages] if peer.http else pages)
        files[candidates] = v2_requests(path, peer.v2) if peer.v2 else path
    return _try(peer, Target(address, files, flags))


def _json(page: bytes) -> bytes:
    return json.dumps({"page": base64.b64encode(page).decode()}).encode()


def _try(peer: Peer, target: Target) -> Target:
    load = Load(0, 1.0, DEADLINE_MS, 1)
    seen = offer(target.address, target.pages[10], load, flags=target.flags)
    if not seen.goodput:
        raise MissingPeerError(f"got {', '.join(seen.outcomes)}, want answers; {last_error(peer)}")
    return target


def _closed(targets: dict[str, Target], rounds: int, seconds: float) -> dict[str, Any]:
    seen: dict[str, dict[str, list[Seen]]] = {}
    for _ in range(rounds):
        for candidates in CANDIDATES:
            for callers in CALLERS:
                for name, target in targets.items():
                    one = offer(
                        target.address,
                        target.pages[candidates],
                        Load(0, seconds, DEADLINE_MS, callers, connections=min(callers, 16)),
                        flags=target.flags,
                    )
                    key = f"{candidates} candidates, {callers} callers"
                    seen.setdefault(key, {}).setdefault(name, []).append(one)
                    print(
                        f"{key:32} {name:24} {one.goodput:8.0f}/s p50 {one.good_ms('p50'):8.2f} ms"
                    )
    return {
        key: {name: _figures(values) for name, values in by_name.items()}
        for key, by_name in seen.items()
    }


def _open(targets: dict[str, Target], closed: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Offer each server 70 % of what it answered at 16 callers, 100 candidates."""
    result = {}
    for name, target in targets.items():
        rate = OPEN_SHARE * closed["100 candidates, 16 callers"][name]["per_s"]
        load = Load(max(rate, 1.0), 2 * seconds, DEADLINE_MS, connections=16)
        seen = offer(target.address, target.pages[100], load, flags=target.flags)
        result[name] = _figures([seen]) | {"offered_per_s": round(rate, 1)}
        p50, p99 = seen.good_ms("p50"), seen.good_ms("p99")
        print(f"open {name:24} {rate:8.0f}/s p50 {p50:.2f} p99 {p99:.2f}")
    return result


def _figures(values: list[Seen]) -> dict[str, float]:
    def median(figures: list[float]) -> float:
        return round(statistics.median(figures), 3)

    failed = [
        sum(rate for what, rate in seen.outcomes.items() if what != "good") for seen in values
    ]
    return {
        "per_s": median([seen.goodput for seen in values]),
        "p50_ms": median([seen.good_ms("p50") for seen in values]),
        "p99_ms": median([seen.good_ms("p99") for seen in values]),
        "not_good_per_s": median(failed),
        "generator_cpu_us": median([seen.cpu_us for seen in values]),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="what the store is built from")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument(
        "--out", type=Path, default=Path("tests/benchmarks/results/server.json"), help="to write"
    )
    return parser


if __name__ == "__main__":
    main()
