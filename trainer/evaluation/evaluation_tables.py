"""An evaluation as plain text for the terminal, losses as prominent as wins."""

from __future__ import annotations

import math

from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.evaluation import Evaluation, RankingResult, TaskResult

_COLUMNS = {"reciprocal_rank": "MRR", "hit_at_1": "hit@1", "hit_at_10": "hit@10"}


def format_tables(evaluation: Evaluation) -> str:
    """Return every task's tables; a figure is a mean with its 95 % interval in brackets."""
    parts = [_format_task(task, result, evaluation) for task, result in evaluation.tasks.items()]
    parts.append(
        f"Intervals: 95 %, {evaluation.draws:,} paired bootstrap draws of shoppers, seed "
        f"{evaluation.seed}. Objective: {evaluation.objective}. NDCG@10 is over pages with a "
        "positive that retrieval reached; macro is the mean over categories; recall@10 marked * "
        "is of the reached positives only. An interval of a group of fewer than some 50 pages "
        "is narrower than the truth."
    )
    return "\n\n".join(parts)


def strongest_other(result: TaskResult, network: str) -> str | None:
    """Return the ranking with the best NDCG@10 beside the network, or None if it is alone."""
    others = {ranking: row for ranking, row in result.rankings.items() if ranking != network}
    return max(others, key=lambda ranking: others[ranking].metrics["ndcg_at_10"].mean, default=None)


def proper_slices(result: TaskResult) -> list[str]:
    """Return the slices that hold some of the scored pages, but not all."""
    return [name for name, pages in result.slice_pages.items() if 0 < pages < result.scored_pages]


def describe_counts(result: TaskResult) -> str:
    """Return what the figures of a task rest on, in one line."""
    recall = result.candidate_recall
    reached = (
        "candidate recall unknown" if math.isnan(recall) else f"candidate recall {figure(recall)}"
    )
    return (
        f"{result.scored_pages:,} of {result.pages:,} pages have a reached positive, "
        f"{result.shoppers:,} shoppers, {result.candidates_per_page:.1f} candidates a page, "
        f"{reached}, random order {figure(result.expected_random)}"
    )


def figure(value: float, *, signed: bool = False) -> str:
    """Return three decimals without the leading zero, or a dash for NaN."""
    if math.isnan(value):
        return "-"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def bracketed(value: Interval, *, signed: bool = False) -> str:
    """Return `mean [low, high]`, or a dash."""
    if math.isnan(value.mean):
        return "-"
    mean, low, high = (figure(part, signed=signed) for part in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def _format_task(task: str, result: TaskResult, evaluation: Evaluation) -> str:
    network = evaluation.network
    head = ["ranking", "NDCG@10", "macro", *_COLUMNS.values(), "recall@10"]
    rows = [[*head, f"{network} minus it", "categories +/=/-"]]
    for ranking, row in result.rankings.items():
        difference = result.differences.get(ranking)
        rows.append(
            [
                ranking,
                bracketed(row.metrics["ndcg_at_10"]),
                figure(row.macro.mean),
                *(figure(row.metrics[name].mean) for name in _COLUMNS),
                _recall(row),
                "" if difference is None else bracketed(difference.all, signed=True),
                ""
                if difference is None
                else "/".join(
                    str(len(difference.categories(verdict))) for verdict in ("win", "tie", "loss")
                ),
            ]
        )
    parts = [f"{task}: {describe_counts(result)}", aligned(rows)]
    parts += [_format_losses(result, network), _format_categories(result, network)]
    parts += [_format_slices(result), _format_shares(result)]
    return "\n\n".join(part for part in parts if part)


def _recall(row: RankingResult) -> str:
    """Recall of all positives; of the reached ones, marked, where all are not known."""
    known = row.metrics["recall_at_10"].mean
    if math.isnan(known):
        return f"{figure(row.metrics['reached_recall_at_10'].mean)}*"
    return figure(known)


def _format_losses(result: TaskResult, network: str) -> str:
    lines = []
    for ranking, difference in result.differences.items():
        if difference.all.verdict != "win":
            lines.append(
                f"{network} does not beat {ranking} overall: "
                f"{bracketed(difference.all, signed=True)}"
            )
        lines += [
            f"{network} loses to {ranking} in {name} ({result.category_pages[name]:,.0f} pages): "
            f"{bracketed(difference.by_category[name], signed=True)}"
            for name in difference.categories("loss")
        ]
        lines += [
            f"{network} loses to {ranking} on the slice {name} "
            f"({result.slice_pages[name]:,} pages): "
            f"{bracketed(difference.by_slice[name], signed=True)}"
            for name in proper_slices(result)
            if difference.by_slice[name].verdict == "loss"
        ]
    return "\n".join(lines) or f"{network} loses to no ranking, in no category and on no slice."


def _format_categories(result: TaskResult, network: str) -> str:
    other = strongest_other(result, network)
    wanted = dict.fromkeys(["retrieval order", "own repeat", other, network])
    rankings = [ranking for ranking in wanted if ranking in result.rankings and ranking is not None]
    rows = [["category", "pages", *rankings, *([f"minus {other}", ""] if other else [])]]
    for name, pages in sorted(result.category_pages.items(), key=lambda item: -item[1]):
        values = [figure(result.rankings[ranking].by_category[name].mean) for ranking in rankings]
        if other:
            difference = result.differences[other].by_category[name]
            values += [bracketed(difference, signed=True), difference.verdict]
        rows.append([name, f"{pages:,.0f}", *values])
    return aligned(rows)


def _format_slices(result: TaskResult) -> str:
    slices = proper_slices(result)
    if not slices:
        return ""
    rows = [["slice", *slices], ["pages", *(f"{result.slice_pages[name]:,}" for name in slices)]]
    rows += [
        [ranking, *(figure(row.by_slice[name].mean) for name in slices)]
        for ranking, row in result.rankings.items()
    ]
    return aligned(rows)


def _format_shares(result: TaskResult) -> str:
    if not result.mixed:
        return ""
    shares = sorted(result.positive_share.items(), key=lambda item: -item[1])
    rows = [["share of the first ten", "positives", *result.rankings]]
    rows += [
        [name, figure(share), *(figure(row.top_10_share[name]) for row in result.rankings.values())]
        for name, share in shares
        if share or any(row.top_10_share[name] for row in result.rankings.values())
    ]
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    """Return rows as lines of columns, the first one a head; words left, figures right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)
