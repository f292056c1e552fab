"""What every command writes: text or tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer

# Wide enough that a table which goes into a file or another program is not cut.
_WIDTH_OF_FILES = 200


def write_text(text: str) -> None:
    """Write a line to standard output."""
    typer.echo(text)


def write_notice(text: str) -> None:
    """Write a line to standard error, beside the output proper."""
    typer.echo(text, err=True)


def write_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write one JSON document to standard output; numbers that are not finite become null."""
    typer.echo(json.dumps(_finite(value), ensure_ascii=False, indent=2))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table to standard output, numbers to the right.

    Args:
        columns: The headings.
        rows: As long as `columns` each; None is written as nothing.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        values = [row[number] for row in rows]
        right = all(isinstance(value, int | float) or value is None for value in values)
        table.add_column(column, justify="right" if right and values else "left")
    for row in rows:
        table.add_row(*("" if value is None else _cell(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES, highlight=False)
    console.print(table, markup=False)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
