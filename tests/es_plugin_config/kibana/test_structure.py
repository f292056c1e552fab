from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from es_plugin_config.kibana import structure
from es_plugin_config.kibana.__main__ import ROOT, main, written_files
from es_plugin_config.kibana.dashboards import DASHBOARDS
from es_plugin_config.kibana.mapping import StreamFieldError, stream_fields
from es_plugin_config.kibana.saved_objects import dashboard_panels, saved_objects
from es_plugin_config.kibana.structure import StructureError, check_saved_objects

Json = dict[str, Any]
SCHEMA = json.loads((Path(__file__).parent / "saved_objects.schema.json").read_text())
OBJECT = jsonschema.Draft202012Validator(SCHEMA)
PANEL = jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": "#/$defs/panel"})


def changed(change: Callable[[Json], None], name: str = "crossrank-search-health") -> list[Json]:
    """The saved objects with one panel list, or the dashboard itself, changed."""
    objects = saved_objects()
    (saved,) = (each for each in objects if each["id"] == name and each["type"] == "dashboard")
    panels = dashboard_panels(saved)
    change({"saved": saved, "panels": panels, "objects": objects})
    saved["attributes"]["panelsJSON"] = json.dumps(panels)
    return objects


def layer(panel: Json) -> Json:
    layers = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"]
    found: Json = layers["layers"]["layer"]
    return found


def test_the_committed_files_are_those_that_the_sources_write() -> None:
    files = written_files()
    for name, text in files.items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run the command again"
    rules = {f"api/alerting/rule/{path.name}" for path in ROOT.glob("api/alerting/rule/*")}
    assert rules == {name for name in files if name.startswith("api/")}


def test_every_saved_object_fits_the_schema() -> None:
    for saved in saved_objects():
        OBJECT.validate(saved)
        if saved["type"] == "dashboard":
            for panel in dashboard_panels(saved):
                PANEL.validate(panel)


def test_the_schema_refuses_a_panel_without_a_place() -> None:
    panel = dashboard_panels(saved_objects()[-1])[1]
    del panel["gridData"]["w"]
    with pytest.raises(jsonschema.ValidationError, match="'w' is a required property"):
        PANEL.validate(panel)


def test_each_line_of_the_file_is_one_object_and_ids_do_not_change_between_two_writings() -> None:
    lines = (ROOT / "crossrank.ndjson").read_text().splitlines()
    assert [json.loads(line) for line in lines] == saved_objects()
    assert len(lines) == 4 + 4 + 6


def test_every_dashboard_links_to_every_other() -> None:
    ids = {dashboard.dashboard_id for dashboard in DASHBOARDS}
    for saved in saved_objects():
        if saved["type"] == "dashboard":
            linked = {each["id"] for each in saved["references"] if each["type"] == "dashboard"}
            assert linked == ids - {saved["id"]}


def unknown_field(at: Json) -> None:
    layer(at["panels"][6])["columns"]["measure-0"]["sourceField"] = "latency.total"


def wrong_type(at: Json) -> None:
    layer(at["panels"][6])["columns"]["measure-0"]["sourceField"] = "user_query"


def unknown_field_in_a_filter(at: Json) -> None:
    layer(at["panels"][2])["columns"]["measure-0X0"]["filter"]["query"] = "degradd: true"


def dangling_panel_reference(at: Json) -> None:
    at["saved"]["references"] = at["saved"]["references"][1:]


def twice(at: Json) -> None:
    at["objects"].append(at["objects"][0])


def overlapping(at: Json) -> None:
    at["panels"][2]["gridData"]["x"] = 0


def beyond_the_grid(at: Json) -> None:
    at["panels"][4]["gridData"]["w"] = 20


def lost_accessor(at: Json) -> None:
    layer(at["panels"][5])["columnOrder"].remove("split-0")


def newer_version(at: Json) -> None:
    at["saved"]["typeMigrationVersion"] = "10.3.0"


def order_by_a_formula(at: Json) -> None:
    column = layer(at["panels"][5])["columns"]["split-0"]
    column["params"]["orderBy"]["columnId"] = "measure-9"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_field, r"got 'latency.total', want one of the mapping \(nearest: latency"),
        (wrong_type, "field user_query: got type keyword, want"),
        (unknown_field_in_a_filter, r"got 'degradd', want one of the mapping \(nearest: degraded"),
        (dangling_panel_reference, "got no reference 00-links:link_"),
        (twice, "index-pattern crossrank-searches: got it twice, want it once"),
        (overlapping, "want panels apart"),
        (beyond_the_grid, "got it beyond the grid"),
        (lost_accessor, "got accessor split-0, want one of its columns"),
        (newer_version, "got version 10.3.0, want the oldest known"),
        (order_by_a_formula, "got order by measure-9, want a plain measure"),
    ],
)
def test_a_fault_is_found_and_named(change: Callable[[Json], None], message: str) -> None:
    with pytest.raises(StructureError, match=message):
        check_saved_objects(changed(change))


def test_a_field_that_leaves_the_mapping_breaks_the_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_latency(stream: str) -> dict[str, str]:
        fields = stream_fields(stream)
        return {name: kind for name, kind in fields.items() if name != "latency.total_ms"}

    monkeypatch.setattr(structure, "stream_fields", without_latency)
    with pytest.raises(StructureError, match=r"got 'latency.total_ms', want one of the mapping"):
        check_saved_objects(saved_objects())


def test_a_stream_without_a_template_is_named() -> None:
    with pytest.raises(StreamFieldError, match=r"got 'crossrank-search', want one with a template"):
        stream_fields("crossrank-search")


def test_sub_fields_and_fields_of_all_component_templates_are_known() -> None:
    fields = stream_fields("ubi_events")
    assert fields["action_name.keyword"] == "keyword"
    assert fields["event_attributes.position.ordinal"] == "integer"
    assert stream_fields("crossrank-searches")["user_query"] == "keyword"


def test_the_command_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload", "--kibana", "http://127.0.0.1:9"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("kibana: Kibana at 127.0.0.1:9: got ")
    assert said.endswith("want an answer\n")
