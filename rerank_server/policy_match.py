"""Which rules act on which candidates: rules compiled to tables of bits, one row per name.

A rule is one bit. Each column of a candidate (its id, category, path nodes, attributes) gives a
row of bits, the rules that the value satisfies; a rule acts where every column and the page agree.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import repeat
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_server.contract.errors import nearest
from rerank_server.contract.page import Floats, Rows
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import Schema
from rerank_server.contract.vocabulary import Vocabulary
from rerank_server.policy_rules import PolicyError, Selector, When, normal_query

Bits: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """What the rules see of one page.

    Attributes:
        candidate_ids: In retrieval order.
        rows: Rows of the product table, shape (candidates,).
        categories: Category rows as they were scored, shape (candidates,).
        vectors: Product vectors, shape (candidates, width).
        table: The product table of `rows`.
        surface: Index into the schema's surfaces.
        time: Unix seconds at which the page is shown.
        query: What the shopper typed.
    """

    candidate_ids: Sequence[str]
    rows: Rows
    categories: Rows
    vectors: Floats
    table: ProductTable
    surface: int
    time: int
    query: str = ""

    @property
    def size(self) -> int:
        """The number of candidates."""
        return len(self.candidate_ids)


class Matched(Protocol):
    """A rule that a matcher can compile."""

    @property
    def name(self) -> str:
        """Unique among all rules."""

    @property
    def when(self) -> When:
        """The pages that it is in force for."""

    @property
    def selector(self) -> Selector:
        """The candidates that it acts on."""


class Names:
    """The names that rules may use, with their rows in the product table."""

    def __init__(self, schema: Schema, vocabulary: Vocabulary) -> None:
        """Index the names of a bundle."""
        self.surfaces = schema.surfaces
        self.objectives = schema.objectives
        self.attributes = schema.attributes
        self.levels = schema.levels
        # row 0 is neutral: products of no known category
        self._categories = dict(zip(schema.categories[1:], range(1, 1 << 31), strict=False))
        self._levels = [_rows(names) for names in vocabulary.levels]
        self._attributes = [_rows(names) for names in vocabulary.attributes]

    def column(self, kind: str, what: str) -> int:
        """Return the number of the attribute of a kind such as `attributes.brand`.

        Raises:
            PolicyError: When the bundle has no such attribute.
        """
        name = kind.removeprefix("attributes.")
        return known_index(name, self.attributes, f"{what}: attribute")

    def rows(self, kind: str, names: frozenset[str], what: str) -> list[dict[str, int]]:
        """Return the rows of names in each column of a kind: one column, or one per level.

        Raises:
            PolicyError: When no column holds a name.
        """
        columns = [self._categories]
        if kind == "nodes":
            columns = self._levels
        elif kind != "categories":
            columns = [self._attributes[self.column(kind, what)]]
        for name in sorted(names):
            if not any(name in column for column in columns):
                known = [name for column in columns for name in column]
                raise PolicyError(
                    f"{what}: {kind}: got {name!r}, want one that the bundle knows"
                    f"{nearest(name, known)}"
                )
        return [{name: column[name] for name in names if name in column} for column in columns]


class RuleMatcher:
    """Finds the rules that act on each candidate of a page."""

    def __init__(self, rules: Sequence[Matched], bits: Sequence[int], names: Names) -> None:
        """Compile rules.

        Args:
            rules: What to look for.
            bits: The bit of each rule, ascending.
            names: The names of the bundle.

        Raises:
            PolicyError: When a rule uses a name that the bundle does not know.
        """
        self.width = bits[-1] // 8 + 1 if len(bits) else 0  # bytes of a row of bits
        self._in_force = _InForce(rules, bits, self.width, names)
        self._products: _NameTable | None = None
        self._tables: list[tuple[Callable[[PolicyPage], Rows], list[_RowTable]]] = []
        kinds = list(dict.fromkeys(kind for rule in rules for kind in rule.selector.conditions()))
        for kind in kinds:
            self._compile(kind, rules, bits, names)

    def in_force(self, page: PolicyPage) -> Bits:
        """Return the bits of the rules in force on a page, shape (width,)."""
        return self._in_force.bits(page.surface, page.time, page.query)

    def match(self, page: PolicyPage, in_force: Bits) -> Bits:
        """Return the rules that act on each candidate, shape (width, candidates).

        Bit `b` is bit `b % 8`, from the least, of row `b // 8`.
        """
        found = None if self._products is None else self._products.bits(page.candidate_ids)
        for rows_of, tables in self._tables:
            rows = rows_of(page)
            if len(tables) == 1:
                bits = tables[0].bits(rows)
            else:  # a node may stand at any level
                levels = (table.bits(rows[:, level]) for level, table in enumerate(tables))
                bits = reduce(np.bitwise_or, levels)
            found = bits if found is None else found & bits
        if found is None:
            found = np.full((page.size, self.width), 0xFF, np.uint8)
        # rules are read one byte at a time, so a byte's bits of all candidates lie together
        acting: Bits = np.ascontiguousarray(found.T) & in_force[:, np.newaxis]
        return acting

    def _compile(
        self, kind: str, rules: Sequence[Matched], bits: Sequence[int], names: Names
    ) -> None:
        otherwise = np.zeros(self.width, np.uint8)  # rules that do not look at this kind
        by_name: dict[str, Bits] = defaultdict(lambda: np.zeros(self.width, np.uint8))
        where: dict[str, str] = {}
        for rule, bit in zip(rules, bits, strict=True):
            values = rule.selector.conditions().get(kind)
            if values is None:
                otherwise[bit // 8] |= 1 << bit % 8
                continue
            for name in values:
                by_name[name][bit // 8] |= 1 << bit % 8
                where.setdefault(name, f"rule {rule.name!r}")
        if kind == "products":
            self._products = _NameTable(by_name, otherwise)
            return
        columns: list[dict[str, int]] = []
        for name in by_name:
            for level, found in enumerate(names.rows(kind, frozenset([name]), where[name])):
                if level == len(columns):
                    columns.append({})
                columns[level] |= found
        tables = [_RowTable(rows, by_name, otherwise) for rows in columns]
        self._tables.append((_rows_of(kind, names), tables))


class _InForce:
    """The rules in force by surface, time and query, as bits."""

    def __init__(
        self, rules: Sequence[Matched], bits: Sequence[int], width: int, names: Names
    ) -> None:
        self._surfaces = np.zeros((len(names.surfaces), width), np.uint8)
        marks = {mark for rule in rules for mark in (rule.when.starts, rule.when.ends)}
        self._marks = sorted(mark for mark in marks if mark is not None)
        # row i: after the first i marks
        self._times = np.zeros((len(self._marks) + 1, width), np.uint8)
        self._any_query = np.zeros(width, np.uint8)
        queries: dict[str, Bits] = defaultdict(lambda: np.zeros(width, np.uint8))
        for rule, bit in zip(rules, bits, strict=True):
            byte, mask = bit // 8, np.uint8(1 << bit % 8)
            when = rule.when
            for index, name in enumerate(names.surfaces):
                if not when.surfaces or name in when.surfaces:
                    self._surfaces[index, byte] |= mask
            first = 0 if when.starts is None else bisect_right(self._marks, when.starts)
            last = len(self._times) if when.ends is None else bisect_right(self._marks, when.ends)
            self._times[first:last, byte] |= mask
            if not when.queries:
                self._any_query[byte] |= mask
            for query in when.queries:
                queries[query][byte] |= mask
        self._queries = {query: own | self._any_query for query, own in queries.items()}

    def bits(self, surface: int, time: int, query: str) -> Bits:
        """Return the rules in force, shape (width,)."""
        asked = self._any_query
        if self._queries:
            asked = self._queries.get(normal_query(query), asked)
        found: Bits = self._surfaces[surface] & self._times[bisect_right(self._marks, time)] & asked
        return found


class _NameTable:
    """Bits by product id; ids need not be in the product store."""

    def __init__(self, by_name: Mapping[str, Bits], otherwise: Bits) -> None:
        self._index = {name: row for row, name in enumerate(by_name, start=1)}
        self._bits = np.stack([otherwise, *(own | otherwise for own in by_name.values())])

    def bits(self, ids: Sequence[str]) -> Bits:
        """Return the bits of each id, shape (ids, width)."""
        rows = np.fromiter(map(self._index.get, ids, repeat(0)), np.intp, len(ids))
        return self._bits.take(rows, axis=0)


class _RowTable:
    """Bits by row of a column of the product table."""

    def __init__(
        self, rows: Mapping[str, int], by_name: Mapping[str, Bits], otherwise: Bits
    ) -> None:
        self._index = np.zeros(max(rows.values(), default=0) + 2, np.intp)
        own = [otherwise]
        for name, row in rows.items():
            self._index[row] = len(own)
            own.append(by_name[name] | otherwise)
        self._bits = np.stack(own)

    def bits(self, rows: Rows) -> Bits:
        """Return the bits of each row, shape (rows, width)."""
        # the last entry stands for every row that no rule names
        return self._bits.take(self._index.take(rows, mode="clip"), axis=0)


def known_index(name: str, known: tuple[str, ...], what: str) -> int:
    """Return the position of `name`, or raise with the nearest known name.

    Raises:
        PolicyError: When it is unknown.
    """
    if name not in known:
        raise PolicyError(
            f"{what}: got {name!r}, want one of {', '.join(known)}{nearest(name, known)}"
        )
    return known.index(name)


def column_of(name: str, names: Names, what: str) -> Callable[[PolicyPage], Rows]:
    """Return what reads the column of `category`, an attribute or a level; 0 is unknown.

    Raises:
        PolicyError: When the bundle has no such column.
    """
    if name == "category":
        return _categories
    if name in names.levels:
        level = names.levels.index(name)
        return lambda page: page.table.levels[page.rows, level]
    columns = ("category", *names.attributes, *names.levels)
    known_index(name, columns, what)
    column = names.attributes.index(name)
    return lambda page: page.table.attributes[page.rows, column]


def _rows_of(kind: str, names: Names) -> Callable[[PolicyPage], Rows]:
    if kind == "categories":
        return _categories
    if kind == "nodes":
        return lambda page: page.table.levels[page.rows]
    column = names.column(kind, "rule")
    return lambda page: page.table.attributes[page.rows, column]


def _categories(page: PolicyPage) -> Rows:
    return page.categories


def _rows(names: Sequence[str]) -> dict[str, int]:
    return {name: row for row, name in enumerate(names, start=1)}
