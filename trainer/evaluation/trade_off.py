"""What one objective costs another: both by their metric, as weight goes from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rerank_server.contract.errors import nearest
from trainer.encoding.pageset import Doubles
from trainer.evaluation.bootstrap import DRAWS, Interval, resample_means, whole
from trainer.evaluation.evaluation import EvaluationError
from trainer.evaluation.objective_figures import Served, is_ranked, page_values, served_on
from trainer.pipeline import Run
from trainer.tasks import log_tasks
from trainer.training.network import score_pages

STEPS = 10
_RANKING = "ndcg@10"


@dataclass(frozen=True, slots=True)
class TradeOffPoint:
    """One pair of weights.

    Attributes:
        share: 0 is the first objective alone, 1 the second alone.
        weights: Objective -> weight of a request that orders so.
        first: The first objective's metric.
        second: The second's.
        best: Whether no other point is better in one and no worse in the other (Pareto).
    """

    share: float
    weights: dict[str, float]
    first: Interval
    second: Interval
    best: bool


@dataclass(frozen=True, slots=True)
class TradeOff:
    """The curve of two objectives on the pages of one task and split.

    Attributes:
        task: The task.
        split: `validation` or `test`.
        objectives: First and second.
        metrics: What each is judged by: its own metric where that is one of order, else NDCG@10
            with its amounts as gains.
        pages: Pages that both are defined on.
        points: By ascending share.
    """

    task: str
    split: str
    objectives: tuple[str, str]
    metrics: tuple[str, str]
    pages: int
    points: tuple[TradeOffPoint, ...]


def trade_offs(
    run: Run,
    objectives: Sequence[str],
    *,
    split: str = "test",
    steps: int = STEPS,
    draws: int = DRAWS,
) -> list[TradeOff]:
    """Return the curve of two objectives on each task.

    Candidates are ordered by (1 - s) a / sd(a) + s b / sd(b), a and b being what the two heads
    serve and sd their standard deviation over the candidates, so that equal shares mean equal
    say whatever the units. A page counts when both metrics are defined on it, so that every point
    is over the same pages; intervals are of shoppers drawn anew.

    Raises:
        EvaluationError: On an unknown objective, or one taken twice.
    """
    known = run.log.schema.objectives
    for name in objectives:
        if name not in known:
            raise EvaluationError(
                f"trade-off: got {name!r}, want two of {', '.join(known)}{nearest(name, known)}"
            )
    if len(objectives) != 2 or objectives[0] == objectives[1]:  # noqa: PLR2004  a pair
        raise EvaluationError(f"trade-off: got {', '.join(objectives)}, want two objectives")
    pair = (known.index(objectives[0]), known.index(objectives[1]))
    curves = []
    for task, surface in log_tasks(run.log, run.config.surfaces).items():
        pages = run.log.pages_of(split, surface)
        if not pages.size:
            continue
        logits = score_pages(run.ranker, run.catalogue, run.log, pages)
        served = served_on(run, surface, split, logits)
        curves.append(_curve(task, split, served, pair, steps, draws))
    return curves


def _curve(
    task: str, split: str, served: Served, pair: tuple[int, int], steps: int, draws: int
) -> TradeOff:
    heads = [served.heads[index] for index in pair]
    metrics = [head.metric if is_ranked(head.metric) else _RANKING for head in heads]
    outputs = [served.outputs[:, index] for index in pair]
    units = [1.0 / max(float(output.std()), 1e-12) for output in outputs]
    shares = np.linspace(0.0, 1.0, steps + 1)
    mixes = [((1 - share) * units[0], share * units[1]) for share in shares.tolist()]
    values = np.stack(
        [
            np.stack(
                [
                    page_values(metric, served, index, mix[0] * outputs[0] + mix[1] * outputs[1])
                    for mix in mixes
                ]
            )
            for index, metric in zip(pair, metrics, strict=True)
        ]
    )  # (objectives, points, pages)
    defined = ~np.isnan(values).any(axis=(0, 1))
    resampled = [
        resample_means(
            part[:, defined],
            served.shoppers[defined],
            whole(int(defined.sum())),
            draws=draws,
        )
        for part in values
    ]
    front = pareto_front(np.stack([part.means[:, 0] for part in resampled], axis=1))
    points = tuple(
        TradeOffPoint(
            share=float(share),
            weights={head.name: weight for head, weight in zip(heads, mix, strict=True)},
            first=resampled[0].interval(row, 0),
            second=resampled[1].interval(row, 0),
            best=bool(front[row]),
        )
        for row, (share, mix) in enumerate(zip(shares, mixes, strict=True))
    )
    return TradeOff(
        task=task,
        split=split,
        objectives=(heads[0].name, heads[1].name),
        metrics=(metrics[0], metrics[1]),
        pages=int(defined.sum()),
        points=points,
    )


def pareto_front(values: Doubles) -> np.ndarray:
    """Return which points no other beats in one column without losing in another, shape (points,).

    Args:
        values: More is better, shape (points, columns); a point with NaN is on no front.
    """
    no_worse = (values[:, None] >= values[None]).all(axis=2)
    better = (values[:, None] > values[None]).any(axis=2)
    beaten = np.any(no_worse & better, axis=0)
    return np.asarray(~beaten & ~np.any(np.isnan(values), axis=1))


def format_trade_offs(curves: Sequence[TradeOff]) -> str:
    """Return a table per curve; a star marks the points of the Pareto front."""
    parts = []
    for curve in curves:
        first, second = curve.objectives
        lines = [
            f"{first} against {second} on {curve.task}, {curve.pages:,} {curve.split} pages",
            f"{'share':>5}   {f'{first} {curve.metrics[0]}':<28} {second} {curve.metrics[1]}",
        ]
        lines += [
            f"{point.share:>5.2f} {'*' if point.best else ' '} "
            f"{_bracketed(point.first):<28} {_bracketed(point.second)}"
            for point in curve.points
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _bracketed(value: Interval) -> str:
    return f"{value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]"
