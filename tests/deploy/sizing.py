"""The table of `deploy/SIZING.md`, computed from the recorded benchmarks.

`python -m tests.deploy.sizing` writes it between its two marks.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "benchmarks" / "results"
DOCUMENT = ROOT / "deploy" / "SIZING.md"
BEGIN, END = "<!-- sizes: begin -->", "<!-- sizes: end -->"

SHOPS = (1, 50, 2_000)  # searches a second, at the peak of the day
GOOD_SHARE = 0.99  # of the pages, reranked before their deadline
UTILISATION = 0.6
CORES_PER_SERVER = 2
# Assumed: gateway.json has only what passing on costs.
GATEWAY_RERANKED_CPU_MS = 4.0
SEARCH_BYTES = 3_000  # one document of telemetry at 59 candidates, before compression
STREAM_DAYS = 30
DAY_TO_PEAK = 0.4  # mean of a day, as a share of its peak
_GIB = 1024**3
_MIB_PER_GIB = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """What the benchmarks say.

    Attributes:
        pages_per_core_s: Pages a second of one core, of which `GOOD_SHARE` were good.
        candidates: Of each page.
        deadline_ms: Of each page.
        server_mib: Memory of one server process, without the product store.
        gateway_pass_ms: CPU of a search that the gateway only passes on.
        load_average: Of the machine when the pages were measured.
        cores: Of that machine.
    """

    pages_per_core_s: float
    candidates: int
    deadline_ms: int
    server_mib: float
    gateway_pass_ms: float
    load_average: float
    cores: int


@dataclass(frozen=True, slots=True)
class Size:
    """What one shop needs.

    Attributes:
        searches_s: At the peak.
        servers: Pods or machines, one more than the load needs.
        gateway_cores: Cores of the gateways together.
        gateways: Processes of the gateway; one uses one core.
        candidates_in_flight: Of one server, above which another is started.
        spool_gib: What an hour without Elasticsearch leaves on the gateways' disks.
        stream_gib: `crossrank-searches` before compression, one copy.
    """

    searches_s: int
    servers: int
    gateway_cores: float
    gateways: int
    candidates_in_flight: int
    spool_gib: float
    stream_gib: float


def read_measured(results: Path = RESULTS) -> Measured:
    """Return what is recorded in `results`: overload.json, server.json and gateway.json.

    Of the runs of overload.json the slowest counts: of each the heaviest load whose pages were
    nearly all good.
    """
    runs = _read(results / "overload.json")["runs"]
    rates = {number: _sustained(run) for number, run in enumerate(runs)}
    slowest = runs[min(rates, key=lambda number: rates[number])]
    memory = _read(results / "server.json")["memory_mib"]["crossrank"]
    passing = _read(results / "gateway.json")["requests"]["search"]["cpu_ms_per_request"]
    return Measured(
        pages_per_core_s=min(rates.values()),
        candidates=int(slowest["candidates"]),
        deadline_ms=int(slowest["deadline_ms"]),
        server_mib=float(memory[0]["own"]),
        gateway_pass_ms=float(passing["gateway"]),
        load_average=float(slowest["load_average"][0]),
        cores=int(slowest["cores"]),
    )


def _sustained(run: dict[str, Any]) -> float:
    """Return good pages a second of one core at the heaviest open load that was nearly all good.

    Where no load was, the good pages of the lightest one.
    """
    open_loads = [load for name, load in run["loads"].items() if name.startswith("open")]
    good = [(load["outcomes"].get("good", 0.0), load["offered"]) for load in open_loads]
    kept = [rate for rate, offered in good if rate >= GOOD_SHARE * offered]
    rate = max(kept) if kept else min(good, key=lambda pair: pair[1])[0]
    return float(rate) / int(run["server_cores"])


def size_of(searches_s: int, measured: Measured) -> Size:
    """Return what a shop with `searches_s` at its peak needs."""
    cores = searches_s / (measured.pages_per_core_s * UTILISATION)
    gateway_cores = searches_s * GATEWAY_RERANKED_CPU_MS / 1_000 / UTILISATION
    return Size(
        searches_s=searches_s,
        servers=max(1, math.ceil(cores / CORES_PER_SERVER)) + 1,
        gateway_cores=gateway_cores,
        gateways=max(1, math.ceil(gateway_cores)) + 1,
        candidates_in_flight=round(UTILISATION * CORES_PER_SERVER * measured.candidates),
        spool_gib=searches_s * 3_600 * SEARCH_BYTES / _GIB,
        stream_gib=searches_s * DAY_TO_PEAK * 86_400 * STREAM_DAYS * SEARCH_BYTES / _GIB,
    )


def table(measured: Measured) -> str:
    """Return the text between the marks."""
    lines = [
        f"One core reranks {measured.pages_per_core_s:.0f} pages/s of {measured.candidates}"
        f" candidates with {GOOD_SHARE:.0%} of them within {measured.deadline_ms} ms"
        f" (`overload.json`: slowest run; its {measured.cores} cores had a load average of"
        f" {measured.load_average:g} from other programs, so a quiet core does more).",
        "",
        "| searches/s at the peak | servers of 2 cores | gateways of 1 core | HPA: candidates in"
        " flight of a server | spool, 1 h without Elasticsearch | `crossrank-searches`, 30 days |",
        "|---|---|---|---|---|---|",
    ]
    for shop in SHOPS:
        size = size_of(shop, measured)
        lines.append(
            f"| {shop:,} | {size.servers} | {size.gateways} | {size.candidates_in_flight} |"
            f" {_amount(size.spool_gib)} | {_amount(size.stream_gib)} |"
        )
    lines += [
        "",
        f"Memory of a server: {measured.server_mib:.0f} MiB (`server.json`) and the product store,"
        " which should stay in the page cache.",
    ]
    return "\n".join(lines)


def with_table(document: str) -> str:
    """Return the document with the table of now."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table(read_measured())}\n{END}{tail}"


def _amount(gib: float) -> str:
    if gib < 1:
        return f"{gib * _MIB_PER_GIB:.0f} MiB"
    return f"{gib:,.0f} GiB" if gib < _MIB_PER_GIB else f"{gib / _MIB_PER_GIB:.1f} TiB"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
