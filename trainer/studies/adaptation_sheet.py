"""What an adaptation reached, as a sheet: figures, losses through fine-tuning, who teaches whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainer.evaluation.evaluation import TaskResult
from trainer.evaluation.evaluation_tables import bracketed
from trainer.reports.sheet import Section, Sheet, Table
from trainer.studies.adaptation import SOURCE
from trainer.studies.transfer_comparison import TRANSFER, ComparedTransfer
from trainer.studies.transfer_plots import plot_affinity, plot_fine_tuning
from trainer.training.source_affinity import Affinities


def adaptation_sheet(
    compared: ComparedTransfer, affinities: Affinities | None, notes: Sequence[str]
) -> Sheet:
    """Return the sheet of one adaptation.

    Args:
        compared: What it reached.
        affinities: Measured through the training of the sources.
        notes: Where it comes from.
    """
    target, lines, step = compared.target, compared.lines, compared.best_step
    result = compared.evaluation.tasks[target]
    sections = [Section("Test pages", (_counts(result),), (_rankings(result),))]
    if lines:
        told, plot = _forgetting(lines, step), plot_fine_tuning(lines, step)
        sections.append(Section("Fine-tuning", (told,), plots=(plot,)))
    if affinities is not None:
        sections.append(affinity_section(affinities, [target]))
    return Sheet(f"{target} from {compared.count:,} of its pages", tuple(notes), tuple(sections))


def affinity_section(affinities: Affinities, targets: Sequence[str]) -> Section:
    """Return who teaches whom: the strongest and weakest teachers of each target, and a matrix."""
    mean, tables = affinities.mean(), []
    for target in targets:
        column = affinities.names.index(target)
        order = np.argsort(-mean[:, column], kind="stable")
        rows = [
            (
                affinities.names[row],
                f"{1e3 * mean[row, column]:+.3f}",
                f"{int((affinities.values[:, row, column] > 0).sum())} of {len(affinities.steps)}",
            )
            for row in order.tolist()
            if row != column
        ]
        verdicts = tuple("win" if float(row[1]) > 0 else "loss" for row in rows)
        head = (f"teaches {target}", "affinity x 1,000", "evaluations above 0")
        tables.append(Table(head, tuple(rows), verdicts))
    text = (
        "By how much a step on one category's pages lowers the loss of another's, to first order "
        f"(Fifty et al. 2021), mean of {len(affinities.steps)} evaluations of one training.",
    )
    plot = plot_affinity(mean, affinities.names, targets)
    return Section("Which categories teach which", text, tuple(tables), (plot,))


def _counts(result: TaskResult) -> str:
    return (
        f"NDCG@10 over {result.scored_pages:,} test pages with a positive; differences are paired, "
        "brackets are 95 % intervals of draws of shoppers."
    )


def _rankings(result: TaskResult) -> Table:
    rows, verdicts = [], []
    ordered = sorted(result.rankings.items(), key=lambda item: -item[1].metrics["ndcg_at_10"].mean)
    for name, ranking in ordered:
        difference = result.differences.get(name)
        told = "" if difference is None else bracketed(difference.all, signed=True)
        rows.append((name, bracketed(ranking.metrics["ndcg_at_10"]), told))
        verdicts.append("" if difference is None else difference.all.verdict)
    return Table(("ranking", "NDCG@10", f"{TRANSFER} minus it"), tuple(rows), tuple(verdicts))


def _forgetting(lines: Sequence[Mapping[str, float]], best_step: int) -> str:
    """Say what the sources lost between the start and the weights that were kept."""
    key = f"{SOURCE}_ndcg_at_10"
    by_step = {int(line["step"]): line[key] for line in lines if key in line}
    if not by_step:
        return f"Kept: the weights of step {best_step}."
    start, kept = by_step[min(by_step)], by_step[best_step]
    return (
        f"Kept: the weights of step {best_step}. The sources' NDCG@10 went from {start:.4f} to "
        f"{kept:.4f} ({kept - start:+.4f})."
    )
