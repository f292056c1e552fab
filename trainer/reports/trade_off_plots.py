"""The picture of a trade-off between two objectives, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.reports.svg_figure import LINE, MUTED, NETWORK, svg_figure, svg_text


def plot_trade_off(curve: Mapping[str, Any]) -> str:
    """Both objectives of every point with their intervals, the Pareto front filled.

    Args:
        curve: A `trainer.evaluation.trade_off.TradeOff` as JSON values.
    """
    points = [point for point in curve["points"] if point["first"]["mean"] is not None]
    first, second = curve["objectives"]
    with svg_figure(6.4, 4.2) as (figure, out):
        axes = figure.subplots()
        across = [point["first"]["mean"] for point in points]
        up = [point["second"]["mean"] for point in points]
        axes.plot(across, up, color=LINE, linewidth=1.2, zorder=1)
        for point, x, y in zip(points, across, up, strict=True):
            axes.hlines(y, point["first"]["low"], point["first"]["high"], colors=LINE, zorder=1)
            axes.vlines(x, point["second"]["low"], point["second"]["high"], colors=LINE, zorder=1)
        axes.scatter(
            across,
            up,
            s=34,
            c=[NETWORK if point["best"] else "white" for point in points],
            edgecolors=NETWORK,
            zorder=3,
        )
        for point, x, y in zip(_ends(points), _ends(across), _ends(up), strict=True):
            name = first if point["share"] == 0 else second
            axes.annotate(
                f"{name} alone",
                (x, y),
                xytext=(7, 5),
                textcoords="offset points",
                color=MUTED,
            )
        axes.set_xlabel(f"{first}: {curve['metrics'][0]}")
        axes.set_ylabel(f"{second}: {curve['metrics'][1]}")
        axes.grid()
        axes.margins(0.12)
    return svg_text(out, f"{first} against {second} over {len(points)} pairs of weights")


def _ends(values: Sequence[Any]) -> list[Any]:
    return [values[0], values[-1]] if values else []
