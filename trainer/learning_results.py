"""The learning benchmark's results file, one entry per data set, and its section of the README."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.atomic_text import write_text
from trainer.errors import ConfigError
from trainer.evaluation import to_json
from trainer.formats.folder import Reading
from trainer.learning_benchmark import NETWORK, TREES, LearningResult
from trainer.learning_data import KNOWN_DATA
from trainer.learning_parts import LearningBudget
from trainer.provenance import code_commit, command_line, describe_environment, now

RESULTS = "learning.json"
BEGIN = "<!-- learning: begin, written by `make benchmark-learning` -->"
END = "<!-- learning: end -->"


def write_learning(
    out: Path, name: str, result: LearningResult, reading: Reading, budget: LearningBudget
) -> Path:
    """Put the result of one data set into `<out>/learning.json`, beside those of others."""
    path = out / RESULTS
    value = read_learning(path)
    limits = asdict(reading.limits)
    value["data_sets"][name] = {
        "command": command_line(),
        "commit": code_commit(),
        "evaluated": now(),
        "environment": describe_environment(),
        "format": result.pages.format,
        "protocol": result.pages.protocol,
        "facts": result.pages.facts,
        "limits": limits,
        "budget": asdict(budget),
        "seeds": list(range(1, 1 + budget.seeds)),
        "costs": result.costs,
        "trees_factors": result.factors,
        "parts": [asdict(part.origin) | {"facts": part.facts} for part in result.parts],
        "evaluation": to_json(result.evaluation),
        "network_differences": {
            task: {ranking: asdict(value.all) for ranking, value in differences.items()}
            for task, differences in result.network_differences.items()
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, indent=1) + "\n")
    return path


def read_learning(path: Path) -> dict[str, Any]:
    """Return the results file, or an empty one where there is none."""
    if not path.exists():
        return {"format_version": 1, "data_sets": {}}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def learning_markdown(results: dict[str, Any]) -> str:
    """Return the table of every data set as Markdown, losses beside wins, and what is missing."""
    parts = [_section(name, entry) for name, entry in sorted(results["data_sets"].items())]
    missing = [data for data in KNOWN_DATA if data.name not in results["data_sets"]]
    if missing:
        lines = [f"- {data.name}: {data.obtain}." for data in missing]
        parts.append("Not run, with how to obtain them:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _section(name: str, entry: dict[str, Any]) -> str:
    evaluation = entry["evaluation"]
    network = evaluation["network"]
    published = next((data.published for data in KNOWN_DATA if data.name == name), "none")
    parts = [
        f"**{name}** (`{entry['format']}`; {entry['protocol']}; "
        + "; ".join(f"{key} {value}" for key, value in entry["facts"].items())
        + f"). Published: {published}."
    ]
    for task, result in evaluation["tasks"].items():
        parts.append(_table(task, result, network, entry["costs"]))
        parts.append(_losses(result, network))
    seeds, machine = entry["seeds"], entry["environment"]["machine"]
    parts.append(
        f"`{entry['command']}` at commit `{entry['commit'][:12]}`, {machine}; "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}; LightGBM tries "
        f"{entry['budget']['trials']} settings, the network one."
    )
    return "\n\n".join(part for part in parts if part)


def _table(
    task: str, result: dict[str, Any], network: str, costs: dict[str, dict[str, float]]
) -> str:
    lines = [
        f"{task}: {result['scored_pages']:,} pages, {result['candidates_per_page']:.0f} "
        f"candidates a page, random {_figure(result['expected_random'])}.",
        "",
        f"| ranking | NDCG@10 | macro | hit@10 | {network} minus it | training | peak |",
        "|---|---|---|---|---|---|---|",
    ]
    order = sorted(
        result["rankings"].items(), key=lambda item: -item[1]["metrics"]["ndcg_at_10"]["mean"]
    )
    for name, ranking in order:
        difference = result["differences"].get(name)
        cost = costs.get(name)
        lines.append(
            f"| {name} | {_interval(ranking['metrics']['ndcg_at_10'])} "
            f"| {_figure(ranking['macro']['mean'])} "
            f"| {_figure(ranking['metrics']['hit_at_10']['mean'])} "
            f"| {_interval(difference['all'], signed=True) if difference else ''} "
            + (f"| {cost['seconds']:.0f} s | {cost['peak_mib']:,.0f} MiB |" if cost else "| | |")
        )
    return "\n".join(lines)


def _losses(result: dict[str, Any], network: str) -> str:
    """Name what is ahead of CrossRank, over all pages and in categories."""
    behind = [
        f"{other} ({_interval(difference['all'], signed=True)})"
        for other, difference in result["differences"].items()
        if difference["all"]["high"] is not None and difference["all"]["high"] < 0
    ]
    against = result["differences"].get(TREES, {"by_category": {}})["by_category"]
    lost = [name for name, value in against.items() if (value["high"] or 0.0) < 0]
    told = [f"**{network} is behind {', '.join(behind)}.**"] if behind else []
    if lost:
        told.append(f"**Behind {TREES} in {', '.join(lost)}.**")
    return " ".join(told)


def write_learning_section(readme: Path, results: Path) -> None:
    """Replace what stands between the markers of `readme` by the tables of the results file.

    Raises:
        ConfigError: When the markers are not there.
    """
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ConfigError(f"{readme.name}: got no markers, want {BEGIN!r} and {END!r}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    section = learning_markdown(read_learning(results))
    write_text(readme, f"{before}{BEGIN}\n{section}\n{END}{after}")


def network_verdict(result: LearningResult) -> str:
    """Return one line on the shared network alone against trees, for the command line."""
    task = next(iter(result.network_differences))
    value = result.network_differences[task][TREES].all
    interval = f"[{value.low:+.4f}, {value.high:+.4f}]"
    return f"{NETWORK} minus {TREES} on {task}: {value.mean:+.4f} {interval}"


def _figure(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1)


def _interval(value: dict[str, Any], *, signed: bool = False) -> str:
    low, high = (_figure(value[name], signed=signed) for name in ("low", "high"))
    return f"{_figure(value['mean'], signed=signed)} [{low}, {high}]"
