"""`crossrank gateway`: stands before Elasticsearch and reranks the searches that ask for it."""

from __future__ import annotations

import inspect
import os
from dataclasses import fields
from typing import Annotated

import typer

from rerank_server.gateway.settings import PREFIX, GatewaySettings, read_gateway_settings
from rerank_server.telemetry.settings import (
    Telemetry,
    TelemetrySettings,
    read_telemetry_settings,
    without_telemetry,
)

app = typer.Typer()


def _setting_help(of: type[GatewaySettings | TelemetrySettings], name: str) -> str:
    """Return the sentence of the setting's entry in the docstring of its settings."""
    entries = (of.__doc__ or "").split("\n        ")
    start = next(n for n, line in enumerate(entries) if line.startswith(f"{name}: "))
    text = entries[start].split(": ", 1)[1]
    for line in entries[start + 1 :]:
        if not line.startswith("    "):
            break
        text += f" {line.strip()}"
    return text.strip().rstrip(".")


def _flags() -> inspect.Signature:
    """Return one option for each setting."""
    options = []
    settings = [(of, item) for of in (GatewaySettings, TelemetrySettings) for item in fields(of)]
    for of, setting in settings:
        option = typer.Option(
            f"--{setting.name.replace('_', '-')}",
            metavar="VALUE",
            help=f"{_setting_help(of, setting.name)} (default {setting.default})",
        )
        kind = inspect.Parameter.KEYWORD_ONLY
        annotation = Annotated[str | None, option]
        options.append(inspect.Parameter(setting.name, kind, default=None, annotation=annotation))
    return inspect.Signature(options)


def _gateway(**flags: str | None) -> None:
    """Stand before Elasticsearch and rerank the searches that ask for it."""
    names = {item.name for item in fields(TelemetrySettings)}
    settings = read_gateway_settings(
        {name: text for name, text in flags.items() if name not in names},
        without_telemetry(os.environ, PREFIX),
    )
    recorded = read_telemetry_settings(
        {name: text for name, text in flags.items() if name in names}, os.environ, PREFIX
    )
    import uvloop

    from rerank_server.gateway.serving import serve_gateway
    from rerank_server.one_line_log import configure_logging

    configure_logging(settings.log_level)
    telemetry = Telemetry(recorded)
    try:
        recorder = telemetry if telemetry.recorders else None
        uvloop.run(serve_gateway(settings, recorder, [telemetry]))
    finally:
        telemetry.close()


_gateway.__signature__ = _flags()  # type: ignore[attr-defined]
app.command(epilog=f"Each flag can be set as {PREFIX}<NAME> in the environment as well.")(_gateway)
