"""The learning benchmark's results as tables: of all data sets, and of each with its losses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.atomic_text import write_text
from trainer.benchmark.readme_section import replace_section
from trainer.learning.data import KNOWN_DATA, KnownData
from trainer.learning.rankings import CROSSRANK, NETWORK, RANDOM, SINGLE, SINGLE_TREES, TREES
from trainer.learning.results import read_learning

BEGIN = "<!-- learning: begin, written by `make benchmark-learning` -->"
END = "<!-- learning: end -->"
_LEARNED = {CROSSRANK, NETWORK, SINGLE, TREES, SINGLE_TREES}
_TENTH_SHARE = 0.15  # a point of the curve with at most this share of the pages is a tenth


@dataclass(frozen=True, slots=True)
class Row:
    """One data set on one line.

    Attributes:
        name: Of the data set.
        pages: Scored test pages.
        figures: NDCG@10 by ranking, `rule` the best one without learning.
        rule: Which ranking that is.
        against_trees: CrossRank minus LightGBM, {mean, low, high}.
        against_rule: CrossRank minus the rule, alike.
        network: The shared network alone minus LightGBM, alike.
        seconds: Of training of one seed.
        peak_mib: The most memory.
        seeds: Trainings of each network.
    """

    name: str
    pages: int
    figures: dict[str, float]
    rule: str
    against_trees: dict[str, float]
    against_rule: dict[str, float]
    network: dict[str, float]
    seconds: float
    peak_mib: float
    seeds: int


def overview(results: dict[str, Any]) -> list[Row]:
    """Return the line of every data set, in order of name."""
    return [_row(name, entry) for name, entry in sorted(results["data_sets"].items())]


def _row(name: str, entry: dict[str, Any]) -> Row:
    task, result = next(iter(entry["evaluation"]["tasks"].items()))
    figures = {
        ranking: value["metrics"]["ndcg_at_10"]["mean"]
        for ranking, value in result["rankings"].items()
    }
    rules = {ranking: figures[ranking] for ranking in figures if ranking not in _LEARNED}
    rules.pop(RANDOM, None)
    rule = max(rules, key=lambda ranking: rules[ranking])
    differences = result["differences"]
    costs = [cost for ranking, cost in entry["costs"].items() if ranking in {NETWORK, TREES}]
    return Row(
        name=name,
        pages=result["scored_pages"],
        figures={**figures, "rule": rules[rule]},
        rule=rule,
        against_trees=differences[TREES]["all"],
        against_rule=differences[rule]["all"],
        network=entry["network_differences"][task][TREES],
        seconds=sum(cost["seconds"] for cost in costs),
        peak_mib=max((cost["peak_mib"] for cost in costs), default=0.0),
        seeds=len(entry["seeds"]),
    )


def learning_markdown(results: dict[str, Any]) -> str:
    """Return every table of every data set as Markdown, losses beside wins."""
    parts = ["# Learning on data of other shapes"]
    parts += [_overview_table(overview(results))] if results["data_sets"] else []
    parts += [_section(name, entry) for name, entry in sorted(results["data_sets"].items())]
    return "\n\n".join(parts) + "\n"


def learning_summary(results: dict[str, Any]) -> str:
    """Return one table of all data sets as Markdown, what loses in each, and what is missing."""
    entries = sorted(results["data_sets"].items())
    parts = [_overview_table(overview(results))] if entries else []
    parts += ["\n".join(_in_short(name, entry) for name, entry in entries)] if entries else []
    missing = missing_data(results)
    if missing:
        lines = [f"- {data.name}: {data.obtain}." for data in missing]
        parts.append("Not run, with how to obtain them:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def missing_data(results: dict[str, Any]) -> list[KnownData]:
    """Return the known data sets without a table."""
    present = {name.split(",", 1)[0] for name in results["data_sets"]}
    return [data for data in KNOWN_DATA if data.name not in present]


def _overview_table(rows: list[Row]) -> str:
    lines = [
        f"| data | {CROSSRANK} | {TREES} | best simple rule | {CROSSRANK} minus {TREES} "
        f"| minus the rule | {NETWORK} minus {TREES} | training | peak | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {shown(row.figures[CROSSRANK])} | {shown(row.figures[TREES])} "
        f"| {shown(row.figures['rule'])} ({row.rule}) | {bracket(row.against_trees)} "
        f"| {bracket(row.against_rule)} | {bracket(row.network)} | {row.seconds:.0f} s "
        f"| {row.peak_mib:,.0f} MiB | {row.seeds} |"
        for row in rows
    ]
    ahead = sum(row.against_trees["low"] > 0 for row in rows)
    behind = sum(row.against_trees["high"] < 0 for row in rows)
    lines.append("")
    lines.append(
        f"NDCG@10 on test pages; brackets are 95 % intervals of paired bootstrap draws of shoppers "
        f"or queries. {CROSSRANK} is ahead of {TREES} with an interval above 0 on {ahead} of "
        f"{len(rows)} tables, and behind it with an interval below 0 on {behind}."
    )
    return "\n".join(lines)


def _in_short(name: str, entry: dict[str, Any]) -> str:
    evaluation, data = entry["evaluation"], known(name)
    behind = losses(next(iter(evaluation["tasks"].values())), evaluation["network"])
    told = [f"- {name}: {entry['protocol']}.", behind]
    told += [f"Published: {data.published}."] if data else []
    told += [tenth_verdict(entry["curves"])] if entry.get("curves") else []
    return " ".join(part for part in told if part)


def _section(name: str, entry: dict[str, Any]) -> str:
    evaluation = entry["evaluation"]
    network = evaluation["network"]
    data = known(name)
    parts = [
        f"`{entry['format']}`; {entry['protocol']}; "
        + "; ".join(f"{key} {value}" for key, value in entry["facts"].items())
        + f". Published: {data.published if data else 'none'}."
    ]
    for task, result in evaluation["tasks"].items():
        parts.append(_table(task, result, network, entry["costs"]))
        parts.append(losses(result, network))
    parts += [full_table(entry), _kappa(entry.get("kappa")), _curves(entry.get("curves", []))]
    parts.append(_guard(entry.get("guard", [])))
    seeds, machine = entry["seeds"], entry["environment"]["machine"]
    parts.append(
        f"`{entry['command']}` at commit `{entry['commit'][:12]}`, {machine}; "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}; LightGBM tries "
        f"{entry['budget']['trials']} settings, the network one."
    )
    return "\n\n".join([f"## {name}", *(part for part in parts if part)])


def known(name: str) -> KnownData | None:
    """Return the known data set that a table is of."""
    return next((data for data in KNOWN_DATA if data.name == name.split(",", 1)[0]), None)


def _table(
    task: str, result: dict[str, Any], network: str, costs: dict[str, dict[str, float]]
) -> str:
    lines = [
        f"{task}: {result['scored_pages']:,} pages, {result['candidates_per_page']:.0f} "
        f"candidates a page, random {shown(result['expected_random'])}.",
        "",
        f"| ranking | NDCG@10 | macro | hit@10 | {network} minus it | training | peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, ranking in by_figure(result):
        difference = result["differences"].get(name)
        cost = costs.get(name)
        lines.append(
            f"| {name} | {bracket(ranking['metrics']['ndcg_at_10'], signed=False)} "
            f"| {shown(ranking['macro']['mean'])} "
            f"| {shown(ranking['metrics']['hit_at_10']['mean'])} "
            f"| {bracket(difference['all']) if difference else ''} "
            + (f"| {cost['seconds']:.0f} s | {cost['peak_mib']:,.0f} MiB |" if cost else "| | |")
        )
    return "\n".join(lines)


def by_figure(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the rankings of a task, the best first."""
    return sorted(
        result["rankings"].items(), key=lambda item: -item[1]["metrics"]["ndcg_at_10"]["mean"]
    )


def losses(result: dict[str, Any], network: str) -> str:
    """Name what is ahead of CrossRank, over all pages and in categories."""
    behind = [
        f"{other} ({bracket(difference['all'])})"
        for other, difference in result["differences"].items()
        if difference["all"]["high"] is not None and difference["all"]["high"] < 0
    ]
    against = result["differences"].get(TREES, {"by_category": {}})["by_category"]
    lost = [name for name, value in against.items() if (value["high"] or 0.0) < 0]
    told = [f"**{network} is behind {', '.join(behind)}.**"] if behind else []
    if lost:
        told.append(f"**Behind {TREES} in {', '.join(lost)}.**")
    return " ".join(told)


def full_figures(entry: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return by ranking and category the NDCG@10 over all test pages, those not found as 0.

    Empty where candidates were not retrieved out of the whole category.
    """
    if not entry["limits"].get("full"):
        return {}
    result = next(iter(entry["evaluation"]["tasks"].values()))
    tested, scored = entry["tested"], result["category_pages"]
    return {
        ranking: {
            name: value["mean"] * scored[name] / tested[name]
            for name, value in figures["by_category"].items()
            if name in tested
        }
        for ranking, figures in result["rankings"].items()
    }


def full_table(entry: dict[str, Any]) -> str:
    """Return the table of `full_figures`; empty where there is none."""
    figures = full_figures(entry)
    if not figures:
        return ""
    names = list(next(iter(figures.values())))
    lines = [
        "NDCG@10 of the whole category, what is not retrieved counting as 0:",
        "",
        f"| ranking | {' | '.join(names)} |",
        "|---|" + "---|" * len(names),
    ]
    lines += [
        f"| {ranking} | {' | '.join(shown(values[name], digits=4) for name in names)} |"
        for ranking, values in sorted(figures.items(), key=lambda item: -sum(item[1].values()))
    ]
    return "\n".join(lines)


def _kappa(kappa: dict[str, Any] | None) -> str:
    if not kappa:
        return ""
    lines = [
        f"Quadratic weighted kappa, {kappa['protocol']}:",
        "",
        "| ranking | kappa | CrossRank minus it |",
        "|---|---|---|",
    ]
    for name, value in sorted(kappa["rankings"].items(), key=lambda item: -item[1]):
        difference = kappa["differences"].get(name)
        told = bracket(difference, digits=4) if difference else ""
        lines.append(f"| {name} | {shown(value, digits=4)} | {told} |")
    return "\n".join(lines)


def _curves(curves: list[dict[str, Any]]) -> str:
    if not curves:
        return ""
    ours, alone = "CrossRank, with the others", "CrossRank, alone"
    lines = [
        "Learned from few pages of a category, NDCG@10 on its test pages:",
        "",
        "| category | its pages | with the others | alone | minus the best alone | simple rule "
        "| minus the rule |",
        "|---|---|---|---|---|---|---|",
    ]
    for curve in curves:
        for point in curve["points"]:
            figures = point["figures"]
            lines.append(
                f"| {curve['target']} | {point['pages']}{' (all)' if point['whole'] else ''} "
                f"| {shown(figures[ours])} | {shown(figures.get(alone))} "
                f"| {bracket(point['difference']) if point['difference'] else ''} "
                f"| {shown(figures[curve['rule']])} ({curve['rule']}) "
                f"| {bracket(point['against_rule'])} |"
            )
    lines += ["", tenth_verdict(curves)]
    return "\n".join(lines)


def tenth_verdict(curves: list[dict[str, Any]]) -> str:
    """Say in how many targets a tenth of the pages with the others equals all of them alone."""
    equal = judged = 0
    for curve in curves:
        most = max(point["pages"] for point in curve["points"])
        few = [p for p in curve["points"] if 0 < p["pages"] <= _TENTH_SHARE * most]
        if few and few[-1]["to_all_alone"]:
            judged += 1
            equal += few[-1]["to_all_alone"]["mean"] >= 0
    if not judged:
        return "No curve has a point at a tenth of the pages."
    return (
        f"At a tenth of its pages with the others, a category has at least what all of them give "
        f"alone in {equal} of {judged}."
    )


def _guard(choices: list[dict[str, Any]]) -> str:
    if not choices:
        return ""
    served = [choice["serves"] for choice in choices]
    counts = {name: served.count(name) for name in dict.fromkeys(served)}
    told = ", ".join(f"{name} in {count}" for name, count in counts.items())
    routed = {name: why for choice in choices for name, why in choice["categories"].items()}
    apart = f" Served apart: {', '.join(sorted(routed))}." if routed else ""
    return f"The guard serves, of {len(choices)} folds and seeds: {told}.{apart}"


def write_learning_section(readme: Path, results: Path) -> None:
    """Replace what stands between the markers of `readme` by the summary of the results file.

    Raises:
        ConfigError: When the markers are not there.
    """
    replace_section(readme, BEGIN, END, learning_summary(read_learning(results)))


def write_learning_tables(document: Path, results: Path) -> Path:
    """Write every table of the results file as a Markdown document, and return its path."""
    write_text(document, learning_markdown(read_learning(results)))
    return document


def shown(value: float | None, *, signed: bool = False, digits: int = 3) -> str:
    """Return a figure without its leading zero, a dash for none."""
    if value is None:
        return "-"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def bracket(value: dict[str, Any], *, signed: bool = True, digits: int = 3) -> str:
    """Return `mean [low, high]`."""
    low, high = (shown(value[name], signed=signed, digits=digits) for name in ("low", "high"))
    return f"{shown(value['mean'], signed=signed, digits=digits)} [{low}, {high}]"
