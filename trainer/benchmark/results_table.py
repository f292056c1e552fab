"""The README's measured table, written from a benchmark's results and never by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.benchmark.readme_section import replace_section

BEGIN = "<!-- results: begin, written by `make benchmark` -->"
END = "<!-- results: end -->"


def results_markdown(results: dict[str, Any]) -> str:
    """Return the tables of a results file as Markdown, losses beside wins."""
    evaluation = results["evaluation"]
    network = evaluation["network"]
    parts = []
    for task, result in evaluation["tasks"].items():
        parts.append(_task_table(task, result, network))
        parts.append(_verdicts(task, result, network))
    if results.get("guard_summary"):
        parts.append(f"**Guard.** {' '.join(results['guard_summary'])}")
    parts.append(_footnote(results))
    return "\n\n".join(part for part in parts if part)


def _task_table(task: str, result: dict[str, Any], network: str) -> str:
    recall = result["candidate_recall"]
    reached = f", retrieval reached {recall:.3f} of the purchases" if recall is not None else ""
    lines = [
        f"**{task}**: {result['scored_pages']:,} pages of {result['shoppers']:,} shoppers, "
        f"{result['candidates_per_page']:.0f} candidates a page{reached}.",
        "",
        f"| ranking | NDCG@10 | macro | MRR | hit@1 | {network} minus it |",
        "|---|---|---|---|---|---|",
    ]
    rankings = sorted(
        result["rankings"].items(), key=lambda item: -item[1]["metrics"]["ndcg_at_10"]["mean"]
    )
    for name, ranking in rankings:
        metrics = ranking["metrics"]
        strong = "**" if name == network else ""
        difference = result["differences"].get(name)
        lines.append(
            f"| {strong}{name}{strong} | {_interval(metrics['ndcg_at_10'])} "
            f"| {_figure(ranking['macro']['mean'])} "
            f"| {_figure(metrics['reciprocal_rank']['mean'])} "
            f"| {_figure(metrics['hit_at_1']['mean'])} "
            f"| {_interval(difference['all'], signed=True) if difference else ''} |"
        )
    return "\n".join(lines)


def _verdicts(task: str, result: dict[str, Any], network: str) -> str:
    """Name the categories where the strongest other is ahead, and those where it is behind."""
    others = {name: ranking for name, ranking in result["rankings"].items() if name != network}
    if not others:
        return ""
    best = max(others, key=lambda name: others[name]["metrics"]["ndcg_at_10"]["mean"])
    by_category = result["differences"][best]["by_category"]
    losses = [name for name, value in by_category.items() if _below(value)]
    wins = [name for name, value in by_category.items() if _above(value)]
    return (
        f"Per category against {best} ({task}): ahead in {len(wins)} "
        f"({', '.join(wins) or 'none'}), **behind in {len(losses)}** "
        f"({', '.join(losses) or 'none'}), undecided in the other "
        f"{len(by_category) - len(wins) - len(losses)}."
    )


def _below(value: dict[str, Any]) -> bool:
    return value["high"] is not None and value["high"] < 0


def _above(value: dict[str, Any]) -> bool:
    return value["low"] is not None and value["low"] > 0


def _footnote(results: dict[str, Any]) -> str:
    evaluation, environment = results["evaluation"], results["environment"]
    return (
        f"`{results['command']}` at commit {_commit(results['commit'])}, "
        f"{environment['machine']}; network of {results['parameters']:,} parameters, seeds "
        f"{', '.join(map(str, results['seeds']))}, {results['steps'][0]:,} steps; "
        f"LightGBM settings tried a task: {results['budget']['trials']}. "
        f"Brackets are 95 % intervals of {evaluation['draws']:,} paired bootstrap draws of "
        f"shoppers. {_calibration(results['calibration'])}{_origins(results)}"
    )


def _commit(commit: str) -> str:
    """Return a short commit, saying whether the code had changes since."""
    short, changed, _ = commit.partition("+changes")
    return f"`{short[:12]}`{' with changes' if changed else ''}"


def _calibration(rows: list[dict[str, Any]]) -> str:
    """Return the calibration over all categories, task by task."""
    by_task: dict[str, list[str]] = {}
    for row in rows:
        if row["category"] == "all":
            told = f"{row['error_before']:.4f} before, {row['error_after']:.4f} after"
            by_task.setdefault(row["task"], []).append(f"{row['objective']} {told}")
    parts = [f"{task}: {'; '.join(told)}" for task, told in by_task.items()]
    return f"Expected calibration error on {'. On '.join(parts)}." if parts else ""


def _origins(results: dict[str, Any]) -> str:
    """Name the parts that were computed by another code than what evaluated them."""
    others: dict[str, list[str]] = {}
    for part in results["parts"]:
        if part["commit"] != results["commit"]:
            told = f"{_commit(part['commit'])}, {part['finished'][:10]}"
            others.setdefault(told, []).append(part["name"])
    listed = "; ".join(f"{', '.join(names)} (at {told})" for told, names in others.items())
    return f" Kept from earlier calls: {listed}." if listed else ""


def _figure(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1)


def _interval(value: dict[str, Any], *, signed: bool = False) -> str:
    low, high = (_figure(value[name], signed=signed) for name in ("low", "high"))
    return f"{_figure(value['mean'], signed=signed)} [{low}, {high}]"


def write_into_readme(readme: Path, results_path: Path) -> None:
    """Replace what stands between the markers of `readme` by the tables of `results_path`.

    Raises:
        ConfigError: When the markers are not there.
    """
    results = json.loads(results_path.read_text(encoding="utf-8"))
    replace_section(readme, BEGIN, END, results_markdown(results))
