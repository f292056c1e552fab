"""Cleaning that is reported: rows in, rows out, and why the others went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import narwhals as nw

from trainer.logs.engine import LINE, POLARS, Engine, Lines, count_lines

Reason = tuple[str, nw.Expr]

_REASON_COLUMN = "cleaning_reason"


@dataclass(frozen=True, slots=True)
class TableCleaning:
    """What cleaning did to one table.

    Attributes:
        table: Name of the table.
        rows_in: Rows read.
        rows_out: Rows kept; `rows_in` minus the sum of `dropped`.
        dropped: Rows dropped by reason, in the order the reasons were tried. A row that has
            several reasons counts under the first.
    """

    table: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """What cleaning did to each table of a log."""

    tables: tuple[TableCleaning, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, tables by name."""
        return {
            table.table: {
                "rows_in": table.rows_in,
                "rows_out": table.rows_out,
                "dropped": dict(table.dropped),
            }
            for table in self.tables
        }

    def to_table(self) -> str:
        """Return the report as a table for a terminal, one line per count."""
        lines: list[tuple[str, str, str]] = []
        for table in self.tables:
            lines.append((table.table, "rows in", f"{table.rows_in:,}"))
            lines += [("", f"- {reason}", f"{rows:,}") for reason, rows in table.dropped.items()]
            lines.append(("", "rows out", f"{table.rows_out:,}"))
        widths = [max((len(line[i]) for line in lines), default=0) for i in range(3)]
        return "\n".join(
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in lines
        )


def report_from_json(value: Mapping[str, Any]) -> CleaningReport:
    """Read what `CleaningReport.to_json` gave."""
    return CleaningReport(
        tuple(
            TableCleaning(table, counts["rows_in"], counts["rows_out"], counts["dropped"])
            for table, counts in value.items()
        )
    )


def drop_rows(
    table: str, lines: Lines, reasons: Sequence[Reason], engine: Engine = POLARS
) -> tuple[Lines, TableCleaning]:
    """Drop the rows for which any reason holds and count each row under the first that does.

    Args:
        table: Name of the table, for the report.
        lines: The rows as read.
        reasons: Names with boolean expressions; null counts as false.
        engine: Where the lines are.

    Returns:
        The kept rows and the counts (reasons that hold for no row are left out).
    """
    marked = engine.keep(lines.with_columns(_first_reason(reasons).alias(_REASON_COLUMN)), table)
    counted = marked.group_by(_REASON_COLUMN).agg(nw.len().alias("rows"))
    counts = engine.collect_few(counted, table)
    by_reason = dict(zip(counts[_REASON_COLUMN].to_list(), counts["rows"].to_list(), strict=True))
    dropped = {
        name: int(by_reason[index])
        for index, (name, _) in enumerate(reasons)
        if by_reason.get(index)
    }
    kept = marked.filter(nw.col(_REASON_COLUMN) < 0).drop(_REASON_COLUMN)
    rows_out = int(by_reason.get(-1, 0))
    return kept, TableCleaning(table, rows_out + sum(dropped.values()), rows_out, dropped)


def drop_duplicates(
    lines: Lines, cleaning: TableCleaning, reason: str, engine: Engine = POLARS
) -> tuple[Lines, TableCleaning]:
    """Drop rows that equal an earlier one in every column, and add their number to the counts."""
    compared = [name for name in lines.collect_schema().names() if name != LINE]
    distinct = lines.unique(subset=compared, keep="first", order_by=[LINE])
    kept = engine.keep(distinct, cleaning.table)
    rows_out = count_lines(kept, cleaning.table, engine)
    dropped = dict(cleaning.dropped)
    if rows_out < cleaning.rows_out:
        dropped[reason] = cleaning.rows_out - rows_out
    return kept, TableCleaning(cleaning.table, cleaning.rows_in, rows_out, dropped)


def _first_reason(reasons: Sequence[Reason]) -> nw.Expr:
    """Return the index of the first reason that holds, -1 where none does."""
    expression = nw.lit(-1, dtype=nw.Int32())
    for index, (_, holds) in reversed(list(enumerate(reasons))):
        expression = nw.when(holds.fill_null(False)).then(nw.lit(index)).otherwise(expression)  # noqa: FBT003
    return expression.cast(nw.Int32())
