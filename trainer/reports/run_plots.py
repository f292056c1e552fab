"""Pictures of several runs: curves over each other, differences, trials; each one `<svg>`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from trainer.evaluation.bootstrap import Interval
from trainer.reports.svg_figure import (
    INK,
    LINE,
    MUTED,
    NETWORK,
    RETRIEVAL,
    SERIES,
    VERDICTS,
    draw_intervals,
    svg_figure,
    svg_text,
)

_SMOOTHED_POINTS = 120
_DARK = 0.6  # of the strongest colour: letters on it are white


def plot_curves(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Loss and mean validation NDCG@10 by step, the runs over each other.

    Args:
        runs: Lines of each run's training log, from `read_training_log`.
    """
    with svg_figure(9.6, 3.2) as (figure, out):
        left, right = figure.subplots(1, 2)
        for (name, lines), colour in zip(runs.items(), itertools.cycle(SERIES), strict=False):
            steps, losses = _points(lines, "loss")
            size = max(len(losses) // _SMOOTHED_POINTS, 1)
            starts = np.arange(0, len(losses), size)
            if starts.size:
                counts = np.diff([*starts, len(losses)])
                left.plot(
                    np.add.reduceat(steps, starts) / counts,
                    np.add.reduceat(losses, starts) / counts,
                    color=colour,
                    linewidth=1.4,
                    label=name,
                )
            steps, figures = _points(lines, "validation_ndcg_at_10")
            right.plot(steps, figures, "o-", color=colour, markersize=3, linewidth=1.4, label=name)
        left.set_title("Loss on training pages")
        right.set_title("Mean NDCG@10 on validation pages")
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.grid(axis="y")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="best", fontsize=8.5)
    return svg_text(out, f"Loss and validation NDCG@10 by step of {len(runs)} runs")


def plot_differences(values: Mapping[str, Interval], what: str, *, sort: bool = True) -> str:
    """Differences with their intervals, the largest on top; green above zero, red below."""
    names = [name for name, value in values.items() if not math.isnan(value.mean)]
    names = sorted(names, key=lambda name: values[name].mean) if sort else names[::-1]
    with svg_figure(7.6, 0.29 * len(names) + 1.1) as (figure, out):
        axes = figure.subplots()
        shown = [values[name] for name in names]
        draw_intervals(axes, shown, [VERDICTS[value.verdict] for value in shown])
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(what)
        axes.margins(x=0.08)
    return svg_text(out, what)


def plot_matrix(rows: Mapping[str, Mapping[str, Interval]], what: str) -> str:
    """Differences by row and column in thousandths; those whose interval leaves 0 out are bold."""
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows.values())))
    table = np.array(
        [[row[name].mean if name in row else np.nan for name in columns] for row in rows.values()]
    )
    reach = float(np.nanmax(np.abs(table), initial=1e-3))
    with svg_figure(0.42 * len(columns) + 2.6, 0.32 * len(rows) + 1.6) as (figure, out):
        axes = figure.subplots()
        axes.imshow(table, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
        for y, row in enumerate(rows.values()):
            for x, name in enumerate(columns):
                value = row.get(name)
                if value is None or math.isnan(value.mean):
                    continue
                axes.text(
                    x,
                    y,
                    f"{1000 * value.mean:+.0f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    fontweight="normal" if value.verdict == "tie" else "bold",
                    color="white" if abs(value.mean) > _DARK * reach else INK,
                )
        axes.set_xticks(range(len(columns)), columns, rotation=55, ha="right", fontsize=8.5)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=8.5)
        axes.set_title(f"{what}, in thousandths")
    return svg_text(out, what)


def plot_trials(
    figures: Mapping[int, float], pruned: Mapping[int, float], best_of_arms: Mapping[str, float]
) -> str:
    """The figure of each trial by its number, and the best so far; pruned ones hollow.

    Args:
        figures: Of each completed trial.
        pruned: The last figure of each pruned trial.
        best_of_arms: The best figure of other studies of the same budget, as dashed lines.
    """
    with svg_figure(9.6, 3.4) as (figure, out):
        axes = figure.subplots()
        axes.scatter(
            list(pruned),
            list(pruned.values()),
            s=26,
            facecolors="none",
            edgecolors=RETRIEVAL,
            label="pruned",
        )
        axes.scatter(list(figures), list(figures.values()), s=28, c=NETWORK, label="finished")
        numbers = sorted(figures)
        if numbers:
            best = np.maximum.accumulate([figures[number] for number in numbers])
            axes.step(numbers, best, where="post", color=NETWORK, linewidth=1.2, label="best")
        for (name, value), colour in zip(best_of_arms.items(), SERIES[1:], strict=False):
            axes.axhline(value, color=colour, linestyle=(0, (4, 3)), linewidth=1.2, label=name)
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("validation NDCG@10")
        axes.grid(axis="y")
        axes.legend(loc="best", fontsize=8.5)
    return svg_text(out, "Validation NDCG@10 of every trial")


def plot_parameters(
    parameters: Mapping[str, Mapping[int, float | str]], figures: Mapping[int, float]
) -> str:
    """The figure of each completed trial against each parameter it drew, later trials darker.

    Args:
        parameters: By name, the value that each trial drew.
        figures: Of each completed trial.
    """
    names = list(parameters)
    across = min(len(names), 4)
    down = math.ceil(len(names) / across)
    with svg_figure(2.5 * across, 2.2 * down) as (figure, out):
        panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axes, name in zip(panels, names, strict=False):
            drawn = {n: value for n, value in parameters[name].items() if n in figures}
            numeric = all(isinstance(value, int | float) for value in drawn.values())
            levels = sorted({str(value) for value in drawn.values()})
            places = [v if numeric else levels.index(str(v)) for v in drawn.values()]
            axes.scatter(
                places, [figures[n] for n in drawn], s=22, c=list(drawn), cmap="Blues", vmin=-8,
                edgecolors=LINE, linewidths=0.5,
            )  # fmt: skip
            if not numeric:
                axes.set_xticks(range(len(levels)), levels, fontsize=8)
            elif _spans_decades([float(value) for value in drawn.values()]):
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(name)
            axes.grid(axis="y")
        for axes in panels[len(names) :]:
            axes.set_visible(False)
    return svg_text(out, "Validation NDCG@10 against each parameter")


def _spans_decades(values: Sequence[float]) -> bool:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return low > 0 and high / low > 8  # noqa: PLR2004  nearly a decade


def _points(lines: Sequence[Mapping[str, float]], key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(line["step"], line[key]) for line in lines if key in line]
    pairs = np.array(points, np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
