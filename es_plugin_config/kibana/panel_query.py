"""What Elasticsearch is asked for a Lens panel, read from the panel's saved state alone.

As Lens does: buckets are nested in the order of `columnOrder`, a column's filter is an
aggregation around its metric, formulas are computed from their parts afterwards. One thing
differs: `auto` intervals are given by the caller, as Kibana gives them by the width of the screen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from es_plugin_config.kibana.kql import kql_query
from rerank_server.contract.errors import RerankError

Json: TypeAlias = dict[str, Any]
Cell: TypeAlias = str | int | float | bool | None
_METRICS = {
    "average": "avg",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "unique_count": "cardinality",
}
_REFERENCING = {"math", "formula"}


class PanelQueryError(RerankError):
    """A panel whose state cannot be turned into a query, or an answer that does not fit it."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The state of one Lens layer, as far as data are concerned.

    Attributes:
        title: What people see.
        view_id: Id of the data view.
        columns: Column id -> column, in their order.
        query: KQL of the whole panel.
        filters: Elasticsearch queries beside it.
        kind: `lnsXY`, `lnsMetric` or `lnsDatatable`.
        visualization: Which column stands where.
    """

    title: str
    view_id: str
    columns: Mapping[str, Json]
    query: str
    filters: tuple[Json, ...]
    kind: str
    visualization: Json

    @property
    def buckets(self) -> list[str]:
        """Ids of the columns that cut the data, the outermost first."""
        return [name for name, column in self.columns.items() if column["isBucketed"]]

    @property
    def shown(self) -> list[str]:
        """Ids of the columns that show numbers, without the parts of formulas."""
        parts = {part for column in self.columns.values() for part in column.get("references", ())}
        return [
            name
            for name, column in self.columns.items()
            if not column["isBucketed"] and name not in parts
        ]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From the first moment, included, to the last, excluded; ISO 8601."""

    start: str
    end: str


def read_panel(attributes: Json) -> Panel:
    """Return the panel of a Lens panel's `attributes`.

    Raises:
        PanelQueryError: When it has not exactly one layer with a data view.
    """
    layers = attributes["state"]["datasourceStates"]["formBased"]["layers"]
    if len(layers) != 1:
        raise PanelQueryError(f"{attributes['title']}: got {len(layers)} layers, want 1")
    ((layer_id, layer),) = layers.items()
    views = [
        reference["id"]
        for reference in attributes["references"]
        if reference["name"] == f"indexpattern-datasource-layer-{layer_id}"
    ]
    if len(views) != 1:
        raise PanelQueryError(f"{attributes['title']}: got {len(views)} data views, want 1")
    return Panel(
        title=attributes["title"],
        view_id=views[0],
        columns={name: layer["columns"][name] for name in layer["columnOrder"]},
        query=attributes["state"]["query"]["query"],
        filters=tuple(each["query"] for each in attributes["state"]["filters"]),
        kind=attributes["visualizationType"],
        visualization=attributes["state"]["visualization"],
    )


def search_body(panel: Panel, when: TimeRange, interval: str) -> Json:
    """Return the body of the `_search` that answers a panel.

    Args:
        panel: Which.
        when: The dashboard's time range.
        interval: In the place of `auto`, such as "1m".

    Raises:
        PanelQueryError: On a column of an unknown operation.
    """
    metrics = _metric_aggregations(panel)
    aggregations = metrics
    for name in reversed(panel.buckets):
        bucket = _bucket_aggregation(panel, name, interval)
        # A bucket that is ordered by a metric needs it beside its own inner buckets.
        inner = {**metrics, **aggregations}
        aggregations = {name: {**bucket, **({"aggs": inner} if inner else {})}}
    span = {"gte": when.start, "lt": when.end, "format": "strict_date_optional_time"}
    return {
        "size": 0,
        "track_total_hits": True,
        "query": {
            "bool": {
                "filter": [
                    {"range": {"@timestamp": span}},
                    kql_query(panel.query),
                    *panel.filters,
                ]
            }
        },
        **({"aggs": aggregations} if aggregations else {}),
    }


def table_rows(panel: Panel, answer: Json) -> list[dict[str, Cell]]:
    """Return the rows of an answer: column id -> value, the innermost buckets one row each.

    Raises:
        PanelQueryError: When the answer lacks what the panel asked for.
    """
    whole = {**answer.get("aggregations", {}), "doc_count": answer["hits"]["total"]["value"]}
    return _rows(panel, panel.buckets, whole, {})


def _metric_aggregations(panel: Panel) -> Json:
    aggregations: Json = {}
    for name, column in panel.columns.items():
        if column["isBucketed"] or column["operationType"] in _REFERENCING:
            continue
        metric = _metric_aggregation(column)
        if "filter" in column:
            inner = {"aggs": {"metric": metric}} if metric else {}
            aggregations[name] = {"filter": kql_query(column["filter"]["query"]), **inner}
        elif metric:
            aggregations[name] = metric
    return aggregations


def _metric_aggregation(column: Json) -> Json:
    operation, field = column["operationType"], column["sourceField"]
    if operation == "count":
        return {}
    if operation in _METRICS:
        return {_METRICS[operation]: {"field": field}}
    if operation == "percentile":
        return {"percentiles": {"field": field, "percents": [column["params"]["percentile"]]}}
    if operation == "median":
        return {"percentiles": {"field": field, "percents": [50]}}
    raise PanelQueryError(f"{column['label']}: got operation {operation!r}, want one of Lens")


def _bucket_aggregation(panel: Panel, name: str, interval: str) -> Json:
    column = panel.columns[name]
    parameters = column["params"]
    if column["operationType"] == "date_histogram":
        given = parameters["interval"]
        return {
            "date_histogram": {
                "field": column["sourceField"],
                "fixed_interval": interval if given == "auto" else given,
                "time_zone": "UTC",
                "min_doc_count": 0 if parameters["includeEmptyRows"] else 1,
            }
        }
    if column["operationType"] != "terms":
        raise PanelQueryError(
            f"{panel.title}: got buckets by {column['operationType']!r},"
            " want terms or date_histogram"
        )
    order = parameters["orderBy"]
    path = "_key" if order["type"] == "alphabetical" else _order_path(panel, order["columnId"])
    return {
        "terms": {
            "field": column["sourceField"],
            "size": parameters["size"],
            "order": {path: parameters["orderDirection"]},
        }
    }


def _order_path(panel: Panel, name: str) -> str:
    column = panel.columns[name]
    counts = column["operationType"] == "count"
    if counts:
        return name if "filter" in column else "_count"  # a filter is ordered by what it lets in
    path = f"{name}>metric" if "filter" in column else name
    if column["operationType"] in {"percentile", "median"}:
        path += f".{column['params'].get('percentile', 50):g}"
    return path


def _rows(
    panel: Panel, buckets: list[str], at: Json, keys: dict[str, Cell]
) -> list[dict[str, Cell]]:
    if not buckets:
        values = _values(panel, at)
        return [{**keys, **{name: values[name] for name in panel.shown}}]
    name, *inner = buckets
    if name not in at:
        raise PanelQueryError(f"{panel.title}: got an answer without {name}, want its buckets")
    rows = []
    for bucket in at[name]["buckets"]:
        key = bucket.get("key_as_string", bucket["key"])
        rows += _rows(panel, inner, bucket, {**keys, name: key})
    return rows


def _values(panel: Panel, at: Json) -> dict[str, Cell]:
    values: dict[str, Cell] = {}
    for name, column in panel.columns.items():
        if column["isBucketed"]:
            continue
        match column["operationType"]:
            case "math":
                values[name] = _computed(column["params"]["tinymathAst"], values)
            case "formula":
                values[name] = values[column["references"][0]]
            case _:
                values[name] = _metric_value(column, name, at)
    return values


def _metric_value(column: Json, name: str, at: Json) -> Cell:
    filtered = "filter" in column
    if column["operationType"] == "count":
        count: int = at[name]["doc_count"] if filtered else at["doc_count"]
        return count
    metric = at[name]["metric"] if filtered else at[name]
    value: Cell = next(iter(metric["values"].values())) if "values" in metric else metric["value"]
    return value


def _computed(ast: Any, values: Mapping[str, Cell]) -> Cell:  # noqa: ANN401 - a node or a leaf
    """Return the value of a formula's tree; None where a part is absent or it divides by 0."""
    if isinstance(ast, int | float):
        return ast
    if isinstance(ast, str):
        return values[ast]
    left, right = (_computed(part, values) for part in ast["args"])
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        return None
    if ast["name"] == "divide":
        return left / right if right else None
    if ast["name"] == "subtract":
        return left - right
    raise PanelQueryError(f"formula: got {ast['name']!r}, want divide or subtract")
