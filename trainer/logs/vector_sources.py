"""Where a log's named vectors come from: the `[[vector]]` tables of its TOML file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rerank_server.contract.errors import nearest
from trainer.errors import LogConfigError

MOST_NUMBERS = 16_384
# Modalities of the product tower that are no vectors of a file; see `ProductTower.MODALITIES`.
RESERVED_NAMES = ("text", "structure", "identity", "behaviour", "reviews", "review_numbers")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class VectorSource:
    """One vector per product that something else made: of its image, its sound, its text.

    Attributes:
        name: What the vector is called, also in the bundle and on the wire.
        file: A table (Parquet or JSON lines) of product ids and lists of numbers, or a `.npy`
            array of one row per product.
        width: Numbers in each vector.
        id: The table's column of product ids.
        column: The table's column of vectors.
        ids: For a `.npy` array: a text file with the product id of each row, one a line.
    """

    name: str
    file: str
    width: int
    id: str = "id"
    column: str = "vector"
    ids: str = ""


def parse_vector_sources(tables: Any) -> tuple[VectorSource, ...]:  # noqa: ANN401  of a TOML file
    """Return the sources of TOML tables.

    Raises:
        LogConfigError: All that is wrong with them, at once.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise LogConfigError(f"vector: got {str(tables)[:80]!r}, want tables [[vector]]")
    sources: tuple[VectorSource, ...] = ()
    findings = [f for number, table in enumerate(tables) for f in _wrong(table, f"vector {number}")]
    if not findings:
        sources = tuple(VectorSource(**table) for table in tables)
        findings = _contradictions(sources)
    if findings:
        raise LogConfigError("; ".join(findings))
    return sources


def _wrong(table: dict[str, Any], where: str) -> list[str]:
    kinds = {field.name: field for field in dataclasses.fields(VectorSource)}
    wrong = [
        f"{where}: got an unknown key {key!r}, want some of {', '.join(kinds)}{nearest(key, kinds)}"
        for key in table
        if key not in kinds
    ]
    wrong += [
        f"{where}: got no {name}, want one"
        for name, field in kinds.items()
        if field.default is dataclasses.MISSING and name not in table
    ]
    for key, value in table.items():
        want = int if key == "width" else str
        if key in kinds and type(value) is not want:
            wrong.append(f"{where}.{key}: got {value!r}, want {want.__name__}")
    return wrong


def _contradictions(sources: Sequence[VectorSource]) -> list[str]:
    wrong = []
    names = [source.name for source in sources]
    for source in sources:
        name = source.name
        if not _NAME.fullmatch(name) or name.endswith("_present"):
            wrong.append(
                f"vector name: got {name!r}, want small letters, digits and _, at most 40, a letter"
                " first and no _present last"
            )
        if name in RESERVED_NAMES:
            wrong.append(f"vector name: got {name!r}, want none of {', '.join(RESERVED_NAMES)}")
        if not 1 <= source.width <= MOST_NUMBERS:
            wrong.append(f"vector {name}: got width {source.width}, want 1 to {MOST_NUMBERS}")
        if source.file.endswith(".npy") != bool(source.ids):
            wrong.append(
                f"vector {name}: got file {source.file!r} and ids {source.ids!r}, want ids with a"
                " .npy file and with no other"
            )
    wrong += [
        f"vector name: got {name!r} {names.count(name)} times, want each once"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    return wrong
