"""Pictures of the dashboards: each panel's query asked of an Elasticsearch, drawn by matplotlib.

They show what the panels compute and where they stand. They are no pictures of Kibana, which draws
them in its own way, and every one says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from es_plugin_config.kibana.panel_query import Cell, Panel, read_panel
from es_plugin_config.kibana.saved_objects import GRID_WIDTH, dashboard_panels

Json: TypeAlias = dict[str, Any]
Rows: TypeAlias = Sequence[Mapping[str, Cell]]
LABEL = (
    "Drawn by matplotlib from the panels' own queries on a real Elasticsearch with made-up traffic."
    " Not a picture of Kibana."
)
_WIDTH_IN = 16.0
_ROW_IN = 0.27
_COLOURS = ("#3b6fb6", "#e0863c", "#4f9d69", "#c44e52", "#8172b2", "#937860", "#da8bc3", "#8c8c8c")
_TABLE_ROWS = 9
_CHARS_ACROSS = 190  # of a table as wide as the dashboard
_LEAST_CHARS = 9


def draw_dashboard(
    saved: Json,
    ask: Callable[[Panel], Rows],
    read: Callable[[str], tuple[Sequence[str], Sequence[Sequence[str]]]],
    path: Path,
) -> None:
    """Draw a saved dashboard to a PNG file.

    Args:
        saved: The saved object.
        ask: Panel -> its rows, column id -> value.
        read: Id of a saved search -> its columns and the cells of its first documents.
        path: File to write.
    """
    panels = dashboard_panels(saved)
    height = max(panel["gridData"]["y"] + panel["gridData"]["h"] for panel in panels) + 4
    figure = Figure(figsize=(_WIDTH_IN, height * _ROW_IN), facecolor="#f4f6f9")
    searches = {
        reference["name"]: reference["id"]
        for reference in saved["references"]
        if reference["type"] == "search"
    }
    figure.text(0.01, 1 - 0.8 / height, saved["attributes"]["title"], size=15, weight="bold")
    figure.text(0.01, 1 - 1.8 / height, saved["attributes"]["description"], size=10)
    figure.text(0.99, 1 - 0.8 / height, LABEL, size=9, ha="right", color="#a33", style="italic")
    for panel in panels:
        axes = _axes(figure, panel, height)
        if panel["type"] == "links":
            labels = [each["label"] for each in panel["embeddableConfig"]["attributes"]["links"]]
            axes.text(0.01, 0.5, "     ".join(labels), va="center", color=_COLOURS[0], size=11)
            _empty(axes)
        elif panel["type"] == "lens":
            shown = read_panel(panel["embeddableConfig"]["attributes"])
            _draw_panel(axes, shown, ask(shown))
        else:
            name = f"{panel['panelIndex']}:{panel['panelRefName']}"
            columns, cells = read(searches[name])
            _title(axes, panel["title"])
            _table(axes, columns, cells)
    figure.savefig(path, dpi=80, metadata={"Software": None, "Description": LABEL})


def _axes(figure: Figure, panel: Json, height: int) -> Axes:
    """Return axes at a panel's place, with room for its title and ticks."""
    grid = panel["gridData"]
    left, width = grid["x"] / GRID_WIDTH, grid["w"] / GRID_WIDTH
    top, tall = (grid["y"] + 2.5) / height, grid["h"] / height
    margin = 1.6 / height
    tight = panel["type"] == "links"  # which has no title
    ticks = 0.07 if '"bar_horizontal"' in json.dumps(panel) else 0.03
    return figure.add_axes(
        (
            left + ticks,
            1 - top - tall + (0 if tight else margin),
            width - ticks - 0.012,
            tall - (0 if tight else 2.1 * margin),
        ),
        facecolor="white",
    )


def _draw_panel(axes: Axes, panel: Panel, rows: Rows) -> None:
    _title(axes, panel.title)
    match panel.kind:
        case "lnsMetric":
            name = panel.visualization["metricAccessor"]
            text = _cell(rows[0][name], panel.columns[name])
            axes.text(0.5, 0.5, text, ha="center", va="center", size=24, color=_COLOURS[0])
            _empty(axes)
        case "lnsDatatable":
            names = [column["columnId"] for column in panel.visualization["columns"]]
            cells = [[_cell(row[name], panel.columns[name]) for name in names] for row in rows]
            _table(axes, [panel.columns[name]["label"] for name in names], cells)
        case _:
            _graph(axes, panel, rows)


def _graph(axes: Axes, panel: Panel, rows: Rows) -> None:
    (layer,) = panel.visualization["layers"]
    across, shape = layer["xAccessor"], layer["seriesType"]
    column = panel.columns[across]
    over_time = column["operationType"] == "date_histogram"
    places = list(dict.fromkeys(row[across] for row in rows))
    if over_time:
        places.sort(key=str)
    series = _series(panel, layer, rows)
    if shape == "bar_horizontal":
        (values,) = series.values()
        numbers = [values[each] for each in places]
        axes.barh([_key(each) for each in places], numbers, color=_COLOURS[0])
        axes.invert_yaxis()
        axes.tick_params(labelsize=8)
        return
    # dates as matplotlib takes them, which its own types do not know
    xs: Any = [_moment(each) if over_time else _key(each) for each in places]
    bottom = [0.0] * len(places)
    width = 0.8 if not over_time else 0.9 / (24 * 60)
    for (label, values), colour in zip(series.items(), _COLOURS * len(series), strict=False):
        ys = [float(values.get(each) or 0.0) for each in places]
        if shape == "line":
            known = [
                (x, values[each]) for x, each in zip(xs, places, strict=True) if each in values
            ]
            line = [(x, y) for x, y in known if y is not None]  # Lens joins over gaps too
            axes.plot(*zip(*line, strict=True), label=label, color=colour, lw=1.4, marker=".", ms=3)
        elif shape == "area_stacked":
            tops = [low + high for low, high in zip(bottom, ys, strict=True)]
            axes.fill_between(xs, bottom, tops, label=label, color=colour, alpha=0.8)
            bottom = tops
        else:
            axes.bar(xs, ys, width, bottom=bottom, label=label, color=colour)
            bottom = [low + high for low, high in zip(bottom, ys, strict=True)]
    if over_time:
        dates: Any = ConciseDateFormatter  # without types
        axes.xaxis.set_major_formatter(dates(axes.xaxis.get_major_locator()))
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#e5e5e5")
    axes.set_axisbelow(True)
    if len(series) > 1:
        axes.legend(fontsize=8, loc="best", frameon=True, framealpha=0.7)


def _series(panel: Panel, layer: Json, rows: Rows) -> dict[str, dict[Cell, Any]]:
    """Return the series of a graph: label -> place on the axis -> value."""
    across, split = layer["xAccessor"], layer.get("splitAccessor")
    series: dict[str, dict[Cell, Any]] = {}
    for row in rows:
        for name in layer["accessors"]:
            label = panel.columns[name]["label"] if split is None else str(row[split])
            series.setdefault(label, {})[row[across]] = row[name]
    return series


def _table(axes: Axes, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    _empty(axes)
    chars = max(int(_CHARS_ACROSS * axes.get_position().width / len(columns)), _LEAST_CHARS)
    shown = [[_short(each, chars) for each in row] for row in rows[:_TABLE_ROWS]]
    if not shown:
        return
    heads = [_short(name.removeprefix("event_attributes."), chars + 4) for name in columns]
    table = axes.table(shown, colLabels=heads, bbox=Bbox.unit(), cellLoc="left", edges="horizontal")
    table.auto_set_font_size(value=False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(heads))))
    for position, cell in table.get_celld().items():
        cell.set_edgecolor("#dddddd")
        if position[0] == 0:
            cell.set_text_props(weight="bold")


def _cell(value: Cell, column: Json) -> str:
    """Return a value in the format of its column."""
    if value is None:
        return "-"
    if isinstance(value, str) or column["isBucketed"]:
        return _key(value)
    form = column["params"].get("format", {"id": "number", "params": {"decimals": 0}})
    decimals = form["params"]["decimals"]
    if form["id"] == "percent":
        return f"{100 * value:.{decimals}f} %"
    return f"{value:,.{decimals}f}"


def _key(value: Cell) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", size=10, weight="bold")


def _empty(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _moment(key: Cell) -> datetime:
    return datetime.fromisoformat(str(key))
