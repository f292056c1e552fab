"""Charts as the saved state of Kibana Lens (`formBased` layers), by value, with stable ids.

Fields and their defaults are those that Lens of Kibana 8.9 writes; later versions migrate them
when they are imported. One layer a chart.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from es_plugin_config.kibana.charts import (
    AnyMeasure,
    Graph,
    LensChart,
    Measure,
    Number,
    Operation,
    OverTime,
    Share,
    Split,
    Table,
)
from es_plugin_config.kibana.mapping import StreamFields

Json: TypeAlias = dict[str, Any]
LAYER = "layer"
RECORDS = "___records___"
_NUMBERS = {"byte", "short", "integer", "long", "float", "double", "half_float", "scaled_float"}


def lens_attributes(chart: LensChart, fields: StreamFields) -> Json:
    """Return what a panel keeps of a chart: title, type, references and state.

    Args:
        chart: What to show.
        fields: Of the data view, by name; buckets are typed by them.
    """
    columns = _columns(chart, fields)
    kind, visualization = _visualization(chart, columns)
    return {
        "description": "",
        "references": [
            {
                "id": chart.view.view_id,
                "name": f"indexpattern-datasource-layer-{LAYER}",
                "type": "index-pattern",
            },
            {
                "id": chart.view.view_id,
                "name": "filter-index-pattern-0",
                "type": "index-pattern",
            },
        ],
        "state": {
            "adHocDataViews": {},
            "datasourceStates": {
                "formBased": {
                    "layers": {
                        LAYER: {
                            "columnOrder": list(columns),
                            "columns": columns,
                            "incompleteColumns": {},
                            "sampling": 1,
                        }
                    }
                }
            },
            "filters": [_exists_filter(chart.view.key)],
            "internalReferences": [],
            "query": {"language": "kuery", "query": chart.where},
            "visualization": visualization,
        },
        "title": chart.title,
        "type": "lens",
        "visualizationType": kind,
    }


def slug(text: str) -> str:
    """Return a text as an id: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def splits_of(chart: LensChart) -> tuple[Split, ...]:
    """Return by what a chart is cut, the outermost first."""
    match chart:
        case Number():
            return ()
        case Graph():
            return (chart.across,) if chart.split is None else (chart.split, chart.across)
        case Table():
            return chart.rows


def measures_of(chart: LensChart) -> tuple[AnyMeasure, ...]:
    """Return the numbers of a chart."""
    return (chart.measure,) if isinstance(chart, Number) else chart.measures


def formula_text(share: Share) -> str:
    """Return the Lens formula of a share."""

    def counted(where: str) -> str:
        said = [share.distinct] if share.distinct else []
        said += [f"kql='{where}'"] if where else []
        return f"{'unique_count' if share.distinct else 'count'}({', '.join(said)})"

    divided = f"{counted(share.where)} / {counted(share.of)}"
    return f"1 - {divided}" if share.rest else divided


def _columns(chart: LensChart, fields: StreamFields) -> dict[str, Json]:
    measures = measures_of(chart)
    # Lens orders buckets by plain measures alone, never by a formula.
    first = next(
        (f"measure-{n}" for n, each in enumerate(measures) if isinstance(each, Measure)), None
    )
    columns: dict[str, Json] = {}
    for number, split in enumerate(splits_of(chart)):
        columns[f"split-{number}"] = _bucket(split, fields, first)
    for number, measure in enumerate(measures):
        column_id = f"measure-{number}"
        if isinstance(measure, Share):
            columns |= _formula(column_id, measure)
        else:
            columns[column_id] = _metric(measure)
    return columns


def _bucket(split: Split, fields: StreamFields, first_measure: str | None) -> Json:
    if isinstance(split, OverTime):
        return {
            "customLabel": True,
            "dataType": "date",
            "isBucketed": True,
            "label": split.label,
            "operationType": "date_histogram",
            "params": {"dropPartials": False, "includeEmptyRows": True, "interval": "auto"},
            "scale": "interval",
            "sourceField": split.field,
        }
    by_value = split.by_value or first_measure is None
    order_by: Json = (
        {"fallback": False, "type": "alphabetical"}
        if by_value
        else {"columnId": first_measure, "type": "column"}
    )
    return {
        "customLabel": True,
        "dataType": _data_type(fields[split.field]),
        "isBucketed": True,
        "label": split.label,
        "operationType": "terms",
        "params": {
            "exclude": [],
            "excludeIsRegex": False,
            "include": [],
            "includeIsRegex": False,
            "missingBucket": False,
            "orderBy": order_by,
            "orderDirection": "asc" if by_value or split.smallest_first else "desc",
            "otherBucket": False,
            "parentFormat": {"id": "terms"},
            "size": split.size,
        },
        "scale": "ordinal",
        "sourceField": split.field,
    }


def _data_type(mapped: str) -> str:
    if mapped in _NUMBERS:
        return "number"
    return mapped if mapped in {"boolean", "date"} else "string"


def _metric(measure: Measure) -> Json:
    column: Json = {
        "customLabel": True,
        "dataType": "number",
        "isBucketed": False,
        "label": measure.label,
        "operationType": measure.operation,
        "params": {
            "emptyAsNull": measure.operation in {"count", "sum", "unique_count"},
            "format": {"id": "number", "params": {"decimals": measure.decimals}},
        },
        "scale": "ratio",
        "sourceField": measure.field or RECORDS,
    }
    if measure.operation == "percentile":
        column["params"]["percentile"] = measure.percentile
    if measure.where:
        column["filter"] = {"language": "kuery", "query": measure.where}
    return column


def _formula(column_id: str, share: Share) -> dict[str, Json]:
    text = formula_text(share)
    parts = [f"{column_id}X0", f"{column_id}X1"]
    columns = {}
    for part, where in zip(parts, (share.where, share.of), strict=True):
        operation: Operation = "unique_count" if share.distinct else "count"
        measure = Measure(f"Part of {text}", operation, share.distinct, where)
        columns[part] = _metric(measure)
        columns[part]["params"] = {"emptyAsNull": False}
    divided: Json = {"args": parts, "name": "divide", "type": "function"}
    ast = {"args": [1, divided], "name": "subtract", "type": "function"} if share.rest else divided
    ast |= {"location": {"max": len(text), "min": 0}, "text": text}
    math = f"{column_id}X2"
    shown = {"customLabel": True, "dataType": "number", "isBucketed": False, "scale": "ratio"}
    columns[math] = shown | {
        "label": f"Part of {text}",
        "operationType": "math",
        "params": {"tinymathAst": ast},
        "references": parts,
    }
    columns[column_id] = shown | {
        "label": share.label,
        "operationType": "formula",
        "params": {
            "format": {"id": "percent", "params": {"decimals": 2}},
            "formula": text,
            "isFormulaBroken": False,
        },
        "references": [math],
    }
    return columns


def _visualization(chart: LensChart, columns: dict[str, Json]) -> tuple[str, Json]:
    measures = [f"measure-{number}" for number in range(len(measures_of(chart)))]
    buckets = [name for name, column in columns.items() if column["isBucketed"]]
    match chart:
        case Number():
            return "lnsMetric", {
                "layerId": LAYER,
                "layerType": "data",
                "metricAccessor": measures[0],
            }
        case Table():
            return "lnsDatatable", {
                "columns": [{"columnId": name} for name in (*buckets, *measures)],
                "layerId": LAYER,
                "layerType": "data",
                "paging": {"enabled": True, "size": 20},
            }
        case Graph():
            layer: Json = {
                "accessors": measures,
                "layerId": LAYER,
                "layerType": "data",
                "position": "top",
                "seriesType": chart.shape,
                "showGridlines": False,
                "xAccessor": buckets[-1],
            }
            if chart.split is not None:
                layer["splitAccessor"] = buckets[0]
            return "lnsXY", {
                "axisTitlesVisibilitySettings": {"x": True, "yLeft": False, "yRight": False},
                "fittingFunction": "Linear" if chart.shape == "line" else "None",
                "layers": [layer],
                "legend": {"isVisible": True, "position": "right"},
                "preferredSeriesType": chart.shape,
                "valueLabels": "hide",
            }


def _exists_filter(field: str) -> Json:
    return {
        "$state": {"store": "appState"},
        "meta": {
            "alias": None,
            "disabled": False,
            "index": "filter-index-pattern-0",
            "key": field,
            "negate": False,
            "type": "exists",
            "value": "exists",
        },
        "query": {"exists": {"field": field}},
    }
