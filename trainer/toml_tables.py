"""Arrays of tables of a TOML file as dataclasses; all that is wrong with them is told at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_type_hints

from rerank_server.contract.errors import nearest

Table = TypeVar("Table")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read_tables(
    kind: type[Table],
    tables: object,
    what: str,
    *,
    contradictions: Callable[[Table], list[str]],
    start: Callable[[str], Table],
) -> tuple[tuple[Table, ...], list[str]]:
    """Return the tables, and findings that name each wrong one; with findings, not all of them.

    Args:
        kind: A dataclass with a `name`, its fields str, int, float, bool or a Literal of str.
        tables: What the TOML file holds under the key.
        what: The key, for findings.
        contradictions: Findings of a table whose values are each of the right type.
        start: The table of a name before its values are set.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return (), [f"{what}: got {tables!r}, want tables: [[{what}]]"]
    read: list[Table] = []
    findings: list[str] = []
    names: list[str] = []
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            findings.append(f"{what} {number}: name: got {name!r}, want letters, digits, _ and -")
            continue
        if name in names:
            findings.append(f"{what} {name!r}: got it twice, want each name once")
        names.append(name)
        values, wrong = _values(kind, table)
        if not wrong:
            made: Table = dataclasses.replace(start(name), **values)  # type: ignore[type-var]
            wrong = contradictions(made)
            read.append(made)
        findings += [f"{what} {name!r}: {finding}" for finding in wrong]
    return tuple(read), findings


def _values(kind: type[Any], table: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    wrong = []
    for key, value in table.items():
        if key not in hints:
            wrong.append(
                f"{key}: got an unknown key, want some of {', '.join(hints)}{nearest(key, hints)}"
            )
            continue
        hint = hints[key]
        choices = tuple(choice for choice in get_args(hint) if choice)
        if choices:
            if value not in choices:
                wrong.append(
                    f"{key}: got {value!r}, want one of {', '.join(choices)}"
                    f"{nearest(str(value), choices)}"
                )
        elif type(value) is not hint and not (hint is float and type(value) is int):
            wrong.append(f"{key}: got {value!r}, want {hint.__name__}")
        values[key] = float(value) if hint is float and type(value) is int else value
    return values, wrong
