"""`python -m es_plugin_config.kibana`: writes the dashboards, uploads, fills and draws them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError

from es_plugin_config.cluster import read_key
from es_plugin_config.kibana.alerts import ALERTS, kibana_rule, prometheus_rules
from es_plugin_config.kibana.content_package import write_content_package
from es_plugin_config.kibana.kql import kql_query
from es_plugin_config.kibana.measures import (
    DATA_VIEWS,
    EVENTS,
    PURCHASE,
    RETRIEVAL_POSITION,
    SAVED_SEARCHES,
)
from es_plugin_config.kibana.panel_query import (
    Cell,
    Panel,
    TimeRange,
    search_body,
    table_rows,
)
from es_plugin_config.kibana.sample_traffic import sample_traffic
from es_plugin_config.kibana.saved_objects import ndjson, saved_objects
from es_plugin_config.kibana.search_dashboards import ONE_SEARCH
from es_plugin_config.kibana.structure import check_saved_objects
from es_plugin_config.kibana.upload import Kibana, upload_dashboards, upload_rules
from rerank_server.contract.errors import RerankError
from rerank_server.telemetry.bulk import BulkSender

ROOT = Path(__file__).parent
DASHBOARDS_FILE = "crossrank.ndjson"
RULES_FOLDER = "api/alerting/rule"
PROMETHEUS_FILE = "prometheus-rules.yaml"
_BULK_DOCUMENTS = 2_000
_DOCUMENTS_SHOWN = 9


class KibanaCommandError(RerankError):
    """A command that could not be carried out."""


def written_files() -> dict[str, str]:
    """Return every file that is written from the Python sources: path -> text."""
    objects = saved_objects()
    check_saved_objects(objects)
    files = {DASHBOARDS_FILE: ndjson(objects), PROMETHEUS_FILE: prometheus_rules()}
    for alert in ALERTS:
        if alert.stream:
            files[f"{RULES_FOLDER}/{alert.alert_id}.json"] = _format_json(kibana_rule(alert))
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 1 after an error that is named."""
    parser = argparse.ArgumentParser(prog="python -m es_plugin_config.kibana")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("write", help="write dashboards and alert rules (the default)")
    upload = commands.add_parser("upload", help="import them into a Kibana")
    upload.add_argument("--kibana", default="http://localhost:5601", help="its address")
    upload.add_argument("--space", default="", help="id of the space; the default one else")
    upload.add_argument("--api-key-file", type=Path, help="file with an encoded API key")
    upload.add_argument("--ca-file", type=Path, help="PEM file of who signed its certificate")
    sample = commands.add_parser("sample", help="store an hour of made-up traffic")
    sample.add_argument("--url", default="http://localhost:9200", help="of Elasticsearch")
    draw = commands.add_parser("draw", help="draw the last hours of a cluster's dashboards")
    draw.add_argument("--url", default="http://localhost:9200", help="of Elasticsearch")
    draw.add_argument("--hours", type=int, default=2)
    draw.add_argument("--out", type=Path, default=ROOT / "pictures", help="folder of PNG files")
    package = commands.add_parser("package", help="write Elastic's content package")
    package.add_argument("folder", type=Path)
    parsed = parser.parse_args(arguments)
    try:
        _run(parsed)
    except (RerankError, ApiError, TransportError) as error:
        sys.stderr.write(f"kibana: {error}\n")
        return 1
    return 0


def _run(parsed: argparse.Namespace) -> None:
    match parsed.command:
        case "upload":
            key = None if parsed.api_key_file is None else read_key(parsed.api_key_file)
            kibana = Kibana(parsed.kibana, parsed.space, key, parsed.ca_file)
            _say(f"{upload_dashboards(kibana)} objects imported")
            created = upload_rules(kibana)
            _say(f"{len(created)} rules created, disabled: {', '.join(created) or 'none'}")
        case "sample":
            _store_sample(parsed.url)
        case "draw":
            _draw(parsed.url, parsed.hours, parsed.out)
        case "package":
            write_content_package(parsed.folder)
        case _:
            for name, text in written_files().items():
                path = ROOT / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists() or path.read_text(encoding="utf-8") != text:
                    path.write_text(text, encoding="utf-8")
                    _say(f"wrote {path}")


def _store_sample(url: str) -> None:
    traffic = sample_traffic(datetime.now(UTC).replace(second=0, microsecond=0))
    for stream, documents in traffic.streams.items():
        with closing(BulkSender(url, stream)) as sender:
            for first in range(0, len(documents), _BULK_DOCUMENTS):
                result = sender.send(documents[first : first + _BULK_DOCUMENTS])
                if result.reason:
                    raise KibanaCommandError(
                        f"{stream}: got {result.reason}, want the templates applied first"
                        " (`crossrank es apply`)"
                    )
        _say(f"{stream}: {len(documents)} documents")


def _draw(url: str, hours: int, folder: Path) -> None:
    from es_plugin_config.kibana.pictures import (  # noqa: PLC0415 - needs matplotlib
        draw_dashboard,
    )

    end = datetime.now(UTC)
    when = TimeRange((end - timedelta(hours=hours)).isoformat(), end.isoformat())
    streams = {view.view_id: view.stream for view in DATA_VIEWS}
    folder.mkdir(parents=True, exist_ok=True)
    with Elasticsearch(url, request_timeout=60) as client:

        def ask(panel: Panel) -> list[dict[str, Cell]]:
            body = search_body(panel, when, "1m")
            body["query"]["bool"]["filter"] += chosen
            answer = client.search(index=streams[panel.view_id], body=body)
            return table_rows(panel, answer.body)

        def read(search_id: str) -> tuple[list[str], list[list[str]]]:
            return _documents(client, search_id, chosen)

        for saved in saved_objects():
            if saved["type"] == "dashboard":
                # A dashboard of one search shows one that was bought from.
                chosen = [_bought_from(client)] if saved["id"] == ONE_SEARCH.dashboard_id else []
                path = folder / f"{saved['id']}.png"
                draw_dashboard(saved, ask, read, path)
                _say(f"drew {path}")


def _bought_from(client: Elasticsearch) -> dict[str, Any]:
    moved = f"{PURCHASE} and {RETRIEVAL_POSITION} > 10"
    answer = client.search(
        index=EVENTS.stream, query=kql_query(moved), sort=[{"@timestamp": "desc"}], size=1
    )
    hits = answer["hits"]["hits"]
    return {"term": {"query_id": hits[0]["_source"]["query_id"]}} if hits else {"match_all": {}}


def _documents(
    client: Elasticsearch, search_id: str, chosen: Sequence[dict[str, Any]]
) -> tuple[list[str], list[list[str]]]:
    """Return the columns of a saved search and the cells of its first documents."""
    search = next(each for each in SAVED_SEARCHES if each.search_id == search_id)
    answer = client.search(
        index=search.view.stream,
        query={"bool": {"filter": [kql_query(search.where), *chosen]}},
        fields=[{"field": name} for name in search.columns],
        sort=[{"@timestamp": "asc" if search.oldest_first else "desc"}],
        size=_DOCUMENTS_SHOWN,
        source=False,
    )
    rows = []
    for hit in answer["hits"]["hits"]:
        values: dict[str, list[Any]] = hit["fields"]
        rows.append(
            [", ".join(_plain(each) for each in values.get(name, ["-"])) for name in search.columns]
        )
    return list(search.columns), rows


def _format_json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
