"""The look of every picture: colours, and figures as inline SVG."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.evaluation.bootstrap import Interval

INK, MUTED, LINE = "#1d2433", "#6b7485", "#e3e7ee"
NETWORK, OTHER, RETRIEVAL = "#2457c5", "#d9822b", "#9aa3b2"
VERDICTS = {"win": "#17805a", "tie": "#9aa3b2", "loss": "#c8372d"}
SERIES = ("#2457c5", "#d9822b", "#17805a", "#8e44ad", "#c8372d", "#0e8a9c", "#6b7485")
_STYLE: Any = {
    "svg.hashsalt": "crossrank",  # the same figures give the same bytes
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": LINE,
    "legend.frameon": False,
}


def draw_intervals(
    axes: Axes,
    values: Sequence[Interval],
    colours: Sequence[str],
    *,
    shift: float = 0.0,
    label: str | None = None,
) -> None:
    """Draw each value as a dot on its interval, one below the other, the first at the bottom."""
    heights = np.arange(len(values)) + shift
    axes.hlines(
        heights, [v.low for v in values], [v.high for v in values], colors=list(colours), lw=1.6
    )
    means = [value.mean for value in values]
    axes.scatter(means, heights, s=24, c=list(colours), zorder=3, label=label)
    axes.set_ylim(-0.7, len(values) - 0.3)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


@contextmanager
def svg_figure(width: float, height: float) -> Iterator[tuple[Figure, io.StringIO]]:
    """Yield a figure that is written to the stream when the block ends."""
    out = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, out
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})


def svg_text(out: io.StringIO, label: str) -> str:
    """Return the `<svg>` element, named for readers who cannot see it, ids made unique."""
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    prefix = f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
