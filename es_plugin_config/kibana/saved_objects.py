"""Dashboards, data views and saved searches as Kibana's saved objects.

Versions are the oldest that hold what is used: written for 8.9, imported by any later Kibana,
which migrates them (`typeMigrationVersion`). Panels are by value; ids never change between two
writings, so importing with `overwrite` updates what is there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from es_plugin_config.kibana.charts import Control, Dashboard, DataView, Row, SavedSearch
from es_plugin_config.kibana.dashboards import DASHBOARDS
from es_plugin_config.kibana.lens import lens_attributes, slug
from es_plugin_config.kibana.mapping import stream_fields
from es_plugin_config.kibana.measures import DATA_VIEWS, SAVED_SEARCHES

Json: TypeAlias = dict[str, Any]
GRID_WIDTH = 48
CORE_VERSION = "8.8.0"
TYPE_VERSIONS = {"dashboard": "8.9.0", "index-pattern": "8.0.0", "search": "8.0.0"}
_LINKS_HEIGHT = 3


def saved_objects() -> list[Json]:
    """Return every saved object, in the order in which they refer to each other."""
    return [
        *(_data_view(view) for view in DATA_VIEWS),
        *(_saved_search(search) for search in SAVED_SEARCHES),
        *(_dashboard(dashboard, DASHBOARDS) for dashboard in DASHBOARDS),
    ]


def ndjson(objects: Sequence[Json]) -> str:
    """Return saved objects as Kibana imports them: one a line, keys sorted."""
    return "".join(
        json.dumps(each, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n"
        for each in objects
    )


def dashboard_panels(saved: Json) -> list[Json]:
    """Return the panels of a saved dashboard."""
    panels: list[Json] = json.loads(saved["attributes"]["panelsJSON"])
    return panels


def _saved(kind: str, object_id: str, attributes: Json, references: list[Json]) -> Json:
    return {
        "attributes": attributes,
        "coreMigrationVersion": CORE_VERSION,
        "id": object_id,
        "managed": False,
        "references": references,
        "type": kind,
        "typeMigrationVersion": TYPE_VERSIONS[kind],
    }


def _data_view(view: DataView) -> Json:
    attributes = {
        "fieldAttrs": "{}",
        "fieldFormatMap": "{}",
        "fields": "[]",
        "name": view.name,
        "runtimeFieldMap": "{}",
        "sourceFilters": "[]",
        "timeFieldName": "@timestamp",
        "title": view.stream,
        "typeMeta": "{}",
    }
    return _saved("index-pattern", view.view_id, attributes, [])


def _saved_search(search: SavedSearch) -> Json:
    index = "kibanaSavedObjectMeta.searchSourceJSON.index"
    source = {
        "filter": [],
        "indexRefName": index,
        "query": {"language": "kuery", "query": search.where},
    }
    attributes = {
        "columns": list(search.columns),
        "description": "",
        "grid": {},
        "hideChart": True,
        "isTextBasedQuery": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _text(source)},
        "sort": [["@timestamp", "asc" if search.oldest_first else "desc"]],
        "timeRestore": False,
        "title": f"CrossRank: {search.title}",
    }
    reference = {"id": search.view.view_id, "name": index, "type": "index-pattern"}
    return _saved("search", search.search_id, attributes, [reference])


def _dashboard(dashboard: Dashboard, others: Sequence[Dashboard]) -> Json:
    links, references = _links_panel(dashboard, others)
    panels = [links]
    top = _LINKS_HEIGHT
    for row in dashboard.rows:
        row_panels, row_references = _row_panels(row, top, len(panels))
        panels += row_panels
        references += row_references
        top += row.height
    controls, control_references = _controls(dashboard.controls)
    attributes = {
        "controlGroupInput": controls,
        "description": dashboard.description,
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": _text({"filter": [], "query": {"language": "kuery", "query": ""}})
        },
        "optionsJSON": _text(
            {
                "hidePanelTitles": False,
                "syncColors": True,
                "syncCursor": True,
                "syncTooltips": False,
                "useMargins": True,
            }
        ),
        "panelsJSON": _text(panels),
        "refreshInterval": {"pause": True, "value": 60_000},
        "timeFrom": dashboard.time_from,
        "timeRestore": True,
        "timeTo": "now",
        "title": dashboard.title,
        "version": 1,
    }
    return _saved("dashboard", dashboard.dashboard_id, attributes, references + control_references)


def _row_panels(row: Row, top: int, before: int) -> tuple[list[Json], list[Json]]:
    widths = row.widths or _even_widths(len(row.charts))
    panels, references, left = [], [], 0
    for number, (chart, width) in enumerate(zip(row.charts, widths, strict=True)):
        panel_id = f"{before + number:02d}-{slug(chart.title)}"
        panel: Json = {
            "gridData": {"h": row.height, "i": panel_id, "w": width, "x": left, "y": top},
            "panelIndex": panel_id,
            "title": chart.title,
        }
        if isinstance(chart, SavedSearch):
            panel |= {
                "embeddableConfig": {"enhancements": {}},
                "panelRefName": f"panel_{panel_id}",
                "type": "search",
            }
            references.append(
                {
                    "id": chart.search_id,
                    "name": f"{panel_id}:panel_{panel_id}",
                    "type": "search",
                }
            )
        else:
            attributes = lens_attributes(chart, stream_fields(chart.view.stream))
            panel |= {
                "embeddableConfig": {"attributes": attributes, "enhancements": {}},
                "type": "lens",
            }
            references += [
                each | {"name": f"{panel_id}:{each['name']}"} for each in attributes["references"]
            ]
        panels.append(panel)
        left += width
    return panels, references


def _even_widths(charts: int) -> tuple[int, ...]:
    width, rest = divmod(GRID_WIDTH, charts)
    return tuple(width + (number < rest) for number in range(charts))


def _links_panel(dashboard: Dashboard, others: Sequence[Dashboard]) -> tuple[Json, list[Json]]:
    """Return the panel of links to the other dashboards, with its references."""
    panel_id = "00-links"
    links, references = [], []
    for order, other in enumerate(each for each in others if each != dashboard):
        name = f"link_{other.dashboard_id}_dashboard"
        links.append(
            {
                "destinationRefName": name,
                "id": other.dashboard_id,
                "label": other.title.removeprefix("CrossRank: "),
                "options": {
                    "openInNewTab": False,
                    "useCurrentDateRange": True,
                    "useCurrentFilters": False,
                },
                "order": order,
                "type": "dashboardLink",
            }
        )
        references.append(
            {"id": other.dashboard_id, "name": f"{panel_id}:{name}", "type": "dashboard"}
        )
    panel = {
        "embeddableConfig": {
            "attributes": {"layout": "horizontal", "links": links},
            "enhancements": {},
        },
        "gridData": {"h": _LINKS_HEIGHT, "i": panel_id, "w": GRID_WIDTH, "x": 0, "y": 0},
        "panelIndex": panel_id,
        "type": "links",
    }
    return panel, references


def _controls(controls: Sequence[Control]) -> tuple[Json, list[Json]]:
    panels, references = {}, []
    for order, control in enumerate(controls):
        control_id = slug(control.field)
        panels[control_id] = {
            "explicitInput": {
                "enhancements": {},
                "fieldName": control.field,
                "id": control_id,
                "searchTechnique": "prefix",
                "title": control.label,
            },
            "grow": True,
            "order": order,
            "type": "optionsListControl",
            "width": "medium",
        }
        references.append(
            {
                "id": control.view.view_id,
                "name": f"controlGroup_{control_id}:optionsListDataView",
                "type": "index-pattern",
            }
        )
    group = {
        "chainingSystem": "HIERARCHICAL",
        "controlStyle": "oneLine",
        "ignoreParentSettingsJSON": _text(
            {
                "ignoreFilters": False,
                "ignoreQuery": False,
                "ignoreTimerange": False,
                "ignoreValidations": False,
            }
        ),
        "panelsJSON": _text(panels),
    }
    return group, references


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
