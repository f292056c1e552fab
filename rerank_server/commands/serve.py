"""`crossrank serve`: serves a bundle over gRPC."""

from __future__ import annotations

import inspect
import os

import typer

from rerank_server.commands.setting_flags import EPILOG, SettingsCommand, setting_parameters
from rerank_server.settings import read_settings

app = typer.Typer()


def _serve(**flags: str | None) -> None:
    """Serve a bundle over gRPC."""
    settings = read_settings(flags, os.environ)
    from rerank_server.one_line_log import configure_logging
    from rerank_server.serving import serve_settings

    configure_logging(settings.log_level)
    serve_settings(settings)


_serve.__signature__ = inspect.Signature(setting_parameters())  # type: ignore[attr-defined]
app.command(cls=SettingsCommand, epilog=EPILOG)(_serve)
