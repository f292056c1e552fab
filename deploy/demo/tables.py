"""The evaluation as short tables for the terminal: every ranking, and before and after."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.demo.titles import category_title
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.evaluation import Evaluation, TaskResult
from trainer.evaluation.evaluation_tables import bracketed, describe_counts, figure

RETRIEVAL = "retrieval order"
FEWEST_PAGES = 50  # of fewer pages an interval is narrower than the truth
TREES = "LightGBM"
_VERDICTS = {"win": "better", "tie": "", "loss": "worse"}


def format_evaluation(evaluation: Evaluation) -> str:
    """Per task every ranking, then retrieval order and the network per category."""
    parts = []
    for task, result in evaluation.tasks.items():
        parts.append(f"{task}: {describe_counts(result)}")
        parts.append(_rankings(result, evaluation.network))
        parts.append(_categories(result, evaluation.network))
    parts.append(
        f"NDCG@10 with 95 % intervals from {evaluation.draws:,} paired draws of shoppers; macro is "
        "the mean over categories; worse and better where the interval leaves out 0 and the "
        f"category has {FEWEST_PAGES} pages or more."
    )
    return "\n\n".join(parts)


def _rankings(result: TaskResult, network: str) -> str:
    rows: list[tuple[str, ...]] = [
        ("ranking", "NDCG@10", "macro", "MRR", f"{network} minus it", "")
    ]
    for name, ranking in result.rankings.items():
        difference = result.differences.get(name)
        rows.append(
            (
                name,
                bracketed(ranking.metrics["ndcg_at_10"]),
                figure(ranking.macro.mean),
                figure(ranking.metrics["reciprocal_rank"].mean),
                "" if difference is None else bracketed(difference.all, signed=True),
                "" if difference is None else _VERDICTS[difference.all.verdict],
            )
        )
    return aligned(rows)


def _categories(result: TaskResult, network: str) -> str:
    trees = TREES if TREES in result.rankings else None
    rows: list[tuple[str, ...]] = [
        ("category", "pages", "before", "after", "change", "", *([TREES, ""] if trees else []))
    ]
    for name, pages in sorted(result.category_pages.items(), key=lambda item: -item[1]):
        change = result.differences[RETRIEVAL].by_category[name]
        row = [
            category_title(name),
            f"{pages:,.0f}",
            figure(result.rankings[RETRIEVAL].by_category[name].mean),
            figure(result.rankings[network].by_category[name].mean),
            bracketed(change, signed=True),
            _verdict(change, pages),
        ]
        if trees:
            beside = result.differences[trees].by_category[name]
            row += [figure(result.rankings[trees].by_category[name].mean), _verdict(beside, pages)]
        rows.append(tuple(row))
    return aligned(rows)


def _verdict(difference: Interval, pages: float) -> str:
    """Whether the network is better or worse, or that a category has too few pages to say."""
    return _VERDICTS[difference.verdict] if pages >= FEWEST_PAGES else "few pages"


def aligned(rows: Sequence[Sequence[str]], *, foot: int = 0) -> str:
    """Rows of cells as columns under a rule, the first to the left, the others to the right.

    Args:
        rows: The head first; all of equal length.
        foot: How many rows at the end stand under a rule of their own.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    body = len(lines) - foot
    return "\n".join([lines[0], rule, *lines[1:body], *([rule] if foot else []), *lines[body:]])
