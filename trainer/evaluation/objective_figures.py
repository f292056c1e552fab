"""What each head reaches by its own metric, on the candidates that count for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.encoding.batches import rows_of
from trainer.encoding.encoded import heads_of_log, served_rows
from trainer.encoding.pageset import Doubles, Integers
from trainer.evaluation.bootstrap import DRAWS, Interval, resample_means, whole
from trainer.evaluation.metrics import hit_at_k, ndcg_at_k, page_auc, reciprocal_rank
from trainer.objectives import Head, ranking_gains, served_labels
from trainer.pipeline import Run

_RANKED = ("ndcg", "hit", "mrr", "auc")


@dataclass(frozen=True, slots=True)
class ObjectiveFigure:
    """One head on the test pages of one task.

    Attributes:
        objective: Its name.
        meaning: What it serves, in words.
        metric: One of `trainer.objectives.METRICS`; of `rmse` and `rmse_log1p` less is better.
        pages: Pages that the metric is defined on.
        value: Mean over those pages, with its interval; NaN where there is none.
        served: Mean of what it serves over the candidates that count.
        seen: Mean of what was seen there, in the same unit.
    """

    objective: str
    meaning: str
    metric: str
    pages: int
    value: Interval
    served: float
    seen: float


def objective_figures(served: Served, *, draws: int = DRAWS) -> list[ObjectiveFigure]:
    """Return the figure of every head, shoppers drawn anew for its interval."""
    return [_figure(head, served, index, draws) for index, head in enumerate(served.heads)]


@dataclass(frozen=True, slots=True)
class Served:
    """What the heads serve on the pages of one surface and split, beside what was seen.

    Attributes:
        heads: By column.
        offsets: Page bounds, shape (pages + 1,).
        shoppers: Of each page, shape (pages,).
        outputs: What is served, shape (rows, heads).
        labels: The log's, the same shape.
        seen: In the unit of the outputs, the same shape.
        counted: Which candidates count, the same shape.
    """

    heads: tuple[Head, ...]
    offsets: Integers
    shoppers: npt.NDArray[Any]
    outputs: Doubles
    labels: npt.NDArray[Any]
    seen: Doubles
    counted: npt.NDArray[np.bool_]


def served_on(run: Run, surface: str, split: str, logits: npt.NDArray[Any]) -> Served:
    """Return what a run serves on the pages of a surface, given its logits on them."""
    log = run.log
    pages = log.pages_of(split, surface)
    rows = rows_of(log, pages)
    heads = heads_of_log(log)
    labels = log.labels[rows]
    probabilities = run.calibration.probabilities(logits, log.categories[rows])
    return Served(
        heads=heads,
        offsets=np.concatenate([[0], np.cumsum(np.diff(log.offsets)[pages])]).astype(np.int64),
        shoppers=log.prepared.page_shoppers[log.selection.pages[pages]],
        outputs=run.outputs(probabilities, logits.astype(np.float64)),
        labels=labels,
        seen=served_labels(heads, labels),
        counted=served_rows(log, rows),
    )


def _figure(head: Head, served: Served, index: int, draws: int) -> ObjectiveFigure:
    values = page_values(head.metric, served, index, served.outputs[:, index])
    resampled = resample_means(
        values[None], served.shoppers, whole(values.size), draws=draws
    ).interval(0, 0)
    if head.metric.startswith("rmse"):
        with np.errstate(invalid="ignore"):
            resampled = Interval(*(float(np.sqrt(part)) for part in asdict(resampled).values()))
    counted = served.counted[:, index]
    outputs, seen = served.outputs[counted, index], served.seen[counted, index]
    return ObjectiveFigure(
        objective=head.name,
        meaning=head.meaning,
        metric=head.metric,
        pages=int((~np.isnan(values)).sum()),
        value=resampled,
        served=float(outputs.mean()) if outputs.size else float("nan"),
        seen=float(seen.mean()) if seen.size else float("nan"),
    )


def page_values(metric: str, served: Served, index: int, scores: Doubles) -> Doubles:
    """Return a metric of one head on every page, shape (pages,); NaN where it is not defined.

    Candidates that do not count for the head are left out of the page. `rmse` gives the mean
    square, whose root is to be taken after the mean over pages.

    Args:
        metric: One of `trainer.objectives.METRICS`.
        served: The pages.
        index: Which head is looked at.
        scores: What the candidates are ordered by, or what is compared with what was seen,
            shape (rows,).
    """
    counted = served.counted[:, index]
    page = np.repeat(np.arange(served.shoppers.size), np.diff(served.offsets))[counted]
    sizes = np.bincount(page, minlength=served.shoppers.size)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    gains = ranking_gains(served.heads[index], _gains(served, index)[counted])
    scores = scores[counted]
    if metric.startswith("rmse"):
        change: Callable[[Doubles], Doubles] = np.log1p if metric == "rmse_log1p" else np.array
        squares = (change(scores) - change(served.seen[counted, index])) ** 2
        with np.errstate(invalid="ignore"):
            means: Doubles = np.bincount(page, squares, sizes.size) / sizes
        return means
    if metric == "mrr":
        return reciprocal_rank(gains, scores, offsets)
    if metric == "auc":
        return page_auc(gains > 0, scores, offsets)
    kind, cutoff = metric.split("@")
    return (ndcg_at_k if kind == "ndcg" else hit_at_k)(gains, scores, offsets, int(cutoff))


def _gains(served: Served, index: int) -> Doubles:
    """Return the labels of a head; over the whole space, 0 where its condition did not happen."""
    labels: Doubles = served.labels[:, index] * (served.seen[:, index] > 0)
    return labels


def is_ranked(metric: str) -> bool:
    """Return whether a metric looks at the order alone, so that more of it is better."""
    return metric.startswith(_RANKED)


def format_figures(figures: Mapping[str, list[ObjectiveFigure]]) -> str:
    """Return a table per task: each head by its own metric, and its mean against what was seen."""
    parts = []
    for task, rows in figures.items():
        width = max(len("objective"), *(len(row.objective) for row in rows))
        head = f"{'objective':<{width}} {'metric':<10} {'pages':>8} {'value':>9}"
        lines = [
            f"Objectives on {task}",
            f"{head} {'95 % interval':>19} {'served':>10} {'seen':>10}",
        ]
        lines.append("-" * len(lines[1]))
        lines += [
            f"{row.objective:<{width}} {row.metric:<10} {row.pages:>8,} {row.value.mean:>9.4f}"
            f" [{row.value.low:>8.4f},{row.value.high:>8.4f}] {row.served:>10.4g}"
            f" {row.seen:>10.4g}"
            for row in rows
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
