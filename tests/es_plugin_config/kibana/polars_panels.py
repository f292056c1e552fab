"""The numbers of a chart computed from the documents by Polars, not by way of its Lens state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import polars as pl

from es_plugin_config.kibana.charts import LensChart, Measure, OverTime, Share, Top
from es_plugin_config.kibana.kql import Condition, Junction, Node, read_kql
from es_plugin_config.kibana.lens import measures_of, splits_of

Key = tuple[Any, ...]
MINUTE = timedelta(minutes=1)
NUMBERS = {"byte", "short", "integer", "long", "float", "double"}


def frame(bodies: Sequence[bytes], fields: dict[str, str]) -> pl.DataFrame:
    """One row a document, one column a field of the mapping; lists stay lists."""
    rows = [flat(json.loads(body)) for body in bodies]
    columns: dict[str, pl.Series] = {}
    for name, kind in fields.items():
        values = [row.get(name) for row in rows]
        if kind == "date":
            moments = [None if each is None else datetime.fromisoformat(each) for each in values]
            columns[name] = pl.Series(name, moments, dtype=pl.Datetime("us", "UTC"))
        elif any(isinstance(each, list) for each in values):
            columns[name] = pl.Series(name, values, dtype=pl.List(pl.String), strict=False)
        else:
            dtype = (
                pl.Boolean if kind == "boolean" else pl.Float64 if kind in NUMBERS else pl.String
            )
            columns[name] = pl.Series(name, values, dtype=dtype, strict=False)
    return pl.DataFrame(columns)


def flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in fields.items():
        out |= (
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return out


def chart_numbers(chart: LensChart, documents: pl.DataFrame) -> dict[Key, list[float | None]]:
    """Bucket keys, the outermost first -> the chart's measures in their order."""
    chosen = documents.filter(pl.col(chart.view.key).is_not_null())
    return _cut(chart, list(splits_of(chart)), _matching(chosen, chart.where), ())


def _cut(
    chart: LensChart, splits: list[Top | OverTime], chosen: pl.DataFrame, key: Key
) -> dict[Key, list[float | None]]:
    if not splits:
        return {key: [_number(measure, chosen) for measure in measures_of(chart)]}
    split, *inner = splits
    numbers: dict[Key, list[float | None]] = {}
    for value, part in _buckets(chart, split, chosen):
        numbers |= _cut(chart, inner, part, (*key, value))
    return numbers


def _buckets(
    chart: LensChart, split: Top | OverTime, chosen: pl.DataFrame
) -> list[tuple[Any, pl.DataFrame]]:
    if isinstance(split, OverTime):
        if chosen.is_empty():
            return []
        minutes = chosen[split.field].dt.truncate("1m")
        first, last = minutes.min(), minutes.max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        steps = int((last - first) / MINUTE) + 1
        return [
            (
                (first + number * MINUTE).strftime("%Y-%m-%dT%H:%M:00.000Z"),
                chosen.filter(minutes == first + number * MINUTE),
            )
            for number in range(steps)
        ]
    column = chosen[split.field]
    if column.dtype == pl.List:
        values = column.list.explode().drop_nulls().unique().to_list()
        parts = {each: chosen.filter(pl.col(split.field).list.contains(each)) for each in values}
    else:
        values = column.drop_nulls().unique().to_list()
        parts = {each: chosen.filter(pl.col(split.field) == each) for each in values}
    first_measure = next((each for each in measures_of(chart) if isinstance(each, Measure)), None)
    if split.by_value or first_measure is None:
        ordered = sorted(parts)
    else:
        sizes = {each: _number(first_measure, part) for each, part in parts.items()}
        sign = 1 if split.smallest_first else -1
        ordered = sorted(parts, key=lambda each: (sign * (sizes[each] or 0.0), each))
    return [(_shown(each), parts[each]) for each in ordered[: split.size]]


def _shown(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _number(measure: Measure | Share, chosen: pl.DataFrame) -> float | None:
    if isinstance(measure, Share):
        part, whole = _matching(chosen, measure.where), _matching(chosen, measure.of)
        if measure.distinct:
            counts = [each[measure.distinct].drop_nulls().n_unique() for each in (part, whole)]
        else:
            counts = [part.height, whole.height]
        if counts[1] == 0:
            return None
        share = counts[0] / counts[1]
        return 1 - share if measure.rest else share
    chosen = _matching(chosen, measure.where)
    if measure.operation == "count":
        return float(chosen.height)
    values = chosen[measure.field].drop_nulls()
    if values.is_empty():
        return None
    operations = {"average": values.mean, "min": values.min, "max": values.max, "sum": values.sum}
    if measure.operation == "percentile":
        return values.quantile(measure.percentile / 100, "linear")
    number = operations[measure.operation]()
    assert isinstance(number, int | float)
    return float(number)


def _matching(documents: pl.DataFrame, kql: str) -> pl.DataFrame:
    node = read_kql(kql)
    return documents if node is None else documents.filter(_expression(node, documents))


def _expression(node: Node, documents: pl.DataFrame) -> pl.Expr:
    if isinstance(node, Junction):
        parts = [_expression(part, documents) for part in node.parts]
        if node.word == "not":
            return ~parts[0]
        return reduce(lambda a, b: a & b if node.word == "and" else a | b, parts)
    return _compared(node, documents).fill_null(value=False)


def _compared(node: Condition, documents: pl.DataFrame) -> pl.Expr:
    column = pl.col(node.field)
    if node.value == "*" and not node.quoted:
        return column.is_not_null()
    dtype = documents[node.field].dtype
    value: Any = node.value
    if dtype == pl.Boolean:
        value = node.value == "true"
    elif dtype == pl.Float64:
        value = float(node.value)
    compared: dict[str, pl.Expr] = {
        ":": column == value,
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
    }
    return compared[node.operator]
