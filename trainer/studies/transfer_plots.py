"""The pictures of transfer, as inline SVG; a function returns the text of one `<svg>` element."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.encoding.pageset import Doubles
from trainer.evaluation.bootstrap import Interval
from trainer.reports.svg_figure import LINE, MUTED, NETWORK, OTHER, SERIES, svg_figure, svg_text


def plot_fine_tuning(lines: Sequence[Mapping[str, float]], best_step: int) -> str:
    """Cross-entropy and NDCG@10 of source and of target pages by step of fine-tuning.

    Args:
        lines: Of the journal; those with `source_` and `target_` figures count.
        best_step: The step whose weights were kept.
    """
    with svg_figure(9.6, 3.2) as (figure, out):
        for axes, key, title in zip(
            figure.subplots(1, 2),
            ("cross_entropy", "ndcg_at_10"),
            ("Cross-entropy on validation pages", "NDCG@10 on validation pages"),
            strict=True,
        ):
            for name, colour in (("source", OTHER), ("target", NETWORK)):
                points = [
                    (line["step"], line[f"{name}_{key}"])
                    for line in lines
                    if f"{name}_{key}" in line
                ]
                if points:
                    steps, values = zip(*points, strict=True)
                    axes.plot(steps, values, "o-", color=colour, markersize=3, label=name)
            axes.axvline(best_step, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set_title(title)
            axes.set_xlabel("step; dashed: the weights that were kept")
            axes.grid(axis="y")
            axes.legend(loc="best", fontsize=8.5)
    return svg_text(out, "Losses and NDCG@10 of source and target through fine-tuning")


def plot_affinity(values: Doubles, names: Sequence[str], targets: Sequence[str]) -> str:
    """Which category's step lowers whose loss, as a matrix of colours.

    Args:
        values: Affinity of teacher (row) to taught (column), shape (categories, categories).
        names: Of the categories.
        targets: Those that were held out; their names stand in bold.
    """
    # in a column, how much another teaches beside how much a category teaches itself
    own = np.abs(np.diag(values))
    shown = np.where(np.eye(len(names)) > 0, np.nan, values / np.where(own > 0, own, 1.0))
    most = max(float(np.nanmax(np.abs(shown), initial=0.0)), 1e-9)
    with svg_figure(9.6, 0.3 * len(names) + 2.2) as (figure, out):
        axes = figure.subplots()
        image = axes.imshow(shown, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), names)
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set_fontweight("bold" if label.get_text() in targets else "normal")
        axes.set_xlabel("taught (bold: held out)")
        axes.set_ylabel("teaches")
        axes.spines[["left", "bottom"]].set_visible(False)
        bar = figure.colorbar(image, ax=axes, shrink=0.7)
        bar.outline.set_edgecolor(LINE)
        bar.set_label("affinity, as a share of what its own pages teach")
    return svg_text(out, "Which category teaches which")


def plot_few_shot(curves: Mapping[str, Mapping[int, Interval]], title: str) -> str:
    """Quality of each ranking by the number of the target's pages.

    Args:
        curves: Ranking -> number of pages -> NDCG@10.
        title: What is measured.
    """
    counts = sorted({count for curve in curves.values() for count in curve})
    places = {count: place for place, count in enumerate(counts)}
    with svg_figure(6.4, 3.4) as (figure, out):
        axes = figure.subplots()
        for (name, curve), colour in zip(curves.items(), itertools.cycle(SERIES), strict=False):
            at = [places[count] for count in sorted(curve)]
            values = [curve[count] for count in sorted(curve)]
            axes.plot(at, [v.mean for v in values], "o-", color=colour, markersize=4, label=name)
            axes.fill_between(
                at, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.1, lw=0
            )
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        axes.set_xlabel("pages of the target; bands: 95 % intervals")
        axes.set_ylabel("NDCG@10")
        axes.set_title(title)
        axes.grid(axis="y")
        axes.legend(loc="best", fontsize=8.5)
    return svg_text(out, f"NDCG@10 by the number of the target's pages, {title}")
