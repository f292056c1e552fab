"""The drawings of the learning page, as inline SVG: curves, dots with intervals, reliability."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from trainer.reports.svg_figure import LINE, MUTED, NETWORK, OTHER, RETRIEVAL, VERDICTS

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 14, 40
_ROW = 20
_TICKS = 5
_LEAST = 0.005  # half the width of the scale where rankings are equal
_FAR = 2.0  # an interval beyond this many times the widest mean is cut

TRANSFER, ALONE = "CrossRank, with the others", "CrossRank, alone"
_SERIES = {
    TRANSFER: (NETWORK, ""),
    ALONE: (OTHER, ""),
    "LightGBM, with the others": (NETWORK, "5 4"),
    "LightGBM, alone": (OTHER, "5 4"),
}


def plot_curve(curve: dict[str, Any]) -> str:
    """NDCG@10 by pages of the target, with the others and alone; grey: the simple rule."""
    points = curve["points"]
    most = max(point["pages"] for point in points)
    figures = [value for point in points for value in point["figures"].values()]
    low, high = _range(figures)

    def x(pages: int) -> float:
        share = math.log1p(pages) / max(math.log1p(most), 1e-9)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = _axes(low, high, y)
    for point in points:
        parts.append(
            _text(x(point["pages"]), _HEIGHT - _BOTTOM + 16, str(point["pages"]), "middle")
        )
    rule = points[-1]["figures"][curve["rule"]]
    parts.append(_line([(x(0), y(rule)), (x(most), y(rule))], RETRIEVAL, "2 3"))
    for name, (colour, dash) in _SERIES.items():
        places = [
            (x(point["pages"]), y(point["figures"][name]))
            for point in points
            if name in point["figures"]
        ]
        if places:
            parts.append(_line(places, colour, dash))
            parts += [_dot(a, b, colour, name) for a, b in places]
    parts.append(_text(_WIDTH / 2, _HEIGHT - 6, "labelled pages of the category", "middle"))
    return _svg(_WIDTH, _HEIGHT, parts, f"NDCG@10 of {curve['target']} by its number of pages")


def plot_differences(rows: Sequence[tuple[str, dict[str, Any]]], label: str) -> str:
    """A dot with its interval for each named difference; green is above 0, red below."""
    known = [(name, value) for name, value in rows if value["mean"] is not None]
    if not known:
        return ""
    widest = max(abs(value["mean"]) for _, value in known) or 0.01
    farthest = max(abs(value[side] or 0.0) for _, value in known for side in ("low", "high"))
    reach = max(min(farthest, _FAR * widest + 0.01), _LEAST)
    left, width, height = 210, 560, _ROW * len(known) + 46

    def x(value: float) -> float:
        inside = min(max(value, -reach), reach)
        share: float = (inside + reach) / (2 * reach)
        return left + share * (width - left - _RIGHT)

    parts = [_line([(x(0), 6), (x(0), height - 34)], MUTED, "")]
    for place, (name, value) in enumerate(known):
        middle = 16 + place * _ROW
        low, high = (value[side] or 0.0 for side in ("low", "high"))
        verdict = "win" if low > 0 else "loss" if high < 0 else "tie"
        parts.append(_text(left - 10, middle + 4, name[:34], "end"))
        parts.append(_line([(x(low), middle), (x(high), middle)], VERDICTS[verdict], ""))
        told = f"{name}: {value['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
        parts.append(_dot(x(value["mean"]), middle, VERDICTS[verdict], told))
    parts += [
        _text(x(value), height - 20, f"{value:+.2f}" if value else "0", "middle")
        for value in (-reach, 0.0, reach)
    ]
    parts.append(_text((left + width) / 2, height - 4, label, "middle"))
    return _svg(width, height, parts, label)


def plot_reliability(calibration: dict[str, Any]) -> str:
    """Share of positives by predicted probability, before and after calibration."""
    size, edge = 250, 40
    highest = max(
        [0.01]
        + [value for when in calibration.values() for value in when["predicted"]]
        + [value for when in calibration.values() for value in when["observed"]]
    )

    def place(value: float) -> float:
        share: float = value / highest
        return share * (size - edge - 12)

    parts = [_line([(edge, size - edge), (edge + place(highest), size - edge - place(highest))],
                   LINE, "4 3")]  # fmt: skip
    for when, colour in (("before", RETRIEVAL), ("after", NETWORK)):
        pairs = zip(calibration[when]["predicted"], calibration[when]["observed"], strict=True)
        places = [(edge + place(a), size - edge - place(b)) for a, b in pairs]
        parts.append(_line(places, colour, ""))
        parts += [_dot(a, b, colour, when) for a, b in places]
    parts.append(_text(size / 2 + 10, size - 8, "predicted", "middle"))
    parts.append(_text(edge - 6, 14, f"{highest:.2f}", "end"))
    parts.append(_text(edge - 6, size - edge, "0", "end"))
    return _svg(size, size, parts, "share of positives by predicted probability")


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.005)
    return low - room, high + room


def _axes(low: float, high: float, y: Any) -> list[str]:  # noqa: ANN401  a local function
    parts = []
    for step in range(_TICKS):
        value = low + (high - low) * step / (_TICKS - 1)
        parts.append(_line([(_LEFT, y(value)), (_WIDTH - _RIGHT, y(value))], LINE, ""))
        parts.append(_text(_LEFT - 6, y(value) + 4, f"{value:.3f}".lstrip("0"), "end"))
    return parts


def _line(places: Sequence[tuple[float, float]], colour: str, dash: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"{dashed}/>'


def _dot(x: float, y: float, colour: str, told: str) -> str:
    title = html.escape(told)
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour}"><title>{title}</title></circle>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="{MUTED}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    label = html.escape(title)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )
