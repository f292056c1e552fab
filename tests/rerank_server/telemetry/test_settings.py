from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rerank_server.telemetry.settings import (
    Telemetry,
    TelemetrySettings,
    TelemetrySettingsError,
    read_telemetry_settings,
    without_telemetry,
)
from tests.rerank_server.telemetry.bulk_endpoint import BulkEndpoint, wait_until
from tests.rerank_server.telemetry.searches import search_record


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"telemetry_url": "localhost:9200"}, r"got 'localhost:9200', want http\(s\)://host:port"),
        ({"telemetry_url": "elastic:secret@localhost:9200"}, "got 'localhost:9200', want"),
        ({"telemetry_url": "http://localhost:92000"}, "got 'http://localhost:92000', want"),
        ({"telemetry_url": "http://localhost:9200"}, "got one of them, want both or none"),
        ({"telemetry_spool_bytes": 1}, "got 1, want 16777216 or more"),
        ({"telemetry_query_chars": 2_000}, "got 2000, want 1 to 1024"),
        ({"telemetry_products": -1}, "got -1, want 0 to 1000"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TelemetrySettingsError, match=message):
        TelemetrySettings(**settings)


def test_without_settings_records_go_nowhere() -> None:
    telemetry = Telemetry(TelemetrySettings())
    telemetry.record(search_record())
    assert telemetry.recorders == []
    telemetry.close()


def test_the_rules_of_privacy_reach_the_documents(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a2V5\n")
    with BulkEndpoint() as endpoint:
        telemetry = Telemetry(
            TelemetrySettings(
                telemetry_url=endpoint.url,
                telemetry_spool=tmp_path / "spool",
                telemetry_api_key=key,
                telemetry_query_text=False,
                telemetry_client_ids=False,
                telemetry_products=1,
            )
        )
        telemetry.record(search_record())
        wait_until(lambda: len(endpoint.documents) == 1)
        telemetry.close()
        (document,) = endpoint.documents.values()
        assert document["user_query"] == ""
        assert "client_id" not in document
        assert document["products"]["after"] == ["d"]
        assert endpoint.requests[0][1]["Authorization"] == "ApiKey a2V5"


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    settings = TelemetrySettings(
        telemetry_url="http://localhost:1",
        telemetry_spool=tmp_path / "spool",
        telemetry_api_key=tmp_path / "absent",
    )
    with pytest.raises(TelemetrySettingsError, match="No such file or directory"):
        Telemetry(settings)


PREFIX = "RERANK_GATEWAY_"


def test_a_flag_wins_over_a_variable_and_other_variables_are_left_alone() -> None:
    environment = {
        "RERANK_GATEWAY_TELEMETRY_URL": "http://one:9200",
        "RERANK_GATEWAY_TELEMETRY_SPOOL": "/spool",
        "RERANK_GATEWAY_TELEMETRY_QUERY_TEXT": "false",
        "RERANK_GATEWAY_PORT": "9280",
        "PATH": "/bin",
    }
    flags = {"telemetry_url": "http://two:9200", "telemetry_query_chars": None}
    settings = read_telemetry_settings(flags, environment, PREFIX)
    assert settings.telemetry_url == "http://two:9200"
    assert settings.telemetry_spool == Path("/spool")
    assert settings.telemetry_query_text is False
    assert settings.telemetry_query_chars == 256
    assert without_telemetry(environment, PREFIX) == {
        "RERANK_GATEWAY_PORT": "9280",
        "PATH": "/bin",
    }


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        (
            "TELEMETRY_ULR",
            "http://one",
            r"got an unknown variable, want .*nearest: .*TELEMETRY_URL",
        ),
        ("TELEMETRY_PRODUCTS", "many", "got 'many', want a whole number"),
        ("TELEMETRY_QUERY_TEXT", "perhaps", "got 'perhaps', want true or false"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, message: str) -> None:
    with pytest.raises(TelemetrySettingsError, match=message):
        read_telemetry_settings({}, {PREFIX + variable: text}, PREFIX)
