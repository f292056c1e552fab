"""Options of the commands that read or write streams of searches and events."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

StreamsOption = Annotated[
    str,
    typer.Option(
        "--streams",
        help="Elasticsearch's address (user:password@ where it wants them), or a folder of JSON"
        " lines.",
    ),
]
ApiKeyFileOption = Annotated[
    Path | None, typer.Option(help="File with an API key in its encoded form, one line.")
]
CaFileOption = Annotated[
    Path | None, typer.Option(help="Certificates that sign the cluster's, PEM.")
]
DayFormats = ["%Y-%m-%d"]
DEFAULT_STREAMS = "http://localhost:9200"


def midnight(day: datetime) -> datetime:
    """Return the beginning of a day that was given as an option, UTC."""
    return day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
