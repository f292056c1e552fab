"""What Kibana would refuse or show as broken, found without a Kibana.

Every rule is one of: an id twice, a reference to nothing, panels that overlap or leave the grid,
a column that is not there, a field that the mapping has not or has with a type that does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from es_plugin_config.kibana.kql import kql_fields
from es_plugin_config.kibana.mapping import (
    StreamFieldError,
    StreamFields,
    require_field,
    stream_fields,
)
from es_plugin_config.kibana.panel_query import Panel, read_panel
from es_plugin_config.kibana.saved_objects import GRID_WIDTH, TYPE_VERSIONS, dashboard_panels
from rerank_server.contract.errors import RerankError

Json: TypeAlias = dict[str, Any]
_NUMBERS = {"byte", "short", "integer", "long", "float", "double", "half_float", "scaled_float"}
_TERMS = _NUMBERS | {"keyword", "boolean", "ip", "date"}
_FITTING = {
    "terms": _TERMS,
    "date_histogram": {"date"},
    "average": _NUMBERS,
    "sum": _NUMBERS,
    "median": _NUMBERS,
    "percentile": _NUMBERS,
    "min": _NUMBERS | {"date"},
    "max": _NUMBERS | {"date"},
    "unique_count": _TERMS,
}
_RECORDS = "___records___"
_ANY_STREAM = {"_id", "_index", "_source", "_ignored"}


class StructureError(RerankError):
    """Saved objects that Kibana could not show; the message has one line for each fault."""


def check_saved_objects(objects: Sequence[Json]) -> None:
    """Check saved objects against each other and against the mappings of their streams.

    Raises:
        StructureError: When anything is wrong with them.
    """
    faults = list(_faults(objects))
    if faults:
        raise StructureError("\n".join(faults))


def _faults(objects: Sequence[Json]) -> Iterator[str]:
    ids = [(each["type"], each["id"]) for each in objects]
    for key in sorted({key for key in ids if ids.count(key) > 1}):
        yield f"{key[0]} {key[1]}: got it twice, want it once"
    fields = {
        each["id"]: stream_fields(each["attributes"]["title"])
        for each in objects
        if each["type"] == "index-pattern"
    }
    for each in objects:
        name = f"{each['type']} {each['id']}"
        if each["typeMigrationVersion"] != TYPE_VERSIONS[each["type"]]:
            yield f"{name}: got version {each['typeMigrationVersion']}, want the oldest known"
        for reference in each["references"]:
            if (reference["type"], reference["id"]) not in ids:
                yield f"{name}: got a reference to {reference['id']}, want one of these objects"
        if each["type"] == "dashboard":
            yield from _dashboard_faults(name, each, fields)
        elif each["type"] == "search":
            yield from _search_faults(name, each, fields)


def _dashboard_faults(name: str, saved: Json, fields: Mapping[str, StreamFields]) -> Iterator[str]:
    panels = dashboard_panels(saved)
    references = {reference["name"] for reference in saved["references"]}
    yield from _grid_faults(name, panels)
    for panel in panels:
        where = f"{name}, panel {panel['panelIndex']}"
        for needed in _needed_references(panel):
            if needed not in references:
                yield f"{where}: got no reference {needed}, want one"
        if panel["type"] == "lens":
            read = read_panel(panel["embeddableConfig"]["attributes"])
            yield from _column_faults(where, read)
            yield from _accessor_faults(where, read)
            yield from _field_faults(where, read, fields[read.view_id])
    controls = json.loads(saved["attributes"]["controlGroupInput"]["panelsJSON"])
    views = {reference["name"]: reference["id"] for reference in saved["references"]}
    for control_id, control in controls.items():
        view = views.get(f"controlGroup_{control_id}:optionsListDataView", "")
        field = control["explicitInput"]["fieldName"]
        yield from _missing(f"{name}, control {control_id}", fields.get(view, {}), field, _TERMS)


def _grid_faults(name: str, panels: Sequence[Json]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        grid, index = panel["gridData"], panel["panelIndex"]
        if grid["i"] != index:
            yield f"{name}, panel {index}: got grid id {grid['i']}, want the same"
        if grid["x"] + grid["w"] > GRID_WIDTH:
            yield f"{name}, panel {index}: got it beyond the grid, want x + w <= {GRID_WIDTH}"
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        for other in sorted({taken[cell] for cell in cells if cell in taken}):
            yield f"{name}, panel {index}: got it over {other}, want panels apart"
        taken.update((cell, index) for cell in cells)


def _needed_references(panel: Json) -> Iterator[str]:
    index = panel["panelIndex"]
    if "panelRefName" in panel:
        yield f"{index}:{panel['panelRefName']}"
    attributes = panel["embeddableConfig"].get("attributes", {})
    for reference in attributes.get("references", ()):
        yield f"{index}:{reference['name']}"
    for link in attributes.get("links", ()):
        yield f"{index}:{link['destinationRefName']}"


def _column_faults(where: str, panel: Panel) -> Iterator[str]:
    seen_metric = False
    for name, column in panel.columns.items():
        if column["isBucketed"] and seen_metric:
            yield f"{where}: got bucket {name} after a metric, want buckets first"
        seen_metric = seen_metric or not column["isBucketed"]
        for part in column.get("references", ()):
            if part not in panel.columns:
                yield f"{where}: got a formula of {part}, want one of its columns"
        order = column.get("params", {}).get("orderBy", {})
        if order.get("type") == "column":
            by = panel.columns.get(order["columnId"])
            if by is None or by["isBucketed"] or "references" in by:
                yield f"{where}: got order by {order['columnId']}, want a plain measure"


def _accessor_faults(where: str, panel: Panel) -> Iterator[str]:
    shown = panel.visualization
    layers = shown.get("layers", [shown])
    for layer in layers:
        named = [
            *layer.get("accessors", ()),
            *(
                layer[key]
                for key in ("xAccessor", "splitAccessor", "metricAccessor")
                if key in layer
            ),
            *(column["columnId"] for column in layer.get("columns", ())),
        ]
        for name in named:
            if name not in panel.columns:
                yield f"{where}: got accessor {name}, want one of its columns"
        for name in {*panel.buckets, *panel.shown} - set(named):
            yield f"{where}: got column {name} that is shown nowhere, want it shown"


def _field_faults(where: str, panel: Panel, fields: StreamFields) -> Iterator[str]:
    for column in panel.columns.values():
        field = column.get("sourceField")
        if field is not None and field != _RECORDS:
            yield from _missing(where, fields, field, _FITTING[column["operationType"]])
        for name in sorted(kql_fields(column.get("filter", {}).get("query", ""))):
            yield from _missing(where, fields, name)
    for name in sorted(kql_fields(panel.query)):
        yield from _missing(where, fields, name)
    for query in panel.filters:
        yield from _missing(where, fields, query["exists"]["field"])


def _search_faults(name: str, saved: Json, fields: Mapping[str, StreamFields]) -> Iterator[str]:
    source = json.loads(saved["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
    views = {reference["name"]: reference["id"] for reference in saved["references"]}
    if source["indexRefName"] not in views:
        yield f"{name}: got no reference {source['indexRefName']}, want one"
        return
    known = fields[views[source["indexRefName"]]]
    used = [*saved["attributes"]["columns"], *(field for field, _ in saved["attributes"]["sort"])]
    for field in [*used, *sorted(kql_fields(source["query"]["query"]))]:
        if field not in _ANY_STREAM:
            yield from _missing(name, known, field)


def _missing(
    where: str, fields: StreamFields, field: str, types: set[str] | None = None
) -> Iterator[str]:
    try:
        require_field(fields, field, types)
    except StreamFieldError as error:
        yield f"{where}: {error}"
