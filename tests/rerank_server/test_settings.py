"""Settings: flag over variable over default; wrong ones are named."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from rerank_server.cores import available_cores
from rerank_server.settings import Settings, SettingsError, read_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"RERANK_BUNDLE": "b", "RERANK_PRODUCTS": "p"}


def test_the_defaults_listen_on_loopback_only():
    settings = read_settings({}, FOLDERS)
    assert settings == Settings(bundle=Path("b"), products=Path("p"))
    assert settings.host == "127.0.0.1"
    assert settings.worker_count == settings.scorer_thread_count == available_cores()


def test_a_flag_wins_over_a_variable():
    environment = FOLDERS | {"RERANK_PORT": "1", "RERANK_TIMEOUT_MS": "7"}
    settings = read_settings({"port": "2", "host": None}, environment)
    assert (settings.port, settings.timeout_ms, settings.host) == (2, 7, "127.0.0.1")
    assert settings.timeout.total_seconds() == 0.007


@pytest.mark.parametrize("name", [item.name for item in fields(Settings)])
def test_every_setting_can_be_set_from_the_environment(name):
    values = {"host": "h", "log_level": "error", "bundle": "x", "products": "y"}
    values |= {"otlp_endpoint": "http://collector:4317"}
    by_kind = {"bool": "true", "float": "0.5"}
    kind = str({item.name: item.type for item in fields(Settings)}[name])
    value = values.get(name, by_kind.get(kind, "1024"))
    tls = {"RERANK_TLS_CERTIFICATE": "c", "RERANK_TLS_KEY": "k"} if name.startswith("tls_") else {}
    got = getattr(read_settings({}, FOLDERS | tls | {f"RERANK_{name.upper()}": value}), name)
    assert str(got).lower() == value


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RERANK_BUNDLE": "b"}, r"products: got none, want a folder by --products or RERANK_PRO"),
        (FOLDERS | {"RERANK_PROT": "1"}, r"RERANK_PROT: got an unknown .*nearest: RERANK_PORT\)"),
        (FOLDERS | {"RERANK_PORT": "x"}, r"port: got 'x', want a whole number"),
        (FOLDERS | {"RERANK_PORT": "70000"}, r"port: got 70000, want 0 to 65535"),
        (FOLDERS | {"RERANK_TIMEOUT_MS": "0"}, r"timeout_ms: got 0, want 1 to 600000"),
        (FOLDERS | {"RERANK_LOG_LEVEL": "loud"}, r"log_level: got 'loud', want one of debug"),
        (FOLDERS | {"RERANK_TLS_KEY": "k"}, r"tls_certificate and tls_key: got one of them, want"),
        (FOLDERS | {"RERANK_TLS_CLIENT_CA": "c"}, r"tls_client_ca: got it alone, want tls_cert"),
        (FOLDERS | {"RERANK_INSECURE_LISTEN": "maybe"}, r"insecure_listen: got 'maybe', want tr"),
        (FOLDERS | {"RERANK_ACCESS_LOG_SHARE": "x"}, r"access_log_share: got 'x', want a number"),
        (FOLDERS | {"RERANK_ACCESS_LOG_SHARE": "2"}, r"access_log_share: got 2.0, want 0 to 1"),
        (FOLDERS | {"RERANK_OTLP_ENDPOINT": "x:1"}, r"otlp_endpoint: got 'x:1', want http://ho"),
        (FOLDERS | {"RERANK_METRICS_PORT": "-2"}, r"metrics_port: got -2, want -1 to 65535"),
    ],
)
def test_a_wrong_setting_is_named(environment, message):
    with pytest.raises(SettingsError, match=message):
        read_settings({}, environment)


def test_the_readme_explains_every_setting_with_its_default():
    readme = (ROOT / "rerank_server" / "README.md").read_text("utf-8")
    for item in fields(Settings):
        flag = f"--{item.name.replace('_', '-')}"
        assert f"`{flag}`" in readme
        if item.name not in {"bundle", "products"}:
            row = next(line for line in readme.splitlines() if line.startswith(f"| `{flag}`"))
            assert f"| {item.default} |" in row


def test_other_programs_variables_are_not_ours():
    assert read_settings({}, FOLDERS | {"PATH": "/bin"}).port == 50061


def test_settings_are_frozen_but_can_be_replaced():
    settings = read_settings({}, FOLDERS)
    assert replace(settings, port=1).port == 1
    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]
