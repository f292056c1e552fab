"""The plots of an explanation, as inline SVG; each returns the text of one `<svg>` element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from trainer.evaluation.bootstrap import Interval
from trainer.explanations.fidelity import STEPS
from trainer.reports.svg_figure import (
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

_METHODS = {"shapley": NETWORK, "leave one out": OTHER, "random": RETRIEVAL}


def plot_importance(surfaces: Mapping[str, Any]) -> str:
    """How far each group moves scores, and what a page loses without it; one colour a surface."""
    first = next(iter(surfaces.values()))["importance"]["groups"]
    groups = list(first)[::-1]
    with svg_figure(9.6, 0.34 * len(groups) + 1.2) as (figure, out):
        left, right = figure.subplots(1, 2, sharey=True)
        for index, (surface, found) in enumerate(surfaces.items()):
            shift = (index - (len(surfaces) - 1) / 2) * 0.22
            colours = [SERIES[index % len(SERIES)]] * len(groups)
            for axes, key in ((left, "moved"), (right, "ndcg_loss")):
                values = [interval_of(found["importance"]["groups"][name][key]) for name in groups]
                draw_intervals(axes, values, colours, shift=shift, label=surface)
        left.set_yticks(range(len(groups)), groups)
        left.set_xlabel("mean change of a score, in standard deviations of its page")
        right.set_xlabel("NDCG@10 lost without the group")
        right.axvline(0, color=MUTED, linewidth=0.8)
        left.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(surfaces))
    return svg_text(
        out, "How far each group of inputs moves scores, and the NDCG@10 lost without it"
    )


def plot_category_importance(found: Mapping[str, Any]) -> str:
    """How far each group moves the scores of each category, as a matrix."""
    table = found["by_category"]
    names, groups = list(table), list(found["groups"])
    values = np.array(
        [[interval_of(table[name][group]).mean for group in groups] for name in names]
    )
    with svg_figure(0.55 * len(groups) + 2.6, 0.26 * len(names) + 1.6) as (figure, out):
        axes = figure.subplots()
        shown = axes.imshow(values, cmap="Blues", aspect="auto", vmin=0)
        axes.set_xticks(range(len(groups)), groups, rotation=35, ha="right")
        axes.set_yticks(range(len(names)), names)
        figure.colorbar(shown, ax=axes, shrink=0.6, label="score moved, in page deviations")
    return svg_text(out, "How far each group moves the scores of each category")


def plot_fidelity(surfaces: Mapping[str, Any]) -> str:
    """Deletion curves, one panel a surface: the higher, the better the order of removal."""
    with svg_figure(3.3 * len(surfaces), 3.0) as (figure, out):
        panels = figure.subplots(1, len(surfaces), squeeze=False, sharey=True)[0]
        for axes, (surface, found) in zip(panels, surfaces.items(), strict=True):
            places = range(1, STEPS + 1)
            for method, curve in found["fidelity"]["curves"].items():
                steps = [interval_of(each) for each in curve]
                axes.plot(
                    places, [each.mean for each in steps], "o-", color=_METHODS[method],
                    markersize=4, linewidth=1.4, label=method,
                )  # fmt: skip
                axes.fill_between(
                    places, [each.low for each in steps], [each.high for each in steps],
                    color=_METHODS[method], alpha=0.15, linewidth=0,
                )  # fmt: skip
            axes.set_title(surface)
            axes.set_xlabel("groups removed")
            axes.set_xticks(list(places))
            axes.grid(axis="y")
        panels[0].set_ylabel("score moved, in page deviations")
        panels[0].legend(loc="lower right", fontsize=8.5)
    return svg_text(out, "How far scores move as groups are removed in the order of an explanation")


def plot_similarity(similarity: Mapping[str, Any]) -> str:
    """Cosines between categories as a matrix, similar ones beside each other under their tree."""
    names, cosines = similarity["names"], np.array(similarity["cosines"])
    size = 0.27 * len(names)
    with svg_figure(size + 3.0, size + 2.6) as (figure, out):
        top, axes = figure.subplots(2, 1, height_ratios=[1, 6])
        dendrogram(
            np.array(similarity["tree"]), ax=top, no_labels=True, color_threshold=0,
            above_threshold_color=MUTED,
        )  # fmt: skip
        top.axis("off")
        shown = axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.spines[:].set_visible(False)
        figure.colorbar(shown, ax=axes, shrink=0.6, label="cosine")
    return svg_text(out, f"How alike categories are by {similarity['source']}, clustered")


def plot_adapters(found: Mapping[str, Any], norms: Mapping[str, list[float]]) -> str:
    """What a category's own parameters change: NDCG@10, order, and size beside the shared ones."""
    table = {name: interval_of(each) for name, each in found["by_category"].items()}
    names = sorted(table, key=lambda name: table[name].mean)
    with svg_figure(9.6, 0.27 * len(names) + 1.2) as (figure, out):
        left, middle, right = figure.subplots(1, 3, sharey=True)
        values = [table[name] for name in names]
        draw_intervals(left, values, [VERDICTS[value.verdict] for value in values])
        left.axvline(0, color=MUTED, linewidth=0.8)
        left.set_yticks(range(len(names)), names)
        left.set_xlabel("NDCG@10 with minus without")
        agreement = [interval_of(found["agreement_by_category"][name]) for name in names]
        draw_intervals(middle, agreement, [NETWORK] * len(names))
        middle.set_xlabel("Kendall's tau with and without")
        layers = max((len(norms[name]) for name in names if name in norms), default=0)
        for layer in range(layers):
            sizes = [norms[name][layer] if name in norms else np.nan for name in names]
            right.plot(
                sizes, range(len(names)), "o", color=SERIES[layer], markersize=4,
                label=f"layer {layer + 1}",
            )  # fmt: skip
        right.set_xlabel("size of the change over the shared weights")
        right.set_xlim(left=0)
        right.grid(axis="x")
        if layers:
            right.legend(loc="lower right", fontsize=8.5)
    return svg_text(out, "What each category's own parameters change")


def interval_of(value: Mapping[str, float | None]) -> Interval:
    """Return an interval from JSON, where null is NaN."""
    mean, low, high = (
        float("nan") if value[key] is None else float(value[key] or 0.0)
        for key in ("mean", "low", "high")
    )
    return Interval(mean, low, high)
