"""The section "Measured" of the server's README, made of the results.

`python -m tests.benchmarks.server.section` writes it between its two marks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "tests" / "benchmarks" / "results"
README = ROOT / "rerank_server" / "README.md"
CANDIDATES, CALLERS = (10, 100, 1_000), (1, 4, 16, 64)
# Above this many runnable programs a core, speeds say nothing.
_BUSY = 2.0
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def section() -> str:
    """Return the text between the marks."""
    parts = [
        _server(_read("server")),
        _overload(_read("overload")),
        _observation(_read("observation")),
        _soak(_read("soak")),
        _fuzz(_read("fuzz")),
    ]
    return "\n\n".join(part for part in parts if part)


def with_section(readme: str) -> str:
    """Return the README with the section of now."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{section()}\n{END}{tail}"


def _read(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _circumstances(value: Any) -> str:
    load = value.get("load_average_after", value["load_average"])[0]
    return (
        f"{value['measured'][:10]}, {value['cores']} cores shared by servers, load generator and"
        f" other programs (load average {load:g})"
    )


def _server(value: Any) -> str:
    if value is None:
        return ""
    lines = [f"**Against general model servers** ({_circumstances(value)}).", ""]
    load = max(value["load_average"] + value["load_average_after"])
    if load > _BUSY * value["cores"]:
        lines += [
            f"Throughput and latency are not shown: other programs had most of the machine (load"
            f" average up to {load:g}). `make benchmark-server` on a quiet one shows them."
        ]
    else:
        lines += _speeds(value)
    for name, processes in value["memory_mib"].items():
        own = ", ".join(f"{one['own']:.0f}" for one in processes)
        together = sum(one["pss"] for one in processes)
        lines += [
            "",
            f"Memory of {name}: own MiB by process {own}; {together:.0f} MiB together, shared"
            " parts counted once.",
        ]
    for name, reason in value["missing"].items():
        lines += ["", f"Not measured: {name}: {reason}."]
    return "\n".join(lines)


def _speeds(value: Any) -> list[str]:
    names = list(next(iter(value["closed"].values())))
    lines = [
        "Pages/s, and p50 in ms. The peers get finished tensors and only score; crossrank and"
        " `plain grpcio with our features` get ids, look up, encode, score and order. Ratios of"
        " one row say more than its figures.",
        "",
        "| load | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for candidates in CANDIDATES:
        for callers in CALLERS:
            load = f"{candidates} candidates, {callers} callers"
            cells = [
                f"{one['per_s']:.0f} ({one['p50_ms']:.1f})"
                for one in value["closed"][load].values()
            ]
            lines.append(f"| {load} | " + " | ".join(cells) + " |")
    for candidates in CANDIDATES:
        times = value["in_process_ms"][str(candidates)]
        lines += [
            "",
            f"In process, {candidates} candidates: onnxruntime alone {times['onnxruntime']:.2f} ms,"
            f" the whole page {times['whole page']:.2f} ms.",
        ]
    opened = ", ".join(
        f"{name} {one['p50_ms']:.1f} / {one['p99_ms']:.1f}" for name, one in value["open"].items()
    )
    return [
        *lines,
        "",
        "Open load, 100 candidates, at 70 % of what each answers at 16 callers; p50 / p99 in ms"
        f" from when a call was due: {opened}.",
    ]


def _overload(value: Any) -> str:
    if value is None:
        return ""
    rows = []
    for run in value["runs"]:
        kept = run["kept_at_heaviest"]
        rows.append(
            f"| {run['flags'] or '(defaults)'} | {run['deadline_ms']:.0f} | {run['peak_per_s']:.0f}"
            f" | {kept:.0%} |"
        )
    return "\n".join(
        [
            f"**Past saturation** ({_circumstances(value['runs'][-1])}; the server on one of them,"
            " 100 candidates).",
            "",
            "| flags | deadline ms | peak pages/s | kept at 3 times the load |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _observation(value: Any) -> str:
    if value is None or "cpu_ratio" not in value:
        return ""
    on, noise = value["cpu_ratio"]["on"], value["cpu_ratio"]["off again"]
    return (
        f"**Being seen** (tokens with rates, metrics, a hundredth of the access log, traces):"
        f" {on - 1:+.1%} CPU per call, {value['throughput_ratio']['on'] - 1:+.1%} throughput; two"
        f" servers with all of it off differ by {noise - 1:+.1%} and"
        f" {value['throughput_ratio']['off again'] - 1:+.1%}."
    )


def _soak(value: Any) -> str:
    if value is None:
        return ""
    first, last = value["own_memory_mib"][0], value["own_memory_mib"][-1]
    calls = ", ".join(f"{count:,} {name}" for name, count in sorted(value["calls"].items()))
    failed = sum(count for name, count in value["calls"].items() if name.startswith("error"))
    cores = f", server and load on {value['cores']} core" if value["cores"] else ""
    return (
        f"**Changes under load**: {value['promotes']:,} promotes and {value['product_changes']:,}"
        f" upserts and deletes in {value['seconds']:,} s at {value['offered_per_s']} pages/s"
        f"{cores}: {calls}; {failed or 'none'} failed. Own memory of supervisor and processes after"
        f" the first twentieth {first}, at the end {last} MiB."
    )


def _fuzz(value: Any) -> str:
    if value is None:
        return ""
    inputs = sum(one["inputs"] for one in value["readers"])
    bad = [one["reader"] for one in value["readers"] if one["status"]]
    return (
        f"**Fuzzing** (Atheris, guided by coverage): {inputs:,} inputs to"
        f" {len(value['readers'])} readers, {len(bad) or 'no'} crash or hang, at most"
        f" {max(one['peak_mib'] for one in value['readers'])} MiB."
    )


if __name__ == "__main__":
    README.write_text(with_section(README.read_text(encoding="utf-8")), encoding="utf-8")
