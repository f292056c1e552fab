"""The plots of the report, as inline SVG; each returns the text of one `<svg>` element."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.calibration.calibration import BeforeAfter
from trainer.evaluation.evaluation import TaskResult
from trainer.evaluation.evaluation_tables import proper_slices
from trainer.reports.svg_figure import (
    INK,
    LINE,
    MUTED,
    NETWORK,
    OTHER,
    RETRIEVAL,
    SERIES,
    VERDICTS,
    draw_intervals,
    svg_figure,
    svg_text,
)

_SMOOTHED_POINTS = 120


def plot_rankings(result: TaskResult, network: str) -> str:
    """NDCG@10 of each ranking with its interval, best on top."""
    rankings = sorted(
        result.rankings, key=lambda ranking: result.rankings[ranking].metrics["ndcg_at_10"].mean
    )
    values = [result.rankings[ranking].metrics["ndcg_at_10"] for ranking in rankings]
    colours = [NETWORK if ranking == network else RETRIEVAL for ranking in rankings]
    with svg_figure(6.4, 0.34 * len(rankings) + 0.9) as (figure, out):
        axes = figure.subplots()
        draw_intervals(axes, values, colours)
        for row, value in enumerate(values):
            axes.annotate(
                f"{value.mean:.3f}",
                (value.high, row),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                color=colours[row] if rankings[row] == network else MUTED,
            )
        axes.set_yticks(range(len(rankings)), rankings)
        axes.axvline(result.expected_random, color=LINE, linestyle=(0, (4, 3)), zorder=0)
        axes.set_xlabel("NDCG@10, 95 % interval; dashed: expected of a random order")
        axes.margins(x=0.12)
    return svg_text(out, f"NDCG@10 of {len(rankings)} rankings")


def plot_categories(result: TaskResult, network: str, other: str) -> str:
    """NDCG@10 per category beside the difference to `other`, best difference on top."""
    difference = result.differences[other].by_category
    names = sorted(difference, key=lambda name: difference[name].mean)
    with svg_figure(9.6, 0.29 * len(names) + 1.1) as (figure, out):
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.2, 1])
        shown = {"retrieval order": RETRIEVAL, other: OTHER, network: NETWORK}
        shown = {ranking: colour for ranking, colour in shown.items() if ranking in result.rankings}
        for index, (ranking, colour) in enumerate(shown.items()):
            values = [result.rankings[ranking].by_category[name] for name in names]
            shift = (index - (len(shown) - 1) / 2) * 0.2
            draw_intervals(left, values, [colour] * len(names), shift=shift, label=ranking)
        left.set_yticks(range(len(names)), names)
        left.set_xlabel("NDCG@10")
        left.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handletextpad=0.2)
        values = [difference[name] for name in names]
        draw_intervals(right, values, [VERDICTS[value.verdict] for value in values])
        right.axvline(0, color=MUTED, linewidth=0.8)
        right.set_xlabel(f"{network} minus {other}")
        right.set_title("green wins, red loses, grey ties", color=MUTED, fontweight="normal")
    return svg_text(out, f"NDCG@10 of each category, and {network} minus {other}")


def plot_slices(result: TaskResult, network: str, other: str | None) -> str:
    """NDCG@10 of retrieval order, the strongest other and the network on each slice."""
    slices = proper_slices(result)
    shown = {"retrieval order": RETRIEVAL, other: OTHER, network: NETWORK}
    rankings = {ranking: colour for ranking, colour in shown.items() if ranking in result.rankings}
    width = 0.8 / len(rankings)
    with svg_figure(6.4, 3.0) as (figure, out):
        axes = figure.subplots()
        for index, (ranking, colour) in enumerate(rankings.items()):
            values = [result.rankings[str(ranking)].by_slice[name] for name in slices]
            means = np.array([value.mean for value in values])
            reach = [[v.mean - v.low for v in values], [v.high - v.mean for v in values]]
            axes.bar(
                np.arange(len(slices)) + (index - (len(rankings) - 1) / 2) * width,
                means,
                width * 0.9,
                yerr=np.array(reach),
                color=colour,
                ecolor=INK,
                error_kw={"linewidth": 0.9},
                label=ranking,
            )
        labels = [f"{name}\n{result.slice_pages[name]:,} pages" for name in slices]
        axes.set_xticks(range(len(slices)), labels)
        axes.set_ylabel("NDCG@10")
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3)
    return svg_text(out, "NDCG@10 on slices of the pages")


def plot_shares(result: TaskResult, network: str) -> str:
    """Share of each category among the first ten, before and after, and among positives."""
    names = sorted(result.positive_share, key=lambda name: result.positive_share[name])
    rows = {
        "retrieval order": (RETRIEVAL, "o"),
        network: (NETWORK, "o"),
    }
    names = [name for name in names if result.positive_share[name] > 0]
    with svg_figure(6.4, 0.27 * len(names) + 1.1) as (figure, out):
        axes = figure.subplots()
        shares = [result.positive_share[name] for name in names]
        axes.barh(range(len(names)), shares, 0.66, color=LINE, label="positives")
        for ranking, (colour, marker) in rows.items():
            if ranking in result.rankings:
                share = [result.rankings[ranking].top_10_share[name] for name in names]
                axes.plot(
                    share, range(len(names)), marker, color=colour, markersize=5, label=ranking
                )
        axes.set_yticks(range(len(names)), names)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_xlabel("share of the first ten of a page")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3)
    return svg_text(out, "Share of each category among the first ten")


def plot_training(lines: Sequence[Mapping[str, float]]) -> str:
    """Loss parts and validation figures by step; losses are averaged over neighbouring steps."""
    keys = dict.fromkeys(itertools.chain.from_iterable(lines))
    losses = [key for key in keys if "loss" in key or "listwise" in key or "pointwise" in key]
    figures = [key for key in keys if "ndcg" in key]
    with svg_figure(9.6, 3.2) as (figure, out):
        left, right = figure.subplots(1, 2)
        for key, colour in zip(losses, itertools.cycle(SERIES), strict=False):
            steps, values = _series(lines, key)
            size = max(len(values) // _SMOOTHED_POINTS, 1)
            starts = np.arange(0, len(values), size)
            counts = np.diff([*starts, len(values)])
            left.plot(
                np.add.reduceat(steps, starts) / counts,
                np.add.reduceat(values, starts) / counts,
                color=colour,
                linewidth=1.8 if key == "loss" else 1.1,
                label=key.replace("_", " "),
            )
        left.set_title("Losses on training pages")
        for key, colour in zip(figures, itertools.cycle(SERIES), strict=False):
            steps, values = _series(lines, key)
            label = key.replace("validation_", "").replace("_ndcg_at_10", "").replace("_", " ")
            label = "mean" if key == "validation_ndcg_at_10" else label
            right.plot(steps, values, "o-", color=colour, markersize=3, linewidth=1.4, label=label)
        right.set_title("NDCG@10 on validation pages")
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.grid(axis="y")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="best", fontsize=8.5)
    return svg_text(out, "Loss curves and validation NDCG@10 by step")


def plot_reliability(rows: Sequence[BeforeAfter]) -> str:
    """Mean probability against what happened, one panel per objective, before and after."""
    pooled = [row for row in rows if row.category == "all"]
    with svg_figure(3.2 * len(pooled), 3.1) as (figure, out):
        for axes, row in zip(
            figure.subplots(1, len(pooled), squeeze=False)[0], pooled, strict=True
        ):
            parts = ((row.before, RETRIEVAL, "before"), (row.after, NETWORK, "after"))
            for part, colour, label in parts:
                axes.plot(
                    part.predicted,
                    [value if value > 0 else np.nan for value in part.observed],
                    "o-",
                    color=colour,
                    markersize=4,
                    linewidth=1.3,
                    label=f"{label}, ECE {part.error:.4f}",
                )
            values = [*row.before.predicted, *row.after.predicted]
            bounds = max(min(values), 1e-5), max(values)
            axes.plot(bounds, bounds, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(row.objective)
            axes.set_xlabel("predicted")
            axes.legend(loc="upper left", fontsize=8.5)
        figure.axes[0].set_ylabel("observed")
    return svg_text(out, "Reliability before and after calibration")


def plot_calibration_errors(rows: Sequence[BeforeAfter], objective: str) -> str:
    """Expected calibration error of each category before and after, largest before on top."""
    shown = [row for row in rows if row.objective == objective and row.category != "all"]
    shown.sort(key=lambda row: row.before.error)
    with svg_figure(6.4, 0.27 * len(shown) + 1.1) as (figure, out):
        axes = figure.subplots()
        order = range(len(shown))
        before, after = [row.before.error for row in shown], [row.after.error for row in shown]
        worse = [row.after.error > row.before.error for row in shown]
        axes.hlines(order, before, after, colors=LINE, zorder=1)
        axes.plot(before, order, "o", color=RETRIEVAL, markersize=5, label="before")
        for flag, colour, label in ((False, NETWORK, "after"), (True, VERDICTS["loss"], "worse")):
            places = [index for index in order if worse[index] == flag]
            errors = [after[index] for index in places]
            axes.plot(errors, places, "o", color=colour, markersize=5, label=label)
        axes.set_yticks(order, [row.category for row in shown])
        axes.set_xlim(left=0)
        axes.set_xlabel(f"expected calibration error, {objective}")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3)
    return svg_text(out, f"Expected calibration error of {objective} per category")


def _series(
    lines: Sequence[Mapping[str, float]], key: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    points = [(line["step"], line[key]) for line in lines if key in line]
    steps, values = zip(*points, strict=True)
    return np.array(steps, np.float64), np.array(values, np.float64)
