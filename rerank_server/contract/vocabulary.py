"""Rows of the names that the product graph embeds: category levels, attributes, product ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from rerank_server.contract.errors import BundleError


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names in row order; the row of a name is its position + 1, and 0 is any unknown name.

    Attributes:
        levels: Node names per level of the category path, leaf first.
        attributes: Values per attribute of `Schema.attributes`.
        identities: Product ids that the product graph knows by themselves.
    """

    levels: tuple[tuple[str, ...], ...]
    attributes: tuple[tuple[str, ...], ...]
    identities: tuple[str, ...]
    _level_rows: tuple[dict[str, int], ...] = field(init=False, repr=False, compare=False)
    _attribute_rows: tuple[dict[str, int], ...] = field(init=False, repr=False, compare=False)
    _identity_rows: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the names.

        Raises:
            BundleError: When a name stands twice in one list.
        """
        for index, names in enumerate(self.levels):
            _refuse_twice(names, f"vocabulary level {index}")
        for index, names in enumerate(self.attributes):
            _refuse_twice(names, f"vocabulary attribute {index}")
        _refuse_twice(self.identities, "vocabulary identities")
        object.__setattr__(self, "_level_rows", tuple(_rows(names) for names in self.levels))
        object.__setattr__(
            self, "_attribute_rows", tuple(_rows(names) for names in self.attributes)
        )
        object.__setattr__(self, "_identity_rows", _rows(self.identities))

    def level_rows(self, category_path: Sequence[str]) -> list[int]:
        """Return the row of each level of a path whose last node is the leaf; 0 where unknown."""
        nodes = list(reversed(category_path))
        return [
            rows.get(nodes[level], 0) if level < len(nodes) else 0
            for level, rows in enumerate(self._level_rows)
        ]

    def attribute_rows(self, values: Sequence[str | None]) -> list[int]:
        """Return the row of each attribute's value; 0 for None or unknown."""
        return [
            0 if value is None else rows.get(value, 0)
            for rows, value in zip(self._attribute_rows, values, strict=True)
        ]

    def identity_row(self, product_id: str) -> int:
        """Return the row of a product id; 0 where unknown."""
        return self._identity_rows.get(product_id, 0)


def vocabulary_to_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the vocabulary as plain JSON values."""
    return {
        "levels": [list(names) for names in vocabulary.levels],
        "attributes": [list(names) for names in vocabulary.attributes],
        "identities": list(vocabulary.identities),
    }


def vocabulary_from_json(value: dict[str, Any]) -> Vocabulary:
    """Read a vocabulary written by `vocabulary_to_json`.

    Raises:
        BundleError: On an unknown or missing key, or a name that stands twice.
    """
    known = {item.name for item in fields(Vocabulary) if item.init}
    if set(value) != known:
        raise BundleError(f"vocabulary.json: got keys {sorted(value)}, want {sorted(known)}")
    return Vocabulary(
        levels=tuple(tuple(names) for names in value["levels"]),
        attributes=tuple(tuple(names) for names in value["attributes"]),
        identities=tuple(value["identities"]),
    )


def _rows(names: tuple[str, ...]) -> dict[str, int]:
    return {name: row for row, name in enumerate(names, start=1)}


def _refuse_twice(names: tuple[str, ...], what: str) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BundleError(f"{what}: got {name!r} twice, want each name once")
        seen.add(name)
