"""What a dashboard may hold: charts of measures of a data view, cut by fields or by time.

`measures.py` and the dashboards are written in these words, `lens.py` turns them into Kibana's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Shape: TypeAlias = Literal["line", "bar", "bar_stacked", "bar_horizontal", "area_stacked"]
Operation: TypeAlias = Literal[
    "count", "average", "sum", "min", "max", "median", "unique_count", "percentile"
]
Format: TypeAlias = Literal["number", "percent"]


@dataclass(frozen=True, slots=True)
class DataView:
    """A data stream as Kibana sees it.

    Attributes:
        view_id: Stable id of the saved object.
        stream: The data stream.
        name: What people see.
        key: A field that every document of the stream has; charts filter by it.
    """

    view_id: str
    stream: str
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of the documents.

    Attributes:
        label: What people see.
        operation: How it is computed.
        field: Of which field; empty for a count of documents.
        where: KQL that documents have to match; empty takes all.
        percentile: Which, 0 to 100, for the operation of that name.
        decimals: Digits after the point.
    """

    label: str
    operation: Operation
    field: str = ""
    where: str = ""
    percentile: float = 0.0
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """One count divided by another, in percent.

    Attributes:
        label: What people see.
        where: KQL of what is counted.
        of: KQL of what it is divided by; empty takes all documents.
        distinct: Count values of this field in the place of documents.
        rest: Show what is left to 100 % in the place of the share.
    """

    label: str
    where: str
    of: str = ""
    distinct: str = ""
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Top:
    """One bucket for each of the most frequent values of a field.

    Attributes:
        field: Keyword or number.
        label: What people see.
        size: How many at most.
        by_value: In the order of the values; else by the first measure, its largest first.
        smallest_first: By the first measure, its smallest first.
    """

    field: str
    label: str
    size: int = 10
    by_value: bool = False
    smallest_first: bool = False


@dataclass(frozen=True, slots=True)
class OverTime:
    """One bucket for each stretch of time, of the length that Kibana finds fit."""

    label: str = "Time"
    field: str = "@timestamp"


Split: TypeAlias = Top | OverTime
AnyMeasure: TypeAlias = Measure | Share


@dataclass(frozen=True, slots=True)
class Number:
    """One large number."""

    title: str
    view: DataView
    measure: AnyMeasure
    where: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Lines, bars or areas.

    Attributes:
        title: What people see.
        view: Whose documents.
        shape: Of the series.
        across: The horizontal axis (the vertical one of `bar_horizontal`).
        measures: A series each; one alone where `split` is given.
        split: A series for each value.
        where: KQL of all of it.
    """

    title: str
    view: DataView
    shape: Shape
    across: Split
    measures: tuple[AnyMeasure, ...]
    split: Top | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by the values of fields, a column for each measure."""

    title: str
    view: DataView
    rows: tuple[Split, ...]
    measures: tuple[AnyMeasure, ...]
    where: str = ""


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """Documents as they are, newest first."""

    search_id: str
    title: str
    view: DataView
    columns: tuple[str, ...]
    where: str = ""
    oldest_first: bool = False


LensChart: TypeAlias = Number | Graph | Table
Chart: TypeAlias = LensChart | SavedSearch


@dataclass(frozen=True, slots=True)
class Row:
    """Charts beside each other.

    Attributes:
        height: In rows of Kibana's grid, of about 20 pixels.
        charts: From left to right.
        widths: Of each, 48 together; empty shares the width evenly.
    """

    height: int
    charts: tuple[Chart, ...]
    widths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Control:
    """A field whose values people can choose from, above the charts."""

    field: str
    label: str
    view: DataView


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page of charts."""

    dashboard_id: str
    title: str
    description: str
    rows: tuple[Row, ...]
    controls: tuple[Control, ...] = ()
    time_from: str = "now-24h"
