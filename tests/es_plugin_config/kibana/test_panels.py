"""Every panel's saved state is turned into its query, asked of a real Elasticsearch over an hour
of traffic, and compared with the same number computed from the documents by Polars."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from elasticsearch import Elasticsearch

from es_plugin_config.kibana.charts import LensChart, Measure, SavedSearch, Share
from es_plugin_config.kibana.dashboards import DASHBOARDS
from es_plugin_config.kibana.kql import kql_query
from es_plugin_config.kibana.lens import lens_attributes, measures_of
from es_plugin_config.kibana.mapping import stream_fields
from es_plugin_config.kibana.measures import DATA_VIEWS, SAVED_SEARCHES
from es_plugin_config.kibana.panel_query import read_panel
from es_plugin_config.kibana.saved_objects import dashboard_panels, saved_objects
from tests.es_plugin_config.kibana.polars_panels import chart_numbers, frame
from tests.es_plugin_config.kibana.sample_streams import SampleStreams, sample_streams

CHARTS: list[tuple[str, LensChart]] = [
    (f"{dashboard.dashboard_id}: {chart.title}", chart)
    for dashboard in DASHBOARDS
    for row in dashboard.rows
    for chart in row.charts
    if not isinstance(chart, SavedSearch)
]
PERCENTILE_SLACK = 0.03  # of the value, for the sketch that Elasticsearch estimates it with


@pytest.fixture(scope="module")
def streams(elasticsearch_url: str) -> Iterator[SampleStreams]:
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        yield sample_streams(client, elasticsearch_url)


@pytest.fixture(scope="module")
def frames(streams: SampleStreams) -> dict[str, pl.DataFrame]:
    return {
        view.stream: frame(
            [each.body for each in streams.traffic.streams[view.stream]],
            stream_fields(view.stream),
        )
        for view in DATA_VIEWS
    }


@pytest.mark.elasticsearch
@pytest.mark.parametrize("chart", [chart for _, chart in CHARTS], ids=[name for name, _ in CHARTS])
def test_a_panel_shows_what_polars_computes(
    chart: LensChart, streams: SampleStreams, frames: dict[str, pl.DataFrame]
) -> None:
    stream = chart.view.stream
    panel = read_panel(lens_attributes(chart, stream_fields(stream)))
    rows = streams.rows(panel, stream)
    wanted = chart_numbers(chart, frames[stream])
    got = {
        tuple(row[name] for name in panel.buckets): [row[name] for name in panel.shown]
        for row in rows
    }
    assert rows, "an empty panel proves nothing"
    assert any(value for values in got.values() for value in values)
    assert list(got) == list(wanted)
    for key, numbers in wanted.items():
        for measure, is_, want in zip(measures_of(chart), got[key], numbers, strict=True):
            check(measure, is_, want)


def check(measure: Measure | Share, got: Any, want: float | None) -> None:
    if want is None:
        assert got is None
    elif isinstance(measure, Measure) and measure.operation == "percentile":
        assert got == pytest.approx(want, rel=PERCENTILE_SLACK, abs=0.05), measure.label
    else:
        assert math.isclose(got, want, rel_tol=1e-6, abs_tol=1e-9), (measure.label, got, want)


@pytest.mark.elasticsearch
@pytest.mark.parametrize("search", SAVED_SEARCHES, ids=lambda search: search.search_id)
def test_a_saved_search_finds_documents_that_have_its_columns(
    search: SavedSearch, streams: SampleStreams
) -> None:
    answer = streams.client.search(
        index=streams.prefix + search.view.stream,
        query=kql_query(search.where),
        fields=[{"field": name} for name in search.columns],
        size=50,
        source=False,
    )
    shown = {name for hit in answer["hits"]["hits"] for name in hit["fields"]}
    assert shown == set(search.columns)


@pytest.mark.elasticsearch
def test_one_search_shows_both_orders_in_their_order(streams: SampleStreams) -> None:
    name = streams.prefix + "crossrank-searches"
    query = {"term": {"query_id": "sample-00007"}}
    hit = streams.client.search(index=name, query=query, fields=[{"field": "products.*"}])["hits"][
        "hits"
    ][0]
    stored = hit["_source"]["products"]
    assert hit["fields"]["products.before"] == stored["before"]
    assert hit["fields"]["products.after"] == stored["after"]
    assert sorted(stored["before"]) == sorted(stored["after"])


def test_every_panel_of_the_written_dashboards_is_one_of_these_charts() -> None:
    written = [
        panel["embeddableConfig"]["attributes"]
        for saved in saved_objects()
        if saved["type"] == "dashboard"
        for panel in dashboard_panels(saved)
        if panel["type"] == "lens"
    ]
    charts = [lens_attributes(chart, stream_fields(chart.view.stream)) for _, chart in CHARTS]
    assert written == charts
    assert len(written) >= 40
